"""`aiomsal.msal` beside MSAL itself: what does awaiting cost where MSAL's cache has the token?"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio

from aiomsal import msal
from aiomsal.testing import FakeEntra
from benchmarks.report import Report, Row, median_ratio
from benchmarks.timing import interleaved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 15
CALLS = 1_000
CROWD = 1_000
CROWDS = 5
ANN, MAIL = "ann@home.example", ["Mail.Read"]
SCOPES = ["https://graph.microsoft.com/.default"]


def run() -> Report:
    """The facade and a bare thread hop ask the same application for the same token."""
    with FakeEntra() as entra:
        service = entra.add_application()
        app = msal.ConfidentialClientApplication(
            service.client_id, service.client_secret, authority=entra.authority(), http_client=entra.http_client()
        )
        entra.add_user(ANN)
        person = msal.PublicClientApplication(
            entra.add_application(public=True).client_id, authority=entra.authority(), http_client=entra.http_client()
        )
        rows = asyncio.run(_run(app, entra, person))
    return Report("facade", "what does awaiting MSAL cost where its cache has the token?", tuple(rows))


async def _run(
    app: msal.ConfidentialClientApplication, entra: FakeEntra, person: msal.PublicClientApplication
) -> list[Row]:
    await app.acquire_token_for_client(SCOPES)
    flow = await person.initiate_auth_code_flow(MAIL, "http://localhost", response_mode="form_post")
    await person.acquire_token_by_auth_code_flow(flow, entra.authorize(flow["auth_uri"], ANN).params)
    [account] = await person.get_accounts()
    ask: Callable[..., Any] = app._desk.built.acquire_token_for_client  # MSAL's own

    async def facade(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            await app.acquire_token_for_client(SCOPES)
        return (time.perf_counter() - start) / n

    async def hop(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            await anyio.to_thread.run_sync(ask, SCOPES)
        return (time.perf_counter() - start) / n

    async def nothing() -> None: ...

    def gathered(call: Callable[[], Awaitable[object]]) -> Callable[[int], Awaitable[float]]:
        async def run(n: int) -> float:
            start = time.perf_counter()
            for _ in range(n):
                await asyncio.gather(*[call() for _ in range(CROWD)])
            return (time.perf_counter() - start) / n

        return run

    seen = await interleaved(
        {
            "facade": (facade, CALLS),
            "hop": (hop, CALLS),
            "crowd": (gathered(lambda: app.acquire_token_for_client(SCOPES)), CROWDS),
            "silent": (gathered(lambda: person.acquire_token_silent(MAIL, account)), CROWDS),
            "empty": (gathered(nothing), CROWDS),
        },
        ROUNDS,
    )
    median = {name: sorted(times)[ROUNDS // 2] for name, times in seen.items()}
    bound = [3 * empty + one for empty, one in zip(seen["empty"], seen["facade"], strict=True)]
    return [
        Row("one call", median["facade"] * 1e6, "us"),
        Row("one call / a bare thread hop of the same", median_ratio(seen["facade"], seen["hop"]), "x", 1.2),
        Row(f"{CROWD:,} equal calls at once", median["crowd"] * 1e3, "ms"),
        Row(f"{CROWD:,} empty coroutines gathered", median["empty"] * 1e3, "ms"),
        Row("equal calls / (3 x the empty ones and one call)", median_ratio(seen["crowd"], bound), "x", 1.0),
        Row("the same of silent calls for a user", median_ratio(seen["silent"], bound), "x", 1.0),
    ]
