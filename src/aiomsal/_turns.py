"""One after another for each key, in this process, on however many event loops."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from ._spawn import here

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Hashable

    from ._spawn import Home

LOOK_ABROAD: Final = 1.0
"""Seconds after which one who waits looks whether the loop of the one they wait for still runs."""


class Turns:
    """Locks by key, first come first served, that any number of event loops and threads may share.

    Invariant: a key is in the table exactly while somebody has its turn, and who waits for it is in that turn's
    queue, unless their loop stood still when they were called: then they ask again. The mutable state is that table,
    under a plain lock held for dictionary work only. A turn whose event loop has ended or stopped is over.
    """

    def __init__(self) -> None:
        self._renew()

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def take(self, key: Hashable, *, wait: bool = True) -> AsyncGenerator[bool]:
        """Have the turn for a key in the body. Without `wait` the body runs at once and is told whether it has it."""
        turn = _Turn(here())
        if not await self._got(key, turn, wait=wait):
            yield False
            return
        try:
            yield True
        finally:
            if turn.lasts():  # else this is the garbage collector, perhaps within code that holds the lock
                self._leave(key, turn)

    def guard(self) -> threading.Lock:
        """The lock under which the table changes; another that is held as briefly may be spared by it."""
        if self._pid != os.getpid():  # forked: the turns are the parent's
            self._renew()
        return self._lock

    async def _got(self, key: Hashable, turn: _Turn, *, wait: bool) -> bool:
        if self._asked(key, turn, wait=wait):
            return True
        if not wait:
            return False
        got = False
        try:
            while not got:
                with anyio.move_on_after(LOOK_ABROAD):
                    await turn.waiter.wait()
                got = self._asked(key, turn, wait=True)
        finally:
            if not got and turn.lasts():  # as above
                self._leave(key, turn)
        return True

    def _asked(self, key: Hashable, turn: _Turn, *, wait: bool) -> bool:
        """Whether it is this turn now; if not, and if it waits, it is in the queue."""
        with self.guard():
            holder = self._turns.get(key)
            if holder is not None and holder is not turn and not holder.lasts():
                self._pass_on(key, holder)
                holder = self._turns.get(key)
            if holder is None:
                turn.queue = OrderedDict()
                self._turns[key] = holder = turn
            elif holder is not turn and wait and turn not in holder.queue:
                turn.waiter = turn.home.waiter()
                turn.queue = holder.queue
                turn.queue[turn] = None
            return holder is turn

    def _leave(self, key: Hashable, turn: _Turn) -> None:
        with self.guard():
            if self._turns.get(key) is turn:
                self._pass_on(key, turn)
            else:  # it was waiting, or its turn was over before it knew
                turn.queue.pop(turn, None)

    def _pass_on(self, key: Hashable, turn: _Turn) -> None:
        """The first in the queue whose loop runs has it now. Under the lock."""
        del self._turns[key]
        while turn.queue:
            heir, _ = turn.queue.popitem(last=False)
            if heir.lasts() and heir.home.call_soon(heir.waiter.wake):
                self._turns[key] = heir
                return

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[Hashable, _Turn] = {}
        self._pid = os.getpid()  # last: another thread that sees it must not find the inherited lock


class _Turn:
    __slots__ = ("home", "queue", "waiter")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.waiter = home.waiter()
        self.queue: OrderedDict[_Turn, None] = OrderedDict()  # of those who wait for it: the turn's own or its holder's

    def lasts(self) -> bool:
        return self.home.alive()
