"""The loopback listener: hears whoever connects, until the browser has brought the answer.

On plain sockets that never block, and of anyio only the wait for something to read: whatever is closed is closed at
once, cancelled or not, and asyncio, uvloop and trio do the same. All that is sent fits in the system's buffer.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import anyio

from aiomsal._errors import SignInError

from ._conversation import MOST_BYTES, Conversation, Expected
from ._pages import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._pages import Shown

LOOPBACK: Final = "127.0.0.1"
MOST_CONNECTIONS: Final = 32
CONNECTION_TAKES: Final = 30.0
"""Seconds for a request from connecting on. It is long because browsers connect before they have something to send."""
_READ_SIZE: Final = 16 * 1024
_PAUSE: Final = 0.02
"""Seconds to wait when a connection cannot be accepted: this process has too many files open, or the system has."""


def listen(port: int) -> socket.socket:
    """Listen on 127.0.0.1, on whichever port is free for port 0.

    Raises:
        SignInError: that cannot be.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # where others could have the port too otherwise, and a part of its connections
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # where the last sign-in's connections would keep it for a minute otherwise
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
        listener.settimeout(0)
    except OSError as error:
        listener.close()
        if not port:
            raise SignInError(f"{LOOPBACK} has no port to listen on: {error.strerror}", code="no_port") from error
        raise SignInError(
            f"port {port} of {LOOPBACK} cannot be listened on: {error.strerror}; end the program that has it, or leave "
            "out port= to take any that is free",
            code="no_port",
        ) from error
    return listener


def port_of(listener: socket.socket) -> int:
    """The port it listens on."""
    port: int = listener.getsockname()[1]
    return port


class Answer:
    """What the browser brought; it waits for its page."""

    def __init__(self, params: Mapping[str, str], conversation: Conversation, connection: socket.socket) -> None:
        self.params = params
        self._conversation = conversation
        self.connection = connection

    def __repr__(self) -> str:
        return "<Answer>"  # it holds the code

    def reply(self, page: Shown) -> None:
        """Send the browser its page, if it is still there."""
        _say(self.connection, self._conversation.reply(page))


class Reception:
    """Who has come, and the one answer. On one event loop; leaving it ends the connection that brought the answer.

    Invariant: there is one answer at most, and while there is none, whoever has just come is heard: the connection
    that has been silent for longest makes room. The mutable state is the connections that may have to, the answer, and
    the reason why none will come.
    """

    def __init__(self, listener: socket.socket, state: str) -> None:
        self._listener = listener
        self._expected = Expected(port_of(listener), state)
        self._connections: dict[anyio.CancelScope, None] = {}  # the one that has been silent for longest is first
        self._answer: Answer | None = None
        self._failure: Exception | None = None
        self._decided = anyio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer.connection.close()

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

    async def serve(self) -> None:
        """Hear all who connect, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(self._listener)
                try:
                    connection, _ = self._listener.accept()
                except (BlockingIOError, ConnectionAbortedError):  # whoever it was has left again
                    continue
                except OSError:
                    await anyio.sleep(_PAUSE)
                    continue
                tasks.start_soon(self._attend, connection)

    async def _attend(self, connection: socket.socket) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            longest_silent = next(iter(self._connections))
            del self._connections[longest_silent]
            longest_silent.cancel()
        with anyio.CancelScope(deadline=anyio.current_time() + CONNECTION_TAKES) as scope:
            self._heard(scope)
            try:
                with suppress(OSError):  # a reset, mostly
                    connection.settimeout(0)
                    await self._hear(connection, scope)
            finally:
                self._connections.pop(scope, None)
                if self._answer is None or self._answer.connection is not connection:
                    connection.close()

    def _heard(self, scope: anyio.CancelScope) -> None:
        self._connections.pop(scope, None)
        self._connections[scope] = None

    async def _hear(self, connection: socket.socket, scope: anyio.CancelScope) -> None:
        conversation = Conversation(self._expected)
        outcome = None
        while outcome is None:
            outcome = conversation.receive(await _received(connection))
            self._heard(scope)
        if isinstance(outcome, bytes):
            await _part(connection, outcome)
        elif self._answer is not None:
            await _part(connection, conversation.reply(refused(409, "This sign-in has been answered already.")))
        else:
            self._answer = Answer(outcome, conversation, connection)
            self._decided.set()


async def _received(connection: socket.socket) -> bytes:
    """What has come; nothing at the end."""
    while True:
        await anyio.wait_readable(connection)
        with suppress(BlockingIOError):
            return connection.recv(_READ_SIZE)


def _say(connection: socket.socket, response: bytes) -> None:
    """Have the system send it. It fits in its buffer, else the other side does not read, and gets nothing."""
    with suppress(OSError):
        connection.send(response)


async def _part(connection: socket.socket, response: bytes) -> None:
    """Say the last word, then listen until the client has ended too.

    Closed with something unread, a connection is reset, which may take what we said from the client.
    """
    _say(connection, response)
    connection.shutdown(socket.SHUT_WR)
    unread = 0
    while unread < MOST_BYTES and (data := await _received(connection)):
        unread += len(data)
