"""One after another for each key, in this process, on however many event loops."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from ._spawn import here

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from ._spawn import Home, Waiter

LOOK_ABROAD: Final = 1.0
"""Seconds after which one who waits looks whether the loop of the one they wait for still runs."""


class Turns:
    """Locks by key, first come first served, that any number of event loops and threads may share.

    Invariant: a key is in the table exactly while somebody has its turn. The mutable state is that table, under a
    plain lock held for dictionary work only. A turn whose event loop has ended or stopped is over.
    """

    def __init__(self) -> None:
        self._renew()

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def take(self, key: Hashable, *, wait: bool = True) -> AsyncIterator[bool]:
        """Have the turn for a key in the body. Without `wait` the body runs at once and is told whether it has it."""
        home = here()
        turn = _Turn(home)
        if not await self._got(key, turn, wait=wait):
            yield False
            return
        try:
            yield True
        finally:
            self._pass_on(key, turn)

    async def _got(self, key: Hashable, turn: _Turn, *, wait: bool) -> bool:
        waiter = turn.home.waiter()
        with self._guard():
            holder = self._turns.get(key)
            if holder is None or not holder.lasts():
                turn.queue = holder.queue if holder is not None else deque()
                self._turns[key] = turn
                return True
            if not wait:
                return False
            queue = holder.queue
            queue.append((waiter, turn))
        try:
            while self._turns.get(key) is not turn:
                with anyio.move_on_after(LOOK_ABROAD):
                    await waiter.wait()
                self._take_over(key, turn)
        except BaseException:
            with self._guard():
                if (waiter, turn) in queue:
                    queue.remove((waiter, turn))
            self._pass_on(key, turn)
            raise
        return True

    def _take_over(self, key: Hashable, turn: _Turn) -> None:
        """If the one who has the turn is gone, the first in the queue whose loop runs has it."""
        with self._guard():
            holder = self._turns.get(key)
            gone = holder is not None and holder is not turn and not holder.lasts()
        if holder is not None and gone:
            self._pass_on(key, holder)

    def _pass_on(self, key: Hashable, turn: _Turn) -> None:
        with self._guard():
            if self._turns.get(key) is not turn:  # taken over meanwhile, or never had
                return
            del self._turns[key]
            while turn.queue:
                waiter, heir = turn.queue.popleft()
                if heir.lasts() and heir.home.call_soon(waiter.wake):
                    heir.queue = turn.queue
                    self._turns[key] = heir
                    return

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._turns: dict[Hashable, _Turn] = {}

    def _guard(self) -> threading.Lock:
        if self._pid != os.getpid():  # forked: the turns are the parent's
            self._renew()
        return self._lock


class _Turn:
    __slots__ = ("home", "queue")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.queue: deque[tuple[Waiter, _Turn]] = deque()

    def lasts(self) -> bool:
        return self.home.alive()
