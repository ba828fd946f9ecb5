"""A clock that moves only when a test says so."""

from __future__ import annotations

import threading
import time


class FakeClock:
    """A callable that returns epoch seconds and stands still until it is told otherwise.

    Give one clock to everything that takes `clock=`, and a token's whole life takes no time. It starts at `start`,
    or at the computer's present time, because MSAL reads that one and has no seam for another. May be used from
    any thread.
    """

    def __init__(self, start: float | None = None) -> None:
        """Start at `start`, in epoch seconds, or now."""
        self._lock = threading.Lock()
        self._now = time.time() if start is None else float(start)

    def __call__(self) -> float:
        """Return the present time of this clock in epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on by `seconds`, back if negative, and return the new time."""
        with self._lock:
            self._now += seconds
            return self._now

    def set(self, now: float) -> None:
        """Jump to `now`, in epoch seconds."""
        with self._lock:
            self._now = float(now)

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"
