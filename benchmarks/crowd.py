"""A crowd that finds nothing: how many requests, how long, and what does the event loop feel?"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiomsal import TokenError, TokenManager
from benchmarks.entra import authority, azure_credential, msal_application, our_client
from benchmarks.report import Report, Row
from benchmarks.timing import Stall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.testing import Application, FakeEntraProcess

ROUNDS = 9
CROWD = 10_000
TOKEN = "token.client_credentials"  # a kind of request


def run() -> Report:
    """Ours and the floor alternate; the rivals, who take long, have one round each."""
    with authority() as (entra, application):
        rows = [*asyncio.run(_crowds(entra, application)), *asyncio.run(_failures(entra, application))]
    return Report("crowd", "what do callers cost who find no token, over HTTPS on loopback?", tuple(rows))


async def _crowds(entra: FakeEntraProcess, application: Application) -> list[Row]:
    tokens = TokenManager(our_client(entra, application))
    app = msal_application(entra, application)
    scopes = (f"https://resource{number}.example/.default" for number in itertools.count())
    await tokens.get(next(scopes))  # builds the application, and connects
    await asyncio.to_thread(app.acquire_token_for_client, [next(scopes)])

    async def ours(count: int) -> float:
        scope = next(scopes)
        return await _timed(lambda: tokens.get(scope), count)

    async def floor(count: int) -> float:
        """One request by plain MSAL, and an event that wakes as many tasks as there are callers."""
        start = time.perf_counter()
        await asyncio.to_thread(app.acquire_token_for_client, [next(scopes)])
        request = time.perf_counter() - start
        event = asyncio.Event()

        async def wait() -> None:
            await event.wait()

        start = time.perf_counter()
        tasks = [asyncio.create_task(wait()) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        event.set()
        await asyncio.gather(*tasks)
        return request + time.perf_counter() - start

    rows: list[Row] = []
    for count in (1_000, CROWD):
        requests, pairs, stalls = [], [], []
        for _ in range(ROUNDS):
            entra.forget_requests()
            async with Stall() as stall:
                mine = await ours(count)
            stalls.append(stall.longest)
            requests.append(entra.count(TOKEN))
            pairs.append((mine, await floor(count)))
        last = count == CROWD
        rows += [
            Row(f"{count:,} callers: requests, most of {ROUNDS} rounds", max(requests), "", 1),
            Row(f"{count:,} callers: wall", statistics.median(a for a, _ in pairs) * 1e3, "ms"),
            Row(f"{count:,} callers: longest stall of the loop", statistics.median(stalls) * 1e3, "ms"),
            Row(
                f"{count:,} callers: wall / (one request + an event's broadcast)",
                statistics.median(a / b for a, b in pairs),
                "x",
                2 if last else None,
            ),
        ]
    return rows + await _rivals(entra, application, app)


async def _rivals(entra: FakeEntraProcess, application: Application, app: Any) -> list[Row]:
    rows: list[Row] = []
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(32) as threads:
        acquire = app.acquire_token_for_client
        for count in (1_000, CROWD):
            scopes = [f"https://crowd{count}.example/.default"]
            rows += await _rival(
                entra, "msal in 32 threads", count, lambda s=scopes: loop.run_in_executor(threads, acquire, s)
            )
    async with azure_credential(entra, application) as credential:
        scope = "https://crowd.example/.default"
        rows += await _rival(entra, "azure-identity.aio", 1_000, lambda: credential.get_token(scope))
    return rows


async def _rival(entra: FakeEntraProcess, name: str, count: int, call: Callable[[], Awaitable[object]]) -> list[Row]:
    entra.forget_requests()
    async with Stall() as stall:
        wall = await _timed(call, count)
    return [
        Row(f"{count:,} callers, {name}: requests", entra.count(TOKEN)),
        Row(f"{count:,} callers, {name}: wall", wall * 1e3, "ms"),
        Row(f"{count:,} callers, {name}: longest stall", stall.longest * 1e3, "ms"),
    ]


async def _timed(call: Callable[[], Awaitable[object]], count: int) -> float:
    async def one() -> None:
        await call()

    start = time.perf_counter()
    await asyncio.gather(*[asyncio.create_task(one()) for _ in range(count)])
    return time.perf_counter() - start


async def _failures(entra: FakeEntraProcess, application: Application) -> list[Row]:
    """What a crowd costs the authority when its request goes wrong."""
    rows: list[Row] = []
    for name, fault, limit in (
        ("answered 400", {"status": 400}, 1),
        ("answered with garbage", {"garbage": True}, 1),
        ("answered 503: one flight's retries", {"status": 503}, 3),
    ):
        tokens = TokenManager(our_client(entra, application))
        await tokens.get("https://warm.example/.default")
        entra.fault("token", **fault)
        entra.forget_requests()
        results = await asyncio.gather(
            *[tokens.get("https://new.example/.default") for _ in range(1_000)], return_exceptions=True
        )
        assert all(isinstance(result, TokenError) for result in results)
        rows.append(Row(f"1,000 callers {name}: requests", entra.count(TOKEN), "", limit))
        entra.clear_faults()
    tokens = TokenManager(our_client(entra, application))
    entra.forget_requests()
    with entra.hold("token") as gate:
        tasks = [asyncio.create_task(tokens.get("https://leader.example/.default")) for _ in range(1_000)]
        await asyncio.to_thread(gate.wait_for, 1)
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, BaseException) for result in results) == 1
    rows.append(Row("1,000 callers, the first cancelled: requests", entra.count(TOKEN), "", 1))
    return rows
