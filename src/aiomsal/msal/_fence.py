"""An account that leaves waits for those who are at work for it, and they for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import anyio

from aiomsal._spawn import here

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aiomsal._spawn import Home

T = TypeVar("T")

LOOK_ABROAD: Final = 1.0
"""Seconds after which one who waits looks whether the loop of the one they wait for still runs."""


class Fence:
    """Work for an account and its removal exclude each other, on however many loops; work does not exclude work.

    Without it a refresh that is aloft while MSAL removes the account brings the account's refresh token back. The
    mutable state is who works and who is leaving, under a lock that is held for dictionary work only. It may be
    entered again: a coroutine that the garbage collector ends comes here too.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._working: dict[str, set[Future[Any]]] = {}
        self._leaving: dict[str, _Leaving] = {}

    async def work(self, account: str, submit: Callable[[], Future[T]]) -> Future[T]:
        """Have a worker thread begin work for an account, as soon as it is not leaving."""
        while isinstance(found := self._begun(account, submit), _Leaving):
            await _settled(found.gone, found.home)
        found.add_done_callback(lambda _: self._done(account, found))
        return found

    @asynccontextmanager
    async def leave(self, account: str) -> AsyncGenerator[None]:
        """In the body nobody works for this account."""
        leaving = _Leaving(Future(), here())
        while (first := self._leave(account, leaving)) is not leaving:
            await _settled(first.gone, first.home)
        try:
            for future in self._workers(account):
                await _settled(future)
            yield
        finally:
            with self._lock:
                if self._leaving.get(account) is leaving:  # else its loop stood still, and it was passed over
                    del self._leaving[account]
            leaving.gone.set_result(None)

    def _begun(self, account: str, submit: Callable[[], Future[T]]) -> Future[T] | _Leaving:
        with self._lock:
            if (leaving := self._lasting(account)) is not None:
                return leaving
            future = submit()
            self._working.setdefault(account, set()).add(future)
            return future

    def _leave(self, account: str, leaving: _Leaving) -> _Leaving:
        with self._lock:
            return self._lasting(account) or self._leaving.setdefault(account, leaving)

    def _lasting(self, account: str) -> _Leaving | None:
        """Who is leaving, on a loop that runs: of any other nobody knows whether it ever ends. Under the lock."""
        leaving = self._leaving.get(account)
        if leaving is not None and not leaving.home.alive():
            leaving = None
            del self._leaving[account]
        return leaving

    def _workers(self, account: str) -> list[Future[Any]]:
        with self._lock:
            return list(self._working.get(account, ()))

    def _done(self, account: str, future: Future[Any]) -> None:
        with self._lock:
            working = self._working[account]
            working.discard(future)
            if not working:
                del self._working[account]


class _Leaving(NamedTuple):
    gone: Future[None]
    home: Home


async def _settled(future: Future[Any], whose: Home | None = None) -> None:
    """When it is done, however it ended, or the loop that has to do it stands still. Leaving changes nothing for it."""
    home = here()
    waiter = home.waiter()
    future.add_done_callback(lambda _: home.call_soon(waiter.wake))
    while not future.done() and (whose is None or whose.alive()):
        with anyio.move_on_after(LOOK_ABROAD):
            await waiter.wait()
