"""A gate at which requests wait until a test lets them go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .faults import Faults


class Waiter:
    """One request on its way: it waits at any number of gates and is ready when the last lets it go.

    Invariant: its callback is called at most once, and never after `leave`. Its mutable state is `_left`, the number of
    gates it still waits at, and the callback.
    """

    __slots__ = ("_callback", "_gates", "_left", "_lock")

    def __init__(self, gates: list[Gate]) -> None:
        self._gates = gates
        self._lock = threading.Lock()
        self._callback: Callable[[], None] | None = None
        self._left = len(gates)
        for gate in gates:
            gate.enter(self)

    @property
    def ready(self) -> bool:
        return self._left == 0

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, now or from whichever thread opens the last gate."""
        with self._lock:
            if self._left:
                self._callback = callback
                return
        callback()

    def passed(self) -> None:
        """Be told by a gate that it is behind."""
        with self._lock:
            self._left -= 1
            callback = None if self._left else self._callback
            if callback:
                self._callback = None
        if callback:
            callback()

    def leave(self) -> None:
        """Wait no longer: the client has gone."""
        with self._lock:
            self._callback = None
        for gate in self._gates:
            gate.forget(self)


class Gate:
    """Holds requests so that a test can force an order without sleeping.

    `with entra.hold("token") as gate:` requests of that kind arrive, are counted, and wait; the end of the block opens
    the gate for good. Its methods may be called from any thread; `wait_for` blocks its thread, so a coroutine calls it
    in a worker thread. Its mutable state is the waiting requests, oldest first, and whether it is open.
    """

    def __init__(self, kind: str, owner: Faults | None = None) -> None:
        """Make a closed gate; `FakeEntra.hold` is how to get one that requests come to."""
        self._kind = kind
        self._owner = owner
        self._changed = threading.Condition()
        self._waiting: dict[Waiter, None] = {}
        self._open = False

    @property
    def waiting(self) -> int:
        """Return how many requests wait here now."""
        return len(self._waiting)

    def wait_for(self, n: int, timeout: float = 10.0) -> None:
        """Return when at least `n` requests wait here; raise TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waiting) >= n, timeout):
                message = f"{len(self._waiting)} of {n} requests wait at the gate for {self._kind!r} after {timeout} s"
                raise TimeoutError(message)

    def release(self, n: int | None = None) -> int:
        """Let the `n` that wait longest go, and return how many went; with no `n`, open the gate for good."""
        with self._changed:
            if n is None:
                self._open = True
            going = list(self._waiting)[:n]
            for waiter in going:
                del self._waiting[waiter]
        for waiter in going:
            waiter.passed()
        return len(going)

    def enter(self, waiter: Waiter) -> None:
        """Stop a request here, unless the gate is open. For FakeEntra."""
        with self._changed:
            if not self._open:
                self._waiting[waiter] = None
                self._changed.notify_all()
                return
        waiter.passed()

    def forget(self, waiter: Waiter) -> None:
        """Take a request out whose client has gone. For FakeEntra."""
        with self._changed:
            self._waiting.pop(waiter, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owner:
            self._owner.remove(self)
        self.release()
