"""Where a scene plays: the authority, the screen, and how one way of asking for tokens is measured."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from aiomsal import ConfidentialClient, TokenManager
from aiomsal.cli.naive import NaiveService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.cli.screen import Screen
    from aiomsal.testing import FakeEntraProcess

SCOPE: Final = "https://graph.microsoft.com/.default"
LATENCY: Final = 0.3
"""Seconds that the authority takes for a token request, in all scenes."""
_TURN: Final = 0.001


@dataclass(frozen=True, slots=True)
class Call:
    """How one caller fared."""

    took: float
    """Seconds."""
    served: bool
    """Whether the caller got a token."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a crowd fared."""

    calls: tuple[Call, ...]
    requests: int
    """What the authority counted."""
    seconds: float
    """Until the last of them was done."""
    stall: float
    """The longest time, in seconds, in which the event loop did nothing else."""

    @property
    def waited(self) -> int:
        """Callers who waited for the authority: half of its latency or more."""
        return sum(call.took >= LATENCY / 2 for call in self.calls)

    @property
    def empty_handed(self) -> int:
        """Callers who got no token."""
        return sum(not call.served for call in self.calls)


class Stage:
    """One authority with one application for each question, and a screen."""

    def __init__(self, entra: FakeEntraProcess, screen: Screen) -> None:
        self.entra = entra
        self.screen = screen

    async def rivals(self) -> tuple[NaiveService, TokenManager]:
        """A service that does not know any token yet, in both ways."""
        app = self.entra.add_application()
        authority, ca_file = self.entra.authority(), self.entra.ca_file
        naive = await asyncio.to_thread(NaiveService, app.client_id, app.client_secret, authority, ca_file)
        client = ConfidentialClient(
            app.client_id, app.client_secret, authority=authority, ca_file=ca_file, instance_discovery=False
        )
        return naive, TokenManager(client)

    async def aged_rivals(self) -> tuple[NaiveService, TokenManager]:
        """The same with a token each that works for an hour, and is to be refreshed since a second ago."""
        naive, tokens = await self.rivals()
        self.entra.configure(refresh_in=1)
        self.entra.clear_faults()
        with self.screen.progress("", lambda: "waiting for the tokens to get old enough for a refresh"):
            await naive.token(SCOPE)
            await tokens.get(SCOPE)
            self.entra.configure(refresh_in=None)
            await asyncio.sleep(2.1)  # MSAL counts in whole seconds
        self.slow_down()
        return naive, tokens

    def slow_down(self) -> None:
        """Let token requests take their time again, and do nothing worse."""
        self.entra.clear_faults()
        self.entra.fault("token", latency=LATENCY)

    async def measure(
        self,
        who: str,
        callers: int,
        call: Callable[[int], Awaitable[str]],
        *,
        kind: str = "token",
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> Measured:
        """Have so many coroutines call at once, and report. `after` lets end what they left behind, to be counted."""
        before = self.entra.count(kind)
        gc.collect()  # of what the other way left, this one has no fault

        def asked() -> int:
            return self.entra.count(kind) - before

        with self.screen.progress(who, lambda: f"{asked():,} requests so far"):
            async with Stall() as stall:
                start = time.perf_counter()
                calls = await asyncio.gather(*(_timed(call, number) for number in range(callers)))
                seconds = time.perf_counter() - start
            if after is not None:
                await after()
        return Measured(tuple(calls), asked(), seconds, stall.longest)


class Stall:
    """Feels how long the event loop is away: a task that wants a turn every millisecond."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._feel())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * _TURN)  # what stalled it last is felt when it comes round again
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _feel(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(_TURN)
            now = time.perf_counter()
            self.longest = max(self.longest, now - before - _TURN)
            before = now


async def _timed(call: Callable[[int], Awaitable[str]], number: int) -> Call:
    """One caller. Whatever it is raised, it has no token: that is the figure."""
    start = time.perf_counter()
    try:
        token = await call(number)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # this caller, and not only what it waited for
            raise
        token = ""
    except Exception:  # noqa: BLE001 -- MSAL raises whatever it comes across
        token = ""
    return Call(time.perf_counter() - start, bool(token))
