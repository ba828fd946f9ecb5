"""Sign-in in a browser on this machine, which brings the answer to a listener on loopback (RFC 8252)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from aiomsal._errors import SignInError

from ._callbacks import call
from ._pages import ABANDONED, SIGNED_IN, failed
from ._reception import Reception, listen, port_of
from ._system_browser import open_browser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal._asked import SignInFlow, SignInRequest
    from aiomsal._client import Acquired

    from . import SignInSteps
    from ._reception import Answer


class Browser:
    """Sign-in in the browser of the person who runs this program.

    It opens the sign-in page, and listens on 127.0.0.1 until the browser brings the answer there. The application needs
    the redirect URI `http://localhost` (platform "Mobile and desktop applications"), which stands for any port.

    Args:
        port: to listen on; 0 takes any that is free.
        open: is given the URL, in place of this machine's browser; plain or async. Returning False says that there is
            no browser. An async one is cancelled when the sign-in is over.
        on_url: is given the URL if no browser could be opened, to show it to the person; plain or async. Whichever
            browser they use must reach this machine's loopback, by a forwarded port for example.
        timeout: seconds for the person to sign in.

    Plain functions are called on the event loop: they must not block. The URL is the person's to see and nobody else's.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        open: Callable[[str], Awaitable[object] | object] | None = None,  # noqa: A002 -- `webbrowser.open` fits
        on_url: Callable[[str], Awaitable[object] | object] | None = None,
        timeout: float = 300.0,
    ) -> None:
        for name, function in (("open", open), ("on_url", on_url)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is a function that takes a URL, not {type(function).__name__}")
        self._port = _checked_port(port)
        self._open = open_browser if open is None else open
        self._on_url = on_url
        self._timeout = _checked_timeout(timeout)

    def __repr__(self) -> str:
        return f"Browser(port={self._port})"

    async def sign_in(self, steps: SignInSteps, asked: SignInRequest, /) -> Acquired:
        """See `SignIn`. It waits on the event loop: no thread is held while the person thinks.

        The browser shows how it went before this returns. The port is free when it has ended.
        """
        outcome: Acquired | Exception | None = None
        with listen(self._port) as listener:
            flow = await steps.start_authorization(asked, f"http://localhost:{port_of(listener)}")
            with Reception(listener, flow.state) as reception:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(reception.serve)
                    tasks.start_soon(self._send, flow, reception)
                    try:
                        outcome = await _redeemed(steps, flow, await self._answer(reception))
                    except Exception as error:  # noqa: BLE001 -- raised below: the task group would wrap it
                        outcome = error
                    tasks.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome  # or its traceback would hold itself
        assert outcome is not None, "the task group raises if its body does not end"
        return outcome

    async def _answer(self, reception: Reception) -> Answer:
        answer = await reception.answer(self._timeout)
        if answer is None:
            raise SignInError(f"nobody signed in within {self._timeout:g} seconds: ask again", code="timeout")
        return answer

    async def _send(self, flow: SignInFlow, reception: Reception) -> None:
        """Send the person's browser on its way."""
        try:
            await self._show(flow.auth_uri, (flow.auth_uri, flow.state))
        except SignInError as error:
            reception.give_up(error)

    async def _show(self, url: str, secrets: tuple[str, ...]) -> None:
        if not url.startswith(("https://", "http://")):  # it comes from the authority, and systems "open" programs too
            raise SignInError("the authority's sign-in page is no web page: it is not opened", code="not_opened")
        opened = await call(self._open, url, name="open", code="not_opened", secrets=secrets)
        if opened is not False:
            return
        if self._on_url is None:
            raise SignInError(
                "this machine has no browser to open: pass Browser(on_url=...) to show the person where to go, "
                "or sign_in=DeviceCode(...) for another device's browser",
                code="no_browser",
            )
        await call(self._on_url, url, name="on_url", code="not_opened", secrets=secrets)


async def _redeemed(steps: SignInSteps, flow: SignInFlow, answer: Answer) -> Acquired:
    """What the answer is good for; whoever brought it is told the truth, whatever that is."""
    page = ABANDONED
    try:
        acquired = await steps.redeem_authorization(flow, answer.params)
        page = SIGNED_IN
    except Exception as error:
        page = failed(error)
        raise
    finally:
        answer.reply(page)
    return acquired


def _checked_port(port: object) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ValueError(f"port is a number up to 65535, or 0 for any port that is free, not {port!r}")
    return port


def _checked_timeout(timeout: object) -> float:
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
        raise ValueError(f"timeout is how many seconds a person has to sign in, more than 0, not {timeout!r}")
    return timeout
