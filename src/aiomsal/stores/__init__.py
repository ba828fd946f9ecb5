"""Where sessions and tokens outlive a request: the protocol of stores, and the one in memory."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from aiomsal._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager


class _Any(enum.Enum):
    ANY = "whatever is there"

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any.ANY
"""For `TokenStore.set(expected=...)`: overwrite whatever is there."""

Expected: TypeAlias = bytes | Literal[_Any.ANY] | None


class TokenStore(Protocol):
    """Bytes by key, and locks: what a store must do. Any event loop and thread may call it.

    Keys are printable ASCII without blanks, at most 200 characters. Values are opaque and secret. A method may raise
    whatever its library raises: the manager counts, logs and goes on, or raises `StoreError` if told to.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, whole as one `set` wrote it; None if there is none or it has expired."""
        ...

    async def set(self, key: str, value: bytes, *, expires_at: float | None = None, expected: Expected = ANY) -> bool:
        """Write a value, if what is there is what was expected (None: nothing); whether it was written.

        Atomic against every other process on this store. The value may vanish after `expires_at` (epoch seconds).
        """
        ...

    async def delete(self, key: str, *, expected: Expected = ANY) -> bool:
        """Remove the value, if it is the one expected; whether nothing is there now. Atomic as `set` is."""
        ...

    def lock(self, key: str, *, wait: bool = True) -> AbstractAsyncContextManager[bool]:
        """Exclude every other process and task on this store; a lock ends with its process, or soon after.

        The body is told whether it has the lock; with `wait` it runs only when it has.
        """
        ...


class MemoryStore:
    """Sessions in the memory of this process: what a manager uses when it is given no store.

    Bounded: beyond `max_sessions` the one written longest ago is forgotten, and its user has to sign in again.
    Locks are exact within the process and exclude no other.
    """

    def __init__(self, *, max_sessions: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        if max_sessions < 1:
            raise ValueError(f"max_sessions must be at least 1, not {max_sessions}")
        self._max_sessions = max_sessions
        self._clock = clock
        self._values: dict[str, bytes] = {}  # in the order of their last writing
        self._ending: dict[str, float] = {}  # which of them end by themselves, and when
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._values)}>"

    async def get(self, key: str) -> bytes | None:
        """The value. Never suspends."""
        return self._values.get(key)

    async def set(self, key: str, value: bytes, *, expires_at: float | None = None, expected: Expected = ANY) -> bool:
        """Write if what is there is as expected. Never suspends, so nothing comes between."""
        with self._turns.guard():  # from other threads something might
            self._forget_ended()
            if expected is not ANY and self._values.get(key) != expected:
                return False
            self._forget(key)
            self._values[key] = value
            if expires_at is not None:
                self._ending[key] = expires_at
            if len(self._values) > self._max_sessions:
                self._forget(next(iter(self._ending or self._values)))  # strangers sign nobody out by coming back
        return True

    async def delete(self, key: str, *, expected: Expected = ANY) -> bool:
        """Remove the value, if it is the one expected. Never suspends."""
        with self._turns.guard():
            if expected is not ANY and self._values.get(key, expected) != expected:
                return False
            self._forget(key)
        return True

    def _forget_ended(self) -> None:
        """Sessions have no end; that a web sign-in was completed need not be known for longer than it might come again.

        These come in the order of their ends, more or less: looking at the first is enough.
        """
        now = self._clock()
        while self._ending and self._ending[first := next(iter(self._ending))] <= now:
            self._forget(first)

    def _forget(self, key: str) -> None:
        self._values.pop(key, None)
        self._ending.pop(key, None)

    def lock(self, key: str, *, wait: bool = True) -> AbstractAsyncContextManager[bool]:
        """Exclude every other task of this process, on any event loop."""
        return self._turns.take(key, wait=wait)
