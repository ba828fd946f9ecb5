"""What a token costs that is in memory."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from aiomsal.testing import FakeEntra
from benchmarks import scripted
from benchmarks.report import Report, Row, median_ratio
from benchmarks.timing import interleaved, loop_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 15
MANY = 100_000
SCOPE = "https://graph.microsoft.com/.default"

Runs = dict[str, tuple["Callable[[int], Awaitable[float]]", int]]


def run() -> Report:
    """Every contender in the same rounds."""
    return asyncio.run(_run())


async def _run() -> Report:
    runs: Runs = {**await _ours(), **_msal(), **_azure_identity()}
    times = await interleaved(runs, ROUNDS)
    rows = [Row(name, statistics.median(each) * 1e9, "ns") for name, each in times.items()]

    def ratio(ours: str, theirs: str, limit: float, *, least: bool = False) -> None:
        pair = (theirs, ours) if least else (ours, theirs)
        words = "times faster than" if least else "/"
        rows.append(Row(f"{ours} {words} {theirs}", median_ratio(*(times[name] for name in pair)), "x", limit, least))

    ratio("get(scope)", "floor", 3.5)
    ratio("get(scope, account=)", "floor", 6)
    ratio("source.get()", "floor", 2.5)
    ratio("get(scope)", "azure-identity, 1 token", 20, least=True)
    ratio("get(scope) of 100,000", "get(scope)", 1.1)
    ratio("get(random scope) of 100,000", "get(one of ten scopes)", 4)
    return Report("hot", "what does a token cost that is in memory?", tuple(rows))


async def _ours() -> Runs:
    tokens, users, many = scripted.application(), scripted.of_users(), scripted.application()
    account = scripted.user("00000000-0000-0000-0000-000000000001.00000000-0000-0000-0000-000000000002")
    scopes = [f"https://resource{number}.example/.default" for number in range(MANY)]
    for _ in range(2):  # the second call finds the token held, and is remembered
        await tokens.get(SCOPE)
        await users.get("User.Read", account=account)
        for scope in scopes:
            await many.get(scope)
    source = tokens.source(SCOPE)
    await source.get()
    held = {SCOPE: await tokens.get(SCOPE)}

    async def floor(scope: str) -> Any:
        return held[scope]

    order = random.Random(1).choices(scopes, k=MANY)  # an order to read in
    ten = random.Random(1).choices(scopes[:10], k=MANY)  # as above
    names = {"scope": SCOPE, "account": account, "get": tokens.get, "many": many.get}
    return {
        "floor": (loop_of("await floor(scope)", floor=floor, scope=SCOPE), 20_000),
        "get(scope)": (loop_of("await get(scope)", **names), 20_000),
        "get(scope, account=)": (loop_of("await get(scope, account=account)", **{**names, "get": users.get}), 20_000),
        "source.get()": (loop_of("await get()", get=source.get), 20_000),
        "get(scope) of 100,000": (loop_of("await many(scope)", many=many.get, scope=scopes[MANY // 2]), 20_000),
        "get(one of ten scopes)": (loop_of("await many(order[i])", many=many.get, order=ten), 20_000),
        "get(random scope) of 100,000": (loop_of("await many(order[i])", many=many.get, order=order), 20_000),
    }


def _msal() -> Runs:
    import msal  # a rival

    entra = FakeEntra()
    application = entra.add_application()
    app = msal.ConfidentialClientApplication(
        application.client_id,
        client_credential=application.client_secret,
        authority=entra.authority(),
        http_client=entra.http_client(),
    )
    acquire = app.acquire_token_for_client
    scopes = [SCOPE]
    assert "access_token" in acquire(scopes)
    names = {"acquire": acquire, "scopes": scopes, "to_thread": asyncio.to_thread}
    return {
        "msal on the loop": (loop_of("acquire(scopes)", **names), 1_000),
        "msal, asyncio.to_thread": (loop_of("await to_thread(acquire, scopes)", **names), 300),
        "msal, anyio.to_thread": (
            loop_of("await run_sync(acquire, scopes)", **names, run_sync=anyio.to_thread.run_sync),
            300,
        ),
    }


def _azure_identity() -> Runs:
    return {
        f"azure-identity, {count:,} token{'s' if count > 1 else ''}": (
            loop_of("await get_token(scope)", get_token=_credential(count).get_token, scope=SCOPE),
            n,
        )
        for count, n in ((1, 1_000), (1_000, 50), (10_000, 5))
    }


def _credential(count: int) -> Any:
    """A credential with so many tokens in its cache; put there directly, for by its own means it takes minutes."""
    from azure.identity.aio import ClientSecretCredential  # a rival

    credential = ClientSecretCredential("tenant", "client", "not a secret")
    cache = credential._client._get_cache()  # there is no public way in
    for number in range(count):
        scope = SCOPE if number == count // 2 else f"https://resource{number}.example/.default"
        cache.add(
            {
                "client_id": "client",
                "scope": [scope],
                "token_endpoint": "https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
                "response": {"access_token": scripted.TEXT, "expires_in": 3600, "token_type": "Bearer"},
            },
            now=int(time.time()),
        )
    return credential
