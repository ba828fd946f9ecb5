"""The scenes of the demo. Each asks one question of both ways; its counts are the authority's own."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiomsal import Browser, DeviceCode, PublicClient, TokenManager
from aiomsal.cli.naive import NaiveDesktop, NaiveProgram, NaiveSharing
from aiomsal.cli.stage import LATENCY, SCOPE
from aiomsal.testing import ScriptedBrowser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from aiomsal.cli.stage import Measured, Stage
    from aiomsal.testing import FakeEntraProcess

CROWD: Final = 10_000
CALLERS: Final = 1_000
PEOPLE: Final = 200
IMPATIENCE: Final = 0.1
"""Seconds after which the first caller of the third scene gives up: the authority takes longer."""
READING: Final = 0.5
"""Seconds that the person takes to approve a code."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure of both ways."""

    what: str
    naive: float
    ours: float
    promised: int | None = None
    """What ours is promised to be, exactly; None for what is only shown."""
    unit: str = ""
    """Empty for counts; "s" or "ms", the value being in seconds."""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.promised is None or self.ours == self.promised

    def shown(self, value: float) -> str:
        """A value of this figure, for people."""
        if self.unit == "s":
            return f"{value:.2f} s"
        if self.unit == "ms":
            return f"{1000 * value:,.0f} ms" if value >= 0.01 else f"{1000 * value:.1f} ms"
        return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A question, and how it is answered."""

    name: str
    """In the table: 13 characters at most."""
    title: str
    """Above its lines, live."""
    play: Callable[[Stage], Awaitable[tuple[Figure, ...]]]
    note: str = ""
    """What has to be said of the ways compared, in one line."""


async def cold_start(stage: Stage) -> tuple[Figure, ...]:
    """Everybody needs a token, and there is none."""
    rival, tokens = await stage.rivals()
    naive = await stage.measure("naive", CROWD, lambda _: rival.token(SCOPE))
    stage.screen.outcome("naive", f"{_asked(naive)}; {_stalled(naive)}")
    ours = await stage.measure("aiomsal", CROWD, lambda _: _value(tokens))
    stage.screen.outcome("aiomsal", f"{_asked(ours)}; {_stalled(ours)}")
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(LATENCY, event.set)
    floor = await stage.measure("event", CROWD, lambda _: _after(event))
    stage.screen.outcome("event", f"no request, {floor.seconds:.2f} s; {_stalled(floor)}")
    return (
        Figure("token requests", naive.requests, ours.requests, promised=1),
        Figure("callers without a token", naive.empty_handed, ours.empty_handed, promised=0),
        Figure("until all have it", naive.seconds, ours.seconds, unit="s"),
        _stall(naive, ours),
    )


async def refresh_window(stage: Stage) -> tuple[Figure, ...]:
    """The token works for an hour more, but it is time to refresh it."""
    rival, tokens = await stage.aged_rivals()
    naive = await stage.measure("naive", CALLERS, lambda _: rival.token(SCOPE))
    stage.screen.outcome("naive", f"{naive.waited:,} of {CALLERS:,} waited for the authority; {_asked(naive)}")
    ours = await stage.measure("aiomsal", CALLERS, lambda _: _value(tokens), after=tokens.aclose)
    stage.screen.outcome("aiomsal", f"{ours.waited:,} of {CALLERS:,} waited for the authority; {_asked(ours)}")
    return (
        Figure("callers who waited for the authority", naive.waited, ours.waited, promised=0),
        Figure("token requests", naive.requests, ours.requests, promised=1),
        Figure("slowest caller", _slowest(naive), _slowest(ours), unit="ms"),
        _stall(naive, ours),
    )


async def first_leaves(stage: Stage) -> tuple[Figure, ...]:
    """The first caller, whose request all others wait for, gives up before it is answered."""

    def impatient(get: Callable[[], Awaitable[str]]) -> Callable[[int], Awaitable[str]]:
        async def call(number: int) -> str:
            if number:
                return await get()
            async with asyncio.timeout(IMPATIENCE):
                return await get()

        return call

    rival, tokens = await stage.rivals()
    naive = await stage.measure("naive", CALLERS, impatient(lambda: rival.token(SCOPE)))
    stage.screen.outcome("naive", f"{_unserved(naive)}; {_asked(naive)}")
    # One request for all is what this saves; and this is what becomes of it if it is written in five lines.
    sharing = NaiveSharing((await stage.rivals())[0])
    shared = await stage.measure("shared", CALLERS, impatient(lambda: sharing.token(SCOPE)))
    stage.screen.outcome("shared", f"{_unserved(shared)}; {_asked(shared)}")
    ours = await stage.measure("aiomsal", CALLERS, impatient(lambda: _value(tokens)))
    stage.screen.outcome("aiomsal", f"{_unserved(ours)}; {_asked(ours)}")
    return (
        Figure("token requests", naive.requests, ours.requests, promised=1),
        Figure("others who got no token", _others(naive), _others(ours), promised=0),
        Figure("the same, naive with a shared task", _others(shared), _others(ours)),
        _stall(naive, ours),
    )


async def authority_down(stage: Stage) -> tuple[Figure, ...]:
    """The authority answers 503; the token works for an hour more, and is to be refreshed."""
    rival, tokens = await stage.aged_rivals()
    stage.entra.clear_faults()
    stage.entra.fault("token", status=503)
    naive = await stage.measure("naive", CALLERS, lambda _: rival.token(SCOPE))
    stage.screen.outcome("naive", f"{naive.empty_handed:,} of {CALLERS:,} got an error")
    ours = await stage.measure("aiomsal", CALLERS, lambda _: _value(tokens), after=tokens.aclose)
    stage.screen.outcome("aiomsal", f"{ours.empty_handed:,} of {CALLERS:,} got an error")
    stage.slow_down()
    return (
        Figure("callers who got an error", naive.empty_handed, ours.empty_handed, promised=0),
        Figure("token requests, all in vain", naive.requests, ours.requests),
        Figure("slowest caller", _slowest(naive), _slowest(ours), unit="ms"),
        _stall(naive, ours),
    )


async def one_sign_in(stage: Stage) -> tuple[Figure, ...]:
    """Nobody has signed in yet, and everybody needs the user's token."""
    entra = stage.entra
    app = entra.add_application(public=True)
    entra.add_user("ann@home.example")
    entra.configure(device_code_interval=1)
    authority, ca_file = entra.authority(), entra.ca_file
    with person(entra, "ann@home.example") as show:
        program = await asyncio.to_thread(NaiveProgram, app.client_id, authority, ca_file, show)
        naive = await stage.measure("naive", PEOPLE, lambda _: program.token("User.Read"), kind="devicecode")
        stage.screen.outcome("naive", f"{_n(naive.requests, 'code')} to enter, {naive.seconds:.1f} s")
        client = PublicClient(
            app.client_id,
            authority=authority,
            ca_file=ca_file,
            instance_discovery=False,
            sign_in=DeviceCode(lambda prompt: show(prompt.user_code)),
        )
        tokens = TokenManager(client)
        ours = await stage.measure("aiomsal", PEOPLE, lambda _: _value(tokens, "User.Read"), kind="devicecode")
        stage.screen.outcome("aiomsal", f"{_n(ours.requests, 'code')} to enter, {ours.seconds:.1f} s")
    return (
        Figure("codes shown to the person", naive.requests, ours.requests, promised=1),
        Figure("callers without a token", naive.empty_handed, ours.empty_handed, promised=0),
        _stall(naive, ours),
    )


async def one_window(stage: Stage) -> tuple[Figure, ...]:
    """The same in a program with a browser."""
    entra = stage.entra
    app = entra.add_application(public=True)
    ann = entra.add_user("ann@home.example")
    authority, ca_file = entra.authority(), entra.ca_file
    browser = ScriptedBrowser(entra, ann)
    program = await asyncio.to_thread(NaiveDesktop, app.client_id, authority, ca_file, browser)
    naive = await stage.measure("naive", PEOPLE, lambda _: program.token("User.Read"), kind="authorize")
    naive_windows = browser.windows
    stage.screen.outcome("naive", f"{_n(naive_windows, 'window')}, {naive.seconds:.1f} s")
    browser = ScriptedBrowser(entra, ann)
    client = PublicClient(
        app.client_id,
        authority=authority,
        ca_file=ca_file,
        instance_discovery=False,
        sign_in=Browser(open=browser),
    )
    tokens = TokenManager(client)
    ours = await stage.measure("aiomsal", PEOPLE, lambda _: _value(tokens, "User.Read"), kind="authorize")
    stage.screen.outcome("aiomsal", f"{_n(browser.windows, 'window')}, {ours.seconds:.1f} s")
    return (
        Figure("windows opened for the person", naive_windows, browser.windows, promised=1),
        Figure("callers without a token", naive.empty_handed, ours.empty_handed, promised=0),
        Figure("until all have it", naive.seconds, ours.seconds, unit="s"),
        _stall(naive, ours),
    )


SCENES: Final = (
    Scene(
        "cold start",
        f"{CROWD:,} coroutines need a token, and there is none",
        cold_start,
        "event: as many bare tasks that wait for one asyncio.Event, to compare",
    ),
    Scene("refresh", f"{CALLERS:,} coroutines; their token still works, but is due for a refresh", refresh_window),
    Scene(
        "first leaves",
        f"{CALLERS:,} coroutines, no token; the first gives up after {IMPATIENCE} s",
        first_leaves,
        "shared: the naive way in one asyncio.Task, which all await",
    ),
    Scene("outage", f"{CALLERS:,} coroutines; a refresh is due, and the authority answers 503", authority_down),
    Scene(
        "sign-in",
        f"{PEOPLE:,} coroutines need one person to sign in, by device code",
        one_sign_in,
        "naive: in a thread each, MSAL's cache, else acquire_token_by_device_flow",
    ),
    Scene(
        "window",
        f"{PEOPLE:,} coroutines need one person to sign in, in a browser",
        one_window,
        "naive: the same with acquire_token_interactive; the browser is scripted",
    ),
)


@contextmanager
def person(entra: FakeEntraProcess, username: str) -> Generator[Callable[[str], None]]:
    """Somebody who approves each code that is shown to them, a moment after it was; give how to show one."""
    codes: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()

    def read() -> None:
        while True:
            shown_at, code = codes.get()
            if not code:
                return
            time.sleep(max(0.0, shown_at + READING - time.monotonic()))
            entra.approve_device_code(code, username)

    reader = threading.Thread(target=read, name="aiomsal-demo-person", daemon=True)
    reader.start()
    try:
        yield lambda code: codes.put((time.monotonic(), code))
    finally:
        codes.put((0.0, ""))
        reader.join()


async def _value(tokens: TokenManager, scope: str = SCOPE) -> str:
    return (await tokens.get(scope)).value


async def _after(event: asyncio.Event) -> str:
    await event.wait()
    return "done"


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _asked(measured: Measured) -> str:
    return f"{_n(measured.requests, 'token request')}, {measured.seconds:.2f} s"


def _stalled(measured: Measured) -> str:
    return f"the loop stalled for {1000 * measured.stall:.0f} ms"


def _slowest(measured: Measured) -> float:
    return max(call.took for call in measured.calls)


def _others(measured: Measured) -> int:
    """Callers without a token, but for the first, who gave up."""
    return sum(not call.served for call in measured.calls[1:])


def _unserved(measured: Measured) -> str:
    others = len(measured.calls) - 1
    return f"{others - _others(measured):,} of the {others:,} others got a token"


def _stall(naive: Measured, ours: Measured) -> Figure:
    return Figure("longest stall of the event loop", naive.stall, ours.stall, unit="ms")
