"""Managers in front of a real server, crowds of callers, and what stands in for waiting."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from aiomsal import ConfidentialClient, DeviceCode, DevicePrompt, PublicClient, Token, TokenManager
from aiomsal.clients._gate import Gate as AuthorityGate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.testing import Application, EntraServer, FakeClock, FakeEntra, Gate

GRAPH = "https://graph.microsoft.com/.default"
VAULT = "https://vault.azure.net/.default"
ANN, BEN = "ann@home.example", "ben@home.example"
PATIENCE = 20.0
"""Seconds after which something that should have happened counts as a failure; nothing waits for so long."""


class House:
    """A FakeEntra that serves HTTPS, and the managers of its applications."""

    def __init__(self, entra: FakeEntra, server: EntraServer, clock: FakeClock) -> None:
        self.entra = entra
        self.server = server
        self.clock = clock
        entra.add_user(ANN)
        entra.add_user(BEN)
        self.slept: list[float] = []
        """What the gates of the clients have slept, in seconds."""

    def service(
        self, credential: Any = None, *, app: Application | None = None, timeout: Any = (5.0, 10.0), **options: Any
    ) -> TokenManager:
        app = app or self.entra.add_application()
        client = ConfidentialClient(app.client_id, credential or app.client_secret, **self.common(timeout))
        return TokenManager(self.impatient(client), clock=self.clock, **options)

    def program(self, person: Person | None = None, *, app: Application | None = None, **options: Any) -> TokenManager:
        """The manager of a public client, whose users are Ann and Ben."""
        app = app or self.entra.add_application(public=True)
        sign_in = None if person is None else DeviceCode(person.told, sleep=person.sleep, clock=self.clock)
        client = PublicClient(app.client_id, sign_in=sign_in, **self.common((5.0, 10.0)))
        return TokenManager(self.impatient(client), clock=self.clock, **options)

    def common(self, timeout: Any) -> dict[str, Any]:
        return {
            "authority": self.server.authority(),
            "ca_file": self.server.ca_file,
            "instance_discovery": False,
            "timeout": timeout,
            "clock": self.clock,
        }

    def impatient(self, client: Any) -> Any:
        """The client with a gate that sleeps by its own clock only, and whose back-off is always the longest."""
        now = time.monotonic()

        def clock() -> float:
            return now + sum(self.slept)

        async def sleep(seconds: float) -> None:
            await anyio.lowlevel.checkpoint()
            self.slept.append(seconds)

        client._desk._gate = lambda host: AuthorityGate(host, clock=clock, random=lambda: 1.0, sleep=sleep)
        return client


class Person:
    """Somebody who is shown device codes. The waits between two polls end when the test says so, or at once."""

    def __init__(self, decides: Callable[[DevicePrompt], object] = lambda _: None, *, patient: bool = False) -> None:
        self._decides = decides
        self._patient = patient
        self.prompts: list[DevicePrompt] = []
        self.waits = 0
        """How many waits have begun."""
        self._waiting: deque[anyio.Event] = deque()

    def told(self, prompt: DevicePrompt) -> None:
        self.prompts.append(prompt)
        self._decides(prompt)

    async def sleep(self, _seconds: float) -> None:
        self.waits += 1
        if not self._patient:
            await anyio.lowlevel.checkpoint()
            return
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()

    def let_poll(self) -> None:
        while self._waiting:
            self._waiting.popleft().set()


def approving(entra: FakeEntra, username: str = ANN) -> Person:
    """Somebody who enters the code at once."""
    return Person(lambda prompt: entra.approve_device_code(prompt.user_code, username))


class Caller:
    """One call in a task of its own, and what came of it."""

    def __init__(self, group: Any, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: Any = None
        self.over = False
        group.start_soon(self._call, functools.partial(function, *args, **options))

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> None:
        with self.scope:
            try:
                self.outcome = await call()
            except Exception as error:
                self.outcome = error
        self.over = True

    @property
    def token(self) -> Token:
        assert isinstance(self.outcome, Token), repr(self.outcome)
        return self.outcome


async def crowd(n: int, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> list[Any]:
    """What so many equal calls at the same time come to: tokens and exceptions."""
    async with anyio.create_task_group() as group:
        callers = [Caller(group, function, *args, **options) for _ in range(n)]
    return [caller.outcome for caller in callers]


def one_token(outcomes: list[Any]) -> Token:
    """The token that all of them are."""
    for outcome in outcomes:
        assert isinstance(outcome, Token), repr(outcome)
    assert len({outcome.value for outcome in outcomes}) == 1
    return outcomes[0]


async def arrived(gate: Gate, n: int = 1) -> None:
    """Return when so many requests wait at the gate; the loop runs meanwhile."""
    await anyio.to_thread.run_sync(gate.wait_for, n)


async def settle() -> None:
    """Let every task run until it waits for something from outside."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], object]) -> None:
    """Return when something that another thread brings about has happened."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await anyio.to_thread.run_sync(time.sleep, 0.001)


async def landed(tokens: TokenManager) -> None:
    """Return when nothing is aloft."""
    await until(lambda: tokens.stats().flights == 0)
    await settle()


def run_asyncio(function: Callable[..., Any], *args: Any) -> Any:
    return asyncio.run(function(*args))


def run_uvloop(function: Callable[..., Any], *args: Any) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(function(*args))


def run_trio(function: Callable[..., Any], *args: Any) -> Any:
    import trio

    return trio.run(function, *args)
