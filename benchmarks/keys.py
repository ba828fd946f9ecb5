"""A thousand different tokens at once: does the way through us cost more than MSAL in as many threads?"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiomsal import TokenManager
from benchmarks.entra import authority, msal_application, our_client
from benchmarks.report import Report, Row
from benchmarks.timing import Stall

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntraProcess

ROUNDS = 5
KEYS = 1_000
THREADS = 32
LATENCY = 0.05


def run() -> Report:
    """Ours and plain MSAL alternate, each with its own warm connections, against one authority."""
    with authority() as (entra, application):
        rows = asyncio.run(_run(entra, application))
    return Report(
        "keys", f"{KEYS:,} distinct cold keys, {LATENCY * 1e3:.0f} ms authority, {THREADS} threads", tuple(rows)
    )


async def _run(entra: FakeEntraProcess, application: Application) -> list[Row]:
    numbers = itertools.count()
    tokens = TokenManager(our_client(entra, application, threads=THREADS))
    loop = asyncio.get_running_loop()
    apps: list[Any] = []
    with ThreadPoolExecutor(THREADS) as threads:

        async def ours(count: int) -> None:
            scopes = [f"https://ours{next(numbers)}.example/.default" for _ in range(count)]
            await asyncio.gather(*[tokens.get(scope) for scope in scopes])

        async def msal(count: int) -> None:
            app = apps[-1]
            scopes = [f"https://msal{next(numbers)}.example/.default" for _ in range(count)]
            await asyncio.gather(
                *[loop.run_in_executor(threads, app.acquire_token_for_client, [scope]) for scope in scopes]
            )

        await ours(2 * THREADS)
        walls: dict[str, list[float]] = {"aiomsal": [], "msal": []}
        stalls: dict[str, list[float]] = {"aiomsal": [], "msal": []}
        for _ in range(ROUNDS):
            apps.append(msal_application(entra, application, THREADS))  # its cache grows slow with what it holds
            await msal(2 * THREADS)
            await ours(2 * THREADS)
            entra.fault("token", latency=LATENCY)
            for name, contender in (("aiomsal", ours), ("msal", msal)):
                async with Stall() as stall:
                    start = time.perf_counter()
                    await contender(KEYS)
                    walls[name].append(time.perf_counter() - start)
                stalls[name].append(stall.percentile(0.99))
            entra.clear_faults()
    ratio = statistics.median(a / b for a, b in zip(walls["aiomsal"], walls["msal"], strict=True))
    worse = statistics.median(a / b for a, b in zip(stalls["aiomsal"], stalls["msal"], strict=True))
    return [
        *(Row(f"{name}: wall", statistics.median(each) * 1e3, "ms") for name, each in walls.items()),
        *(
            Row(f"{name}: loop stall, 99th percentile", statistics.median(each) * 1e3, "ms")
            for name, each in stalls.items()
        ),
        Row("wall / plain MSAL", ratio, "x", 1.25),
        Row("loop stall p99 / plain MSAL", worse, "x", 1),
    ]
