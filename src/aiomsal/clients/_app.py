"""The one place where a client leaves the event loop: its worker threads, and MSAL's applications in them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import anyio

from aiomsal._client import Acquired, Attempt
from aiomsal._errors import AuthorityUnavailable, Throttled, TokenError
from aiomsal._flight import Flights
from aiomsal._spawn import abandonable, here, unhurried

from ._exchange import Exchange, current
from ._gate import Gate
from ._redact import in_words
from ._results import failure_of
from ._session_cache import session_cache_class, shared_cache
from ._transport import Transport, TransportFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._msal import Application, Settings
    from ._session_cache import SessionCache
    from .credentials import Credential

T = TypeVar("T")

SIGN_IN_THREADS: Final = 16
"""Threads for sign-ins: each occupies one for the time of an HTTP request, never while a person thinks."""
OPENING_TAKES: Final = 60.0
"""Seconds for building an application where no deadline is known."""

_awaited: ContextVar[tuple[object, str] | None] = ContextVar("aiomsal_awaited", default=None)
"""The assertion that `prepare` awaited for the `ask` that follows it in the same task, and at which desk."""


class Desk:
    """Where one client asks its authority: gate, threads and MSAL's applications. Any thread and any event loop.

    Nothing is made before it is needed. The mutable state of this object is one `_Process`, which a forked child
    makes anew: it inherits neither threads nor locks, nor connections that its parent goes on using.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        credential: Credential | None = None,
        gate: Callable[[str], Gate] = Gate,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._credential = credential
        self._gate = gate
        self._processes: dict[int, _Process] = {}

    @property
    def gate(self) -> Gate:
        """The gate to the authority's host, of this process."""
        return self._here().gate

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()

    async def prepare(self, authority: str, attempt: Attempt) -> None:
        """Wait for all that a question to this authority must wait for: see `TokenClient.prepare`.

        MSAL's application is there when it returns. The first who come share its building, whose attempts keep the
        first one's deadline. An assertion that is awaited is awaited here.

        Raises:
            TokenError: not now; or the authority's metadata could not be had, of which nothing is remembered.
        """
        process = self._here()
        await process.gate.admit(attempt)
        await self._open(process, authority, attempt.deadline)
        if self._credential is not None:
            assertion = await self._credential.awaited()
            _awaited.set(None if assertion is None else (self, assertion))

    async def ask(self, authority: str, question: Callable[[Application, Exchange], T]) -> T:
        """Have a worker thread ask MSAL. Cancelled after it has begun, it ends all the same, and returns the answer.

        Raises:
            TokenError: whatever went wrong, in our words.
        """
        process, question = self._here(), await self._proven(question)
        return await self._asked(process, process.threads, authority, question, unhurried)

    async def ask_by_refresh_token(
        self, authority: str, question: Callable[[Application, Exchange], Acquired], refresh_token: str
    ) -> Acquired:
        """The same by a refresh token. If this loop ends before the answer is here, `left_behind` has it."""
        process, question = self._here(), await self._proven(question)
        name = _name(refresh_token)
        return await self._asked(process, process.threads, authority, question, partial(process.heard, name))

    async def left_behind(self, refresh_token: str) -> Acquired | None:
        """What came, or is to come, of a refresh token that was sent from a loop that has ended or stands still.

        Nobody may be there to save it, and the refresh token may have been used up: whoever has the lock now goes on
        from its successor. None where none was sent, or nothing came. It stays here until `taken_over`: whoever fails
        to go on from it leaves it to the next.
        """
        name, sent = _name(refresh_token), self._here().sent
        future = sent.get(name)
        if future is None:
            return None
        waiter = here().waiter()
        future.add_done_callback(lambda _: waiter.home.call_soon(waiter.wake))
        await waiter.wait()
        if future.cancelled():
            sent.pop(name, None)
            return None
        return future.result()

    def taken_over(self, refresh_tokens: list[str]) -> None:
        """What was left behind of these is in a session that came after."""
        for refresh_token in refresh_tokens:
            self._here().sent.pop(_name(refresh_token), None)

    async def ask_for_sign_in(self, authority: str, question: Callable[[Application, Exchange], T]) -> T:
        """The same in the threads for sign-ins; cancelled, it leaves at once, and the answer falls to the ground."""
        process, question = self._here(), await self._proven(question)
        return await self._asked(process, process.sign_in_threads, authority, question, abandonable)

    async def work_out(self, authority: str, task: Callable[[Application], T]) -> T:
        """Have MSAL do what needs no request, once the authority's metadata is here; cancelled, it leaves at once."""
        process = self._here()
        if authority not in process.counters:
            await process.gate.admit(Attempt(0, None, anyio.current_time() + OPENING_TAKES))
        threads = process.sign_in_threads
        return await self._asked(process, threads, authority, lambda application, _: task(application), abandonable)

    async def _proven(self, question: Callable[[Application, Exchange], T]) -> Callable[[Application, Exchange], T]:
        """The question, asked with proof of who we are."""
        credential, client_id = self._credential, self._settings.client_id
        if credential is None:
            return question
        prepared = _awaited.get()
        _awaited.set(None)
        if prepared is not None and prepared[0] is self:
            awaited: str | None = prepared[1]
        else:
            awaited = await credential.awaited()  # asked without `prepare`, or in another task

        def proven(application: Application, exchange: Exchange) -> T:
            exchange.assertion = credential.assertion(client_id, application.authority, awaited)
            return question(application, exchange)

        return proven

    async def _asked(
        self,
        process: _Process,
        threads: ThreadPoolExecutor,
        authority: str,
        question: Callable[[Application, Exchange], T],
        wait: Callable[[Future[T]], Awaitable[T]],
    ) -> T:
        counter = await self._open(process, authority, anyio.current_time() + OPENING_TAKES)

        def work() -> T:
            exchange = Exchange(counter.new_cache(), self._clock())
            return _held(process.gate, exchange, lambda: question(counter.application, exchange))

        return await _clean(wait, threads.submit(copy_context().run, work))

    async def _open(self, process: _Process, authority: str, deadline: float) -> _Counter:
        counter = process.counters.get(authority)
        if counter is not None:
            return counter
        return await process.building.join(
            authority,
            lambda: self._build(process, authority, deadline),
            look=lambda: process.counters.get(authority),
        )

    async def _build(self, process: _Process, authority: str, deadline: float) -> _Counter:
        def work() -> _Counter:
            new_cache = session_cache_class()
            exchange = Exchange(new_cache(), self._clock())
            return _held(process.gate, exchange, lambda: build(new_cache))

        def build(new_cache: Callable[[], SessionCache]) -> _Counter:
            transport, credential = process.transport(self._settings), self._for_msal()
            application = self._settings.build(authority, transport, shared_cache(), credential)
            return process.counters.setdefault(authority, _Counter(application, new_cache))

        failure: TokenError | None = None
        number = 0
        while True:
            if failure is not None:  # for the first attempt the caller has been admitted
                await process.gate.admit(Attempt(number, failure, deadline))
            try:
                return await _clean(abandonable, process.threads.submit(copy_context().run, work))
            except (AuthorityUnavailable, Throttled) as error:  # whether to try again is the gate's to say
                failure, number = error, number + 1

    def _for_msal(self) -> object:
        return None if self._credential is None else self._credential.for_msal(lambda: current.get().assertion)

    def _here(self) -> _Process:
        """What this process has made. Many threads may come first at once: all get the same."""
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            process = self._processes.setdefault(pid, _Process(self._settings, self._gate))
            for other in list(self._processes):
                if other != pid:  # inherited
                    self._processes.pop(other, None)
        return process


def _pass_on(kept: Future[Acquired], future: Future[Acquired]) -> None:
    if future.cancelled() or future.exception() is not None:
        kept.cancel()
    else:
        kept.set_result(future.result())


def _name(refresh_token: str) -> bytes:
    import hashlib

    return hashlib.sha256(refresh_token.encode()).digest()


class _Counter(NamedTuple):
    """One of MSAL's applications, and what makes the token cache for a call to it."""

    application: Application
    new_cache: Callable[[], SessionCache]


class _Process:
    """What one process has made for a client. The mutable state: the applications by authority, and the transport."""

    def __init__(self, settings: Settings, gate: Callable[[str], Gate]) -> None:
        self.gate = gate(settings.authority.host)
        # One client asks one host, so these threads are that host's alone: one that hangs keeps nobody else's.
        self.threads = ThreadPoolExecutor(settings.threads, "aiomsal")
        self.sign_in_threads = ThreadPoolExecutor(SIGN_IN_THREADS, "aiomsal-sign-in")
        self.building = Flights[_Counter]()
        self.counters: dict[str, _Counter] = {}
        self.sent: dict[bytes, Future[Acquired]] = {}  # by refresh token: what nobody has heard yet
        self._lock = threading.Lock()
        self._transport: Transport | None = None

    async def heard(self, name: bytes, future: Future[Acquired]) -> Acquired:
        """The answer, noted as unheard until it is here."""
        kept = self.sent[name] = Future[Acquired]()  # not the thread's own: that would keep the task and its loop
        future.add_done_callback(partial(_pass_on, kept))
        try:
            return await unhurried(future)
        except GeneratorExit:  # this loop has gone before
            name = b""
            raise
        finally:
            if self.sent.get(name) is kept:
                del self.sent[name]

    def transport(self, settings: Settings) -> Transport:
        """The one transport, made by the first worker thread that needs it."""
        with self._lock:  # held while requests is imported: only worker threads come here
            if self._transport is None:
                self._transport = Transport(settings.transport, connections=settings.threads + SIGN_IN_THREADS)
            return self._transport


def _held(gate: Gate, exchange: Exchange, conversation: Callable[[], T]) -> T:
    """Hold a conversation with the authority, in its worker thread; tell the gate, and put errors in our words."""
    current.set(exchange)  # in a context of this call's own
    failure: TokenError
    try:
        return conversation()
    except TokenError as error:
        failure = error
    except Exception as error:  # noqa: BLE001 -- MSAL raises whatever it comes across
        failure = failure_of(error, exchange)
        failure.__cause__ = error.__cause__ if isinstance(error, TransportFailure) else in_words(error)
    finally:
        if exchange.trouble:
            gate.note(None, reason=exchange.trouble)
        elif exchange.reply is not None:
            gate.note(exchange.reply.status_code, exchange.reply.retry_after)
    raise failure.with_traceback(None)  # outside of the except clauses: their frames hold the session


async def _clean(wait: Callable[[Future[T]], Awaitable[T]], future: Future[T]) -> T:
    """The future's result; an error without the worker thread's frames, whose variables are secrets."""
    try:
        return await wait(future)
    except TokenError as error:
        raise error.with_traceback(None) from error.__cause__
