"""MSAL's interactive sign-in, with our listener in place of its own: MSAL says what to ask and what came of it.

MSAL runs in a worker thread. Where its own listener would wait for the browser, it hands over to the event loop; so the
sign-in can be cancelled, and ends the moment the answer is there.
"""

from __future__ import annotations

import html
import inspect
import logging
import math
from concurrent.futures import Future
from contextvars import copy_context
from string import Template
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import anyio

from aiomsal._errors import SignInError
from aiomsal._spawn import abandonable, here
from aiomsal.sign_in._pages import ABANDONED, HEADERS, SIGNED_IN, Page, failed
from aiomsal.sign_in._reception import Reception, listen, port_of
from aiomsal.sign_in._system_browser import open_browser

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from aiomsal._spawn import Home
    from aiomsal.sign_in._reception import Answer

    from ._desk import Process

    Result = dict[str, Any]

logger = logging.getLogger("aiomsal")

LOOK_ABROAD: Final = 1.0
"""Seconds after which the worker thread looks whether the event loop that it waits for still runs."""


async def interact(process: Process, port: int | None, question: Callable[[Any, int, Receiver], Result]) -> Result:
    """Have MSAL ask a person, and conduct the browser's part here.

    Args:
        process: whose application is asked.
        port: to listen on; None or 0 is whichever is free.
        question: asks the application, whose redirect URI has that port, and whose `auth_code_receiver` that is.
    """
    with _listening(port or 0) as listener:
        receiver = Receiver(here())
        future = process.sign_in_threads.submit(
            copy_context().run, question, process.application, port_of(listener), receiver
        )
        future.add_done_callback(lambda _: receiver.wake())
        try:
            await receiver.asked_for()
            if receiver.asked is None:  # refused before anything was shown, or done by a broker
                return await abandonable(future)
            return await _received(process, listener, receiver, receiver.asked, future)
        finally:
            future.cancel()
            receiver.answered.cancel()  # whoever waits in the thread: nobody comes any more


class Asked(NamedTuple):
    """What MSAL asks of whoever receives the authorization response."""

    auth_uri: str
    state: str
    timeout: float
    success_template: str | None
    error_template: str | None
    auth_uri_callback: Callable[[str], object] | None
    browser_name: str | None

    def __repr__(self) -> str:
        return "Asked()"  # the URL is the person's to see


class Receiver:
    """MSAL's `auth_code_receiver`: called in a worker thread, it waits for what happens on the event loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._waiter = home.waiter()
        self.asked: Asked | None = None
        self.answered: Future[dict[str, str] | None] = Future()

    def get_auth_response(
        self,
        *,
        auth_uri: str,
        state: str,
        timeout: float | None = None,
        success_template: str | None = None,
        error_template: str | None = None,
        auth_uri_callback: Callable[[str], object] | None = None,
        browser_name: str | None = None,
        **_ignored: object,
    ) -> dict[str, str] | None:
        """What the browser brought; None if nobody came in time. In MSAL's worker thread."""
        if "response_mode=" not in auth_uri:  # an older MSAL; our listener takes a POST only
            auth_uri = f"{auth_uri}&response_mode=form_post"
        seconds = timeout or math.inf
        self.asked = Asked(auth_uri, state, seconds, success_template, error_template, auth_uri_callback, browser_name)
        self.wake()
        while True:
            try:
                return self.answered.result(LOOK_ABROAD)
            except TimeoutError:
                if not self._home.alive():  # killed without a word: or this thread would outlive the program
                    raise

    def wake(self) -> None:
        """Something has happened. From any thread."""
        self._home.call_soon(self._waiter.wake)

    async def asked_for(self) -> None:
        """When MSAL has asked, or has ended without."""
        await self._waiter.wait()


def _listening(port: int) -> socket:
    if type(port) is not int or not 0 <= port < 65_536:  # ValueError, as MSAL
        raise ValueError(f"a port is a number below 65536, not {port!r}")
    try:
        return listen(port)
    except SignInError as error:
        cause = error.__cause__
        if isinstance(cause, PermissionError):
            raise ValueError(f"Can't listen on port {port}. You may try port 0.") from cause  # MSAL's words
        raise cause or error from None


async def _received(
    process: Process, listener: socket, receiver: Receiver, asked: Asked, future: Future[Result]
) -> Result:
    """What MSAL makes of the browser's answer; the person is told the truth, whatever that is."""
    outcome: Result | Exception | None = None
    with Reception(listener, asked.state) as reception:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reception.serve)
            tasks.start_soon(_show, process, asked, reception)
            try:
                answer = await reception.answer(asked.timeout)
                receiver.answered.set_result(None if answer is None else dict(answer.params))
                outcome = await _redeemed(asked, answer, future)
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


async def _redeemed(asked: Asked, answer: Answer | None, future: Future[Result]) -> Result:
    if answer is None:
        return await abandonable(future)  # MSAL raises BrowserInteractionTimeoutError
    page: Page | _Templated = ABANDONED
    try:
        result = await abandonable(future)
        page = _page(asked, result)
    except Exception as error:
        page = failed(error)
        raise
    finally:
        answer.reply(page)
    return result


async def _show(process: Process, asked: Asked, reception: Reception) -> None:
    """Send the person's browser on its way, or have the caller do it."""
    try:
        if not asked.auth_uri.startswith(("https://", "http://")):  # systems "open" programs too
            raise ValueError("the authority's authorization_endpoint is no web page: it is not opened")
        if await open_browser(asked.auth_uri, asked.browser_name):
            return
        if asked.auth_uri_callback is None:
            logger.warning("no browser could be opened: pass auth_uri_callback= to show the person where to sign in")
            return
        callback = asked.auth_uri_callback
        shown = await process.hop(lambda _: callback(asked.auth_uri))  # as MSAL does: it may block
        if inspect.isawaitable(shown):
            await shown
    except Exception as error:  # noqa: BLE001 -- it is the callback's, and for the caller
        reception.give_up(error)


class _Templated(NamedTuple):
    """A page of the caller's own."""

    status: int
    text: str
    is_html: bool

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Without our policy, by which their styles would not be loaded."""
        kind = "text/html" if self.is_html else "text/plain"
        kept = [each for each in HEADERS if each[0] not in ("Content-Type", "Content-Security-Policy")]
        return (("Content-Type", f"{kind}; charset=utf-8"), *kept)

    def html(self) -> bytes:
        return self.text.encode("utf-8", "replace")


def _page(asked: Asked, result: Result) -> Page | _Templated:
    """What the person sees: told by how it ended, and not, as MSAL does, by what the browser brought."""
    error = result.get("error")
    template = asked.error_template if error else asked.success_template
    if template is None:
        if not error:
            return SIGNED_IN
        return Page(400, "The sign-in did not succeed", (str(result.get("error_description") or error),))
    is_html = template.lstrip().startswith("<")
    told = {name: str(result.get(name, "")) for name in ("error", "error_description", "error_uri")}
    if is_html:
        told = {name: html.escape(value) for name, value in told.items()}
    return _Templated(200, Template(template).safe_substitute(cast("dict[str, object]", told)), is_html)
