"""Past the time to refresh, with an authority that takes its time: who waits?"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiomsal import TokenManager
from benchmarks.entra import authority, azure_credential, msal_application, our_client
from benchmarks.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.testing import Application, FakeEntraProcess

CALLERS = 1_000
LATENCY = 0.2
SCOPE = "https://graph.microsoft.com/.default"
TOKEN = "token.client_credentials"  # a kind of request


def run() -> Report:
    """A caller has waited who was not served within half the authority's latency."""
    with authority() as (entra, application):
        rows = asyncio.run(_run(entra, application))
    return Report(
        "refresh", f"of {CALLERS:,} callers past refresh_at, who waits for {LATENCY * 1e3:.0f} ms?", tuple(rows)
    )


async def _run(entra: FakeEntraProcess, application: Application) -> list[Row]:
    entra.configure(expires_in=3600, refresh_in=1)
    tokens = TokenManager(our_client(entra, application))
    app = msal_application(entra, application)
    loop = asyncio.get_running_loop()
    rows: list[Row] = []
    async with azure_credential(entra, application) as credential:
        await tokens.get(SCOPE)
        with ThreadPoolExecutor(32) as threads:

            def msal() -> Awaitable[object]:
                return loop.run_in_executor(threads, app.acquire_token_for_client, [SCOPE])

            await msal()
            await credential.get_token(SCOPE)
            await asyncio.sleep(1.5)
            entra.fault("token", latency=LATENCY)
            contenders = {
                "aiomsal": lambda: tokens.get(SCOPE),
                "msal in 32 threads": msal,
                "azure-identity.aio": lambda: credential.get_token(SCOPE),
            }
            for name, call in contenders.items():
                rows += await _contender(entra, name, call)
    await tokens.aclose()
    return rows


async def _contender(entra: FakeEntraProcess, name: str, call: Callable[[], Awaitable[object]]) -> list[Row]:
    entra.forget_requests()
    waits: list[float] = []

    async def one() -> None:
        start = time.perf_counter()
        await call()
        waits.append(time.perf_counter() - start)

    await asyncio.gather(*[asyncio.create_task(one()) for _ in range(CALLERS)])
    await asyncio.sleep(2 * LATENCY)  # for a refresh behind it
    ours = name == "aiomsal"
    return [
        Row(f"{name}: callers who waited", sum(wait > LATENCY / 2 for wait in waits), "", 0 if ours else None),
        Row(f"{name}: requests", entra.count(TOKEN), "", 1 if ours else None),
    ]
