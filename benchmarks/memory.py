"""What a held token weighs beyond its own text."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import uuid
from typing import TYPE_CHECKING

from benchmarks import scripted
from benchmarks.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal import Token

MANY = 100_000


def run() -> Report:
    """Tracemalloc counts every byte that stays after 100,000 tokens were acquired and each was read once more."""
    rows = [
        Row("application token", asyncio.run(_application()), "bytes", 700),
        Row("user's token", asyncio.run(_users()), "bytes", 1_000),
    ]
    return Report("memory", f"what does each of {MANY:,} tokens weigh beyond its text?", tuple(rows))


async def _application() -> float:
    tokens = scripted.application()
    scopes = [f"https://resource{number}.example/.default" for number in range(MANY)]
    return await _weight(lambda number: tokens.get(scopes[number]))


async def _users() -> float:
    tokens = scripted.of_users()
    tenant = uuid.uuid4()
    accounts = [scripted.user(f"{uuid.uuid4()}.{tenant}") for _ in range(MANY)]
    return await _weight(lambda number: tokens.get("User.Read", account=accounts[number]))


async def _weight(get: Callable[[int], Awaitable[Token]]) -> float:
    """The caller's own scopes and accounts are there before; what is made of them is not."""
    text = 0
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(MANY):
        token = await get(number)
        await get(number)
        text += sys.getsizeof(token.value)
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] - before - text) / MANY
    tracemalloc.stop()
    return weight
