"""Sign-in on another device: a code to enter on a page there (RFC 8628)."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from aiomsal._errors import AuthorityUnavailable, SignInError, Throttled

from . import Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal._client import Acquired
    from aiomsal._token import TokenRequest

    from . import DeviceAuthorization, SignInSteps

SLOW_DOWN: Final = 5.0
"""Seconds more between polls after each `slow_down` (RFC 8628 section 3.5)."""
SHORTEST_INTERVAL: Final = 0.1
"""Seconds between polls where the authority asks for none."""


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

    async def sign_in(self, steps: SignInSteps, request: TokenRequest, /) -> Acquired:
        """See `SignIn`. It waits on the event loop: no thread is held while the person thinks."""
        authorization = await steps.start_device_code(request)
        with anyio.move_on_after(authorization.expires_in):
            await self._show(authorization)
            return await self._poll(steps, request, authorization)
        raise SignInError("the code expired before anybody entered it: ask again for a new one", code="expired_token")

    async def _show(self, authorization: DeviceAuthorization) -> None:
        where, code = authorization.verification_uri, authorization.user_code
        prompt = DevicePrompt(
            code,
            where,
            authorization.message or f"To sign in, open {where} in a browser and enter the code {code}.",
            self._clock() + authorization.expires_in,
        )
        try:
            shown = self._on_code(prompt)
            if inspect.isawaitable(shown):
                await shown
        except Exception as error:
            raise SignInError(f"on_code could not show the code: {type(error).__name__}", code="not_shown") from error

    async def _poll(self, steps: SignInSteps, request: TokenRequest, authorization: DeviceAuthorization) -> Acquired:
        interval = max(authorization.interval, SHORTEST_INTERVAL)
        while True:
            await self._sleep(interval)
            try:
                answer = await steps.poll_device_code(request, authorization)
            except Throttled as error:
                await self._sleep(error.retry_after)
                continue
            except AuthorityUnavailable:  # a person is at it: the network may come back before the code expires
                interval *= 2
                continue
            if not isinstance(answer, Pending):
                return answer
            if answer.slow_down:
                interval += SLOW_DOWN
