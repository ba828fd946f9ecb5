"""Timing on a noisy machine: interleaved rounds, medians, and what the event loop felt meanwhile."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def loop_of(statement: str, **names: Any) -> Callable[[int], Awaitable[float]]:
    """A coroutine function that runs a statement n times and returns seconds for each, with no call of ours between."""
    source = (
        "async def run(n):\n"
        "    count = range(n)\n"
        "    start = clock()\n"
        f"    for i in count:\n        {statement}\n"
        "    return (clock() - start) / n\n"
    )
    namespace = {**names, "clock": time.perf_counter}
    exec(source, namespace)  # a constant of ours; it spares every rival the same call and lookup
    return namespace["run"]  # type: ignore[no-any-return]


async def interleaved(
    runs: dict[str, tuple[Callable[[int], Awaitable[float]], int]], rounds: int
) -> dict[str, list[float]]:
    """Run each contender once a round, so that whatever slows the machine slows all of them; seconds by name."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for run, n in runs.values():  # one round to warm up
        await run(max(1, n // 10))
    for _ in range(rounds):
        for name, (run, n) in runs.items():
            gc.collect()
            gc.disable()
            try:
                seen[name].append(await run(n))
            finally:
                gc.enable()
    return seen


class Stall:
    """The gaps between the turns of a loop, felt by a task that wants every turn: `async with Stall() as stall`."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def longest(self) -> float:
        """Seconds."""
        return max(self.gaps, default=0.0)

    def percentile(self, share: float) -> float:
        """The gap, in seconds, that so many of all gaps stay below."""
        gaps = sorted(self.gaps)
        return gaps[min(len(gaps) - 1, math.ceil(share * len(gaps)) - 1)] if gaps else 0.0

    async def _feel(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.gaps.append(max(0.0, now - before - 0.001))
            before = now

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._feel())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.sleep(0.002)  # a last stall is felt when the loop comes round again
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
