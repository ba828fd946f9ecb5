"""Sign-in on another device: a code to enter on a page there (RFC 8628)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from aiomsal._errors import AuthorityUnavailable, SignInError, Throttled

from . import Pending
from ._callbacks import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal._asked import SignInRequest
    from aiomsal._client import Acquired

    from . import DeviceAuthorization, SignInSteps

SLOW_DOWN: Final = 5.0
"""Seconds more between polls after each `slow_down` (RFC 8628 section 3.5)."""
SHORTEST_INTERVAL: Final = 0.1
"""Seconds between polls where the authority asks for none."""
LONGEST_PAUSE: Final = 30.0
"""Seconds between polls while the authority is not to be reached: the person may be done when it is."""


@dataclass(frozen=True, slots=True)
class DevicePrompt:
    """What the person has to be told."""

    user_code: str = field(repr=False)
    """What to enter."""
    verification_uri: str
    """Where to enter it, on any device."""
    message: str = field(repr=False)
    """Both in a sentence, in the authority's words: to be shown as it is."""
    expires_at: float
    """When the code ends, in epoch seconds."""

    def __str__(self) -> str:
        """The message, so that `DeviceCode(print)` is enough."""
        return self.message


class DeviceCode:
    """Sign-in by device code: for programs without a browser.

    One code is shown however many callers wait, and asked for anew when it has expired and somebody calls again.

    Args:
        on_code: is given the `DevicePrompt` to show; plain or async. A plain one is called on the event loop: it must
            not block.
    """

    def __init__(
        self,
        on_code: Callable[[DevicePrompt], Awaitable[object] | object],
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not callable(on_code):
            raise TypeError(f"on_code is a function that shows a DevicePrompt, not {type(on_code).__name__}")
        self._on_code = on_code
        self._sleep = sleep
        self._clock = clock

    def __repr__(self) -> str:
        return f"DeviceCode({self._on_code!r})"

    async def sign_in(self, steps: SignInSteps, asked: SignInRequest, /) -> Acquired:
        """See `SignIn`. It waits on the event loop: no thread is held while the person thinks."""
        _refuse_what_no_code_carries(asked)
        authorization = await steps.start_device_code(asked)
        expires = anyio.current_time() + authorization.expires_in
        with anyio.CancelScope(deadline=expires):
            await self._show(authorization)
            return await self._poll(steps, asked, authorization, expires)
        raise SignInError("the code expired before the sign-in was completed: ask for another", code="expired_token")

    async def _show(self, authorization: DeviceAuthorization) -> None:
        where, code = authorization.verification_uri, authorization.user_code
        prompt = DevicePrompt(
            code,
            where,
            authorization.message or f"To sign in, open {where} in a browser and enter the code {code}.",
            self._clock() + authorization.expires_in,
        )
        await call(self._on_code, prompt, name="on_code", code="not_shown", secrets=(code,))

    async def _poll(
        self, steps: SignInSteps, asked: SignInRequest, authorization: DeviceAuthorization, expires: float
    ) -> Acquired:
        interval = pause = max(authorization.interval, SHORTEST_INTERVAL)
        while True:
            await self._sleep(pause)
            try:
                answer = await steps.poll_device_code(asked, authorization)
            except Throttled as error:
                if anyio.current_time() + error.retry_after >= expires:
                    raise  # the person need not wait for a code that nobody is going to ask for
                pause = max(interval, error.retry_after)
            except AuthorityUnavailable:  # a person is at it: the network may come back before the code expires
                pause = min(pause * 2, max(interval, LONGEST_PAUSE))
            else:
                if not isinstance(answer, Pending):
                    return answer
                if answer.slow_down:
                    interval += SLOW_DOWN
                pause = interval


def _refuse_what_no_code_carries(asked: SignInRequest) -> None:
    """Raise ValueError rather than leave out what somebody relies on; a login_hint is no more than a hint."""
    given = {
        "prompt": asked.prompt,
        "max_age": asked.max_age is not None,
        "domain_hint": asked.domain_hint,
        "extra_scopes_to_consent": asked.extra_scopes_to_consent,
    }
    if names := [f"{name}=" for name, value in given.items() if value]:
        raise ValueError(f"a device code cannot carry {', '.join(names)}: leave that out, or sign in with Browser()")
