"""What the manager's tests share: calls to watch, and a store that several managers share as processes would."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from aiomsal import Account, Token, TokenManager
from aiomsal.stores import ANY
from aiomsal.testing import FakeClock
from aiomsal.testing._scripted import ScriptedAcquisition, ScriptedClient, ScriptedUserClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

START = 1_800_000_000.0
SCOPE = "https://graph.example/.default"
ALICE = Account("alice-id.tenant", "authority.example", "alice@example.com", "tenant")
BOB = Account("bob-id.tenant", "authority.example", "bob@example.com", "tenant")


async def settle() -> None:
    """Let every task on this loop go as far as it can."""
    for _ in range(25):
        await anyio.lowlevel.checkpoint()


def at_once(call: Awaitable[Token]) -> Token:
    """The result of a coroutine that never suspends; fails if it does."""
    try:
        call.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        return stop.value
    call.close()  # type: ignore[attr-defined]
    raise AssertionError("it suspended")


class Call:
    """A call in a task of its own, and what came of it."""

    def __init__(self, group: Any, function: Callable[..., Awaitable[Token]], *args: Any, **options: Any) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: Token | BaseException | None = None
        self._call = lambda: function(*args, **options)
        group.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._call()
            except Exception as error:
                self.outcome = error

    @property
    def error(self) -> Any:
        assert isinstance(self.outcome, BaseException), self.outcome
        return self.outcome

    @property
    def value(self) -> str:
        assert isinstance(self.outcome, Token), self.outcome
        return self.outcome.value


class SharedStore:
    """A store in a dict. `failing` names operations that raise, `hold` parks one, `lapsed` locks exclude nobody."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.failing: set[str] = set()
        self.lapsed = False
        self.writes: list[tuple[str, bytes]] = []
        self._locks: dict[str, anyio.Lock] = {}
        self._holds: dict[tuple[str, str], tuple[anyio.Event, anyio.Event]] = {}

    def hold(self, operation: str, kind: str) -> tuple[anyio.Event, anyio.Event]:
        """Park the next such operation: the events that say it has come, and let it go on."""
        self._holds[operation, kind] = events = anyio.Event(), anyio.Event()
        return events

    async def _pass(self, operation: str, key: str) -> None:
        await anyio.lowlevel.checkpoint()
        events = self._holds.pop((operation, key.split("/")[2]), None)
        if events is not None:
            events[0].set()
            await events[1].wait()
        if operation in self.failing:
            raise OSError("secret-of-the-store")

    async def get(self, key: str) -> bytes | None:
        await self._pass("get", key)
        return self.values.get(key)

    async def set(self, key: str, value: bytes, *, expires_at: float | None = None, expected: Any = ANY) -> bool:
        await self._pass("set", key)
        if expected is not ANY and self.values.get(key) != expected:
            return False
        self.values[key] = value
        self.writes.append((key, value))
        return True

    async def delete(self, key: str, *, expected: Any = ANY) -> bool:
        await self._pass("delete", key)
        if expected is not ANY and self.values.get(key, expected) != expected:
            return False
        self.values.pop(key, None)
        return True

    @asynccontextmanager
    async def lock(self, key: str, *, wait: bool = True) -> AsyncIterator[bool]:
        await self._pass("lock", key)
        lock = self._locks.setdefault(key, anyio.Lock())
        if self.lapsed:
            yield True
            return
        if not wait:
            try:
                lock.acquire_nowait()
            except anyio.WouldBlock:
                yield False
                return
        else:
            await lock.acquire()
        try:
            yield True
        finally:
            lock.release()
            with anyio.CancelScope(shield=True):
                await self._pass("unlock", key)

    def of(self, kind: str) -> list[str]:
        return [key for key in self.values if f"/{kind}/" in key]


class Rig:
    """A manager with its client and clock; `beside` is another process with the same store and authority."""

    def __init__(self, client: type[ScriptedClient] = ScriptedClient, *, beside: Rig | None = None, **options: Any):
        keys = ("script", "absorbs", "retries", "can_ask", "one_session")
        mine = {key: options.pop(key) for key in keys if key in options}
        self.clock = FakeClock(START) if beside is None else beside.clock
        self.client: Any = client(clock=self.clock, **mine)
        if beside is not None:  # one authority numbers what it issues
            self.client._count = beside.client._count
            if isinstance(self.client, ScriptedUserClient):
                self.client.sign_ins._count = beside.client._count
            options.setdefault("store", beside.tokens._shelf._store)
        self.tokens = TokenManager(self.client, clock=self.clock, **options)

    @property
    def asked(self) -> int:
        return len(self.client.acquisitions)

    async def hold(self, *scopes: str, landing: dict[str, Any] | None = None, **options: Any) -> Token:
        """Have the manager hold a token."""
        async with anyio.create_task_group() as group:
            call = Call(group, self.tokens.get, *(scopes or (SCOPE,)), **options)
            (await self.parked()).land(**(landing or {}))
        assert isinstance(call.outcome, Token), call.outcome
        return call.outcome

    async def enrol(self, *accounts: Account, scope: str = "openid") -> None:
        """Sign accounts in."""
        for account in accounts:
            async with anyio.create_task_group() as group:
                Call(group, self.tokens.sign_in, scope)
                (await self.asking()).land(account=account)

    async def enrol_by_hand(self, *accounts: Account) -> None:
        """The same where the client cannot ask."""
        for account in accounts:
            version = next(self.client._count)
            await self.tokens._sessions.enter(
                "client", self.client.sign_in_session(account, f"refresh-{version}", version)
            )

    async def parked(self) -> ScriptedAcquisition:
        """The acquisition aloft, begun last; waits for one."""
        return await _last(self.client)

    async def asking(self) -> ScriptedAcquisition:
        """The same for sign-ins."""
        return await _last(self.client.sign_ins)

    async def session(self) -> bytes | None:
        session = await self.tokens._sessions.load("client")
        return None if session is None else session.data


async def _last(client: ScriptedClient) -> ScriptedAcquisition:
    await settle()
    with anyio.fail_after(5):
        while not client.parked:
            await anyio.lowlevel.checkpoint()
    return client.parked[-1]


def people(**options: Any) -> Rig:
    return Rig(ScriptedUserClient, **options)
