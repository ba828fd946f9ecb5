"""The loopback listener: hears whoever connects, until the browser has brought the answer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketListener

from aiomsal._errors import SignInError

from ._conversation import MOST_BYTES, Conversation, Expected
from ._pages import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import SocketStream

    from ._pages import Page

MOST_CONNECTIONS: Final = 32
CONNECTION_TAKES: Final = 30.0
"""Seconds for a request from connecting on. It is long because browsers connect before they have something to send."""
REPLY_TAKES: Final = 0.02
"""Seconds that a browser may hold up the token by not reading its page. (The system takes a small page at once.)"""
_PAUSE: Final = 0.02
"""Seconds to wait when a connection cannot be accepted, mostly because this process has too many files open."""
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError, RuntimeError)
"""What a connection raises that the other side has ended or reset; RuntimeError is uvloop's."""


async def listen(port: int) -> SocketListener:
    """Listen on 127.0.0.1, on whichever port is free for port 0.

    Raises:
        SignInError: that cannot be.
    """
    try:
        listeners = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    except OSError as error:
        why = error.strerror or type(error).__name__
        if not port:
            raise SignInError(f"no port of 127.0.0.1 can be listened on: {why}", code="no_port") from error
        raise SignInError(
            f"port {port} of 127.0.0.1 cannot be listened on: {why}; end the program that has it, or leave out port= "
            "to take any that is free",
            code="no_port",
        ) from error
    (listener,) = listeners.listeners
    assert isinstance(listener, SocketListener)
    return listener


def port_of(listener: SocketListener) -> int:
    """The port it listens on."""
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's
    return port


class Answer:
    """What the browser brought; it waits for its page. On the event loop that it was received on."""

    def __init__(self, params: Mapping[str, str], conversation: Conversation, stream: SocketStream) -> None:
        self.params = params
        self._conversation = conversation
        self.stream = stream

    def __repr__(self) -> str:
        return "<Answer>"  # it holds the code

    async def reply(self, page: Page) -> None:
        """Send the browser its page, within `REPLY_TAKES` and also if this task is being cancelled."""
        with anyio.move_on_after(REPLY_TAKES, shield=True), suppress(*_GONE):
            await self.stream.send(self._conversation.reply(page))
            await anyio.lowlevel.checkpoint()  # uvloop writes in its next turn, and closing would be faster


class Reception:
    """Who has come, and the one answer. On one event loop; leaving it ends the connection that brought the answer.

    Invariant: there is one answer at most, and while there is none, whoever has just come is heard: the connection
    that has been silent for longest makes room. The mutable state is the connections that may have to, the answer, and
    the reason why none will come.
    """

    def __init__(self, port: int, state: str) -> None:
        self._expected = Expected(port, state)
        self._connections: dict[anyio.CancelScope, None] = {}  # the one that has been silent for longest is first
        self._answer: Answer | None = None
        self._failure: Exception | None = None
        self._decided = anyio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            await anyio.aclose_forcefully(self._answer.stream)

    async def answer(self, timeout: float) -> Answer | None:
        """The answer, when it is there; None when there is none after so many seconds.

        Raises:
            Exception: what `give_up` was told.
        """
        with anyio.move_on_after(timeout):
            await self._decided.wait()
        if self._answer is None and self._failure is not None:
            raise self._failure
        return self._answer

    def give_up(self, failure: Exception) -> None:
        """Nobody is going to come."""
        self._failure = failure
        self._decided.set()

    async def serve(self, listener: SocketListener) -> None:
        """Hear all who connect, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    stream = await listener.accept()
                except (OSError, anyio.BrokenResourceError):
                    await anyio.sleep(_PAUSE)
                    continue
                tasks.start_soon(self._attend, stream)

    async def _attend(self, stream: SocketStream) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            longest_silent = next(iter(self._connections))
            del self._connections[longest_silent]
            longest_silent.cancel()
        with anyio.CancelScope(deadline=anyio.current_time() + CONNECTION_TAKES) as scope:
            self._heard(scope)
            try:
                with suppress(*_GONE):
                    await self._hear(stream, scope)
            finally:
                self._connections.pop(scope, None)
                if self._answer is None or self._answer.stream is not stream:
                    await anyio.aclose_forcefully(stream)

    def _heard(self, scope: anyio.CancelScope) -> None:
        self._connections.pop(scope, None)
        self._connections[scope] = None

    async def _hear(self, stream: SocketStream, scope: anyio.CancelScope) -> None:
        conversation = Conversation(self._expected)
        response = None
        while response is None:
            response = conversation.receive(await _received(stream))
            self._heard(scope)
        if isinstance(response, bytes):
            await _part(stream, response)
        elif self._answer is not None:
            await _part(stream, conversation.reply(refused(409, "This sign-in has been answered already.")))
        else:
            self._answer = Answer(response, conversation, stream)
            self._decided.set()


async def _received(stream: SocketStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""


async def _part(stream: SocketStream, response: bytes) -> None:
    """Say the last word, then listen until the client has ended too.

    Closed with something unread, a connection is reset, which may take what we said from the client.
    """
    if response:
        await stream.send(response)
        await stream.send_eof()
        unread = 0
        while unread < MOST_BYTES:
            unread += len(await stream.receive())
