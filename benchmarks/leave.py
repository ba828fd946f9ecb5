"""Twenty thousand callers leave one flight: what does the event loop feel?"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING

from aiomsal import TokenManager
from aiomsal.testing import ScriptedClient
from benchmarks.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Callable

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
        pairs = [asyncio.run(_round(order)) for _ in range(ROUNDS)]
        rows.append(Row(f"left {name}: loop blocked", statistics.median(ours for ours, _ in pairs) * 1e3, "ms"))
        ratio = statistics.median(ours / floor for ours, floor in pairs)
        rows.append(Row(f"left {name}: / bare sleeping tasks", ratio, "x", 1.5))
    return Report("leave", f"what do {CROWD:,} callers cost who are cancelled while they wait?", tuple(rows))


async def _round(order: Callable[[Tasks], Tasks]) -> tuple[float, float]:
    client = ScriptedClient()
    tokens = TokenManager(client)
    waiting: Tasks = [asyncio.create_task(tokens.get("scope")) for _ in range(CROWD)]
    acquisition = await client.acquisition()
    ours = await _cancel(order(waiting))
    acquisition.land()
    sleeping: Tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(CROWD)]
    await asyncio.sleep(0)
    return ours, await _cancel(order(sleeping))


async def _cancel(tasks: Tasks) -> float:
    start = time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return time.perf_counter() - start
