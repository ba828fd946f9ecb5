"""Twenty thousand callers leave one flight: what does the event loop feel?"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from aiomsal import TokenManager
from aiomsal.testing import ScriptedClient
from benchmarks.report import Report, Row, median_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ROUNDS = 7
CROWD = 20_000
Tasks = list["asyncio.Task[object]"]


def run() -> Report:
    """Ours and bare sleeping tasks alternate."""
    orders: dict[str, Callable[[Tasks], Tasks]] = {
        "in order": list,
        "in reverse": lambda tasks: tasks[::-1],
        "shuffled": lambda tasks: random.Random(1).sample(tasks, len(tasks)),  # an order
    }
    rows = []
    for name, order in orders.items():
        ours, floor = [], []
        for _ in range(ROUNDS):  # each in a loop of its own: what one leaves behind is not the other's to collect
            ours.append(_fresh(_ours(order)))
            floor.append(_fresh(_floor(order)))
        rows.append(Row(f"left {name}: loop blocked", statistics.median(ours) * 1e3, "ms"))
        rows.append(Row(f"left {name}: / bare sleeping tasks", median_ratio(ours, floor), "x", 1.5))
    return Report("leave", f"what do {CROWD:,} callers cost who are cancelled while they wait?", tuple(rows))


def _fresh(measured: Coroutine[Any, Any, float]) -> float:
    gc.collect()
    return asyncio.run(measured)


async def _ours(order: Callable[[Tasks], Tasks]) -> float:
    client = ScriptedClient()
    tokens = TokenManager(client)
    waiting: Tasks = [asyncio.create_task(tokens.get("scope")) for _ in range(CROWD)]
    acquisition = await client.acquisition()
    blocked = await _cancel(order(waiting))
    acquisition.land()
    return blocked


async def _floor(order: Callable[[Tasks], Tasks]) -> float:
    sleeping: Tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(CROWD)]
    await asyncio.sleep(0)
    return await _cancel(order(sleeping))


async def _cancel(tasks: Tasks) -> float:
    start = time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return time.perf_counter() - start
