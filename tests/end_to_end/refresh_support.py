"""Somebody who has signed in where a refresh token works once, and what shows whether one was ever sent twice."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel

from aiomsal import MemoryStore, Token
from aiomsal._spawn import here
from aiomsal.stores import ANY

from .support import ANN, House, Person, crowd, one_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from aiomsal import Account, DevicePrompt, TokenManager
    from aiomsal.testing import Application, FakeClock, FakeEntra

REFRESH, CODE = "token.refresh_token", "devicecode"
CALLBACK = "https://app.example/signed-in"


class Wire:
    """What MSAL takes as `http_client=`: each request ends in FakeEntra, and the refresh tokens on it are seen.

    The mutable state is what was seen, under a lock: the clients of a test send from many threads.
    """

    def __init__(self, entra: FakeEntra, *, timeout: float) -> None:
        self._entra = entra
        self._client = entra.http_client(timeout=timeout)
        self._lock = threading.Lock()
        self._aloft: Counter[str] = Counter()
        self.sent: list[str] = []
        """The refresh tokens, in the order in which they left."""
        self.most = 0
        """How many of one user were in the air at the same time, at most."""

    def get(self, url: str, **options: Any) -> Any:
        return self._client.get(url, **options)

    def post(self, url: str, *, data: Any = None, **options: Any) -> Any:
        refresh_token = data.get("refresh_token")
        if refresh_token is None:
            return self._client.post(url, data=data, **options)
        user = family_of(self._entra, refresh_token).user.username
        with self._lock:
            self.sent.append(refresh_token)
            self._aloft[user] += 1
            self.most = max(self.most, self._aloft[user])
        try:
            return self._client.post(url, data=data, **options)
        finally:
            with self._lock:
                self._aloft[user] -= 1


class Room(House):
    """The same within the process: no sockets, and a wire that can be watched."""

    def __init__(self, entra: FakeEntra, clock: FakeClock, *, timeout: float = 10.0) -> None:
        super().__init__(entra, cast("Any", None), clock)
        self.wire = Wire(entra, timeout=timeout)
        self.while_it_backs_off: Callable[[], Awaitable[object]] | None = None
        """Done once, between two attempts of a flight."""

    def common(self, timeout: Any) -> dict[str, Any]:
        return {
            "authority": self.entra.authority(),
            "http_client": self.wire,
            "instance_discovery": False,
            "timeout": timeout,
            "clock": self.clock,
        }

    def impatient(self, client: Any) -> Any:
        client = super().impatient(client)
        new_gate = client._desk._gate

        def gate(host: str) -> Any:
            gate = new_gate(host)
            sleep = gate._sleep

            async def back_off(seconds: float) -> None:
                await sleep(seconds)
                meanwhile, self.while_it_backs_off = self.while_it_backs_off, None
                if meanwhile is not None:
                    await meanwhile()

            gate._sleep = back_off
            return gate

        client._desk._gate = gate
        return client

    def pass_the_time(self, seconds: float) -> None:
        """Put all clocks forward: FakeEntra's, the managers', and the gates' own."""
        self.clock.advance(seconds)
        self.slept.append(seconds)

    def sign_ins_sent(self) -> list[int]:
        """From which sign-in the refresh tokens descend, as they were sent: 0 is the first."""
        known = families(self.entra)
        return [known.index(family_of(self.entra, refresh_token)) for refresh_token in self.wire.sent]


class SignedIn:
    """Ann at a manager: calls for her, named as this manager's client wants it.

    A program has its users enter a device code, a web application redirects them.
    """

    def __init__(self, house: House, kind: str, app: Application | None, options: dict[str, Any]) -> None:
        self._house = house
        self._kind = kind
        self._options = options
        self._user = ANN
        self.entra = house.entra
        if kind == "program":
            self._app = app or self.entra.add_application(public=True)
            self.tokens: TokenManager = house.program(Person(self._approve), app=self._app, **options)
        else:
            self._app = app or self.entra.add_application(redirect_uris=[CALLBACK])
            self.tokens = house.service(app=self._app, **options)
        self.token: Token
        """That of the first sign-in, for User.Read."""

    @property
    def account(self) -> Account:
        assert self.token.account is not None
        return self.token.account

    async def sign_in(self, username: str = ANN) -> Token:
        if self._kind == "program":
            self._user = username
            return await self.tokens.sign_in("User.Read")
        flow = await self.tokens.begin_sign_in("User.Read", redirect_uri=CALLBACK)
        return await self.tokens.complete_sign_in(flow, self.entra.authorize(flow.auth_uri, username).params)

    def beside(self) -> SignedIn:
        """Ann at another manager of the same application, as in another process on the same store."""
        other = SignedIn(self._house, self._kind, self._app, self._options)
        other.token = self.token
        return other

    async def get(self, scope: str, **options: Any) -> Token:
        return await self.tokens.get(scope, **self._named(options))

    async def get_silent(self, scope: str, **options: Any) -> Token:
        return await self.tokens.get_silent(scope, **self._named(options))

    async def still_works(self, **options: Any) -> None:
        """The refresh token held is the good one: it brings a token for a scope that nobody has asked for."""
        before = self.entra.count(REFRESH)
        one_token(await crowd(3, self.get_silent, f"Proof.{before}", **options))
        assert self.entra.count(REFRESH) == before + 1
        assert self.entra.requests[-1].status == 200
        assert revoked(self.entra) == 0

    def _named(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if self._kind == "program" else {"account": self.account, **options}

    def _approve(self, prompt: DevicePrompt) -> None:
        self.entra.approve_device_code(prompt.user_code, self._user)


async def signed_in(
    house: House, kind: str = "program", *, rotation: Any = "strict", app: Application | None = None, **options: Any
) -> SignedIn:
    """Ann, who has just signed in at a manager with these options."""
    house.entra.configure(rotation=rotation)
    ann = SignedIn(house, kind, app, options)
    ann.token = await ann.sign_in()
    return ann


def families(entra: FakeEntra) -> list[Any]:
    """The families of refresh tokens, one for each sign-in, the oldest first."""
    return list(dict.fromkeys(token.family for token in list(entra._state.refresh_tokens._tokens.values())))


def family_of(entra: FakeEntra, refresh_token: str) -> Any:
    return entra._state.refresh_tokens._tokens[refresh_token].family


def revoked(entra: FakeEntra) -> int:
    """How many families were revoked: a refresh token of each came a second time."""
    return sum(family.revoked for family in families(entra))


class SharedStore:
    """What managers share as processes do: it keeps tokens too, each of its ways suspends, and its locks exclude.

    On any number of event loops.
    """

    def __init__(self) -> None:
        self._memory = MemoryStore()
        self._holds: dict[tuple[str, str], tuple[anyio.Event, anyio.Event]] = {}

    def hold(self, operation: str, kind: str) -> tuple[anyio.Event, anyio.Event]:
        """Park the next such operation: the events that say that it has come, and let it go on."""
        self._holds[operation, kind] = events = anyio.Event(), anyio.Event()
        return events

    def let_all_pass(self) -> None:
        """Park nothing that has not come by now."""
        self._holds.clear()

    async def _pass(self, operation: str, key: str) -> None:
        await anyio.lowlevel.checkpoint()
        events = self._holds.pop((operation, key.split("/")[2]), None)
        if events is not None:
            events[0].set()
            await events[1].wait()

    async def get(self, key: str) -> bytes | None:
        await self._pass("get", key)
        return await self._memory.get(key)

    async def set(self, key: str, value: bytes, *, expires_at: float | None = None, expected: Any = ANY) -> bool:
        await self._pass("set", key)
        return await self._memory.set(key, value, expires_at=expires_at, expected=expected)

    async def delete(self, key: str, *, expected: Any = ANY) -> bool:
        await self._pass("delete", key)
        return await self._memory.delete(key, expected=expected)

    def lock(self, key: str, *, wait: bool = True) -> AbstractAsyncContextManager[bool]:
        return self._memory.lock(key, wait=wait)


async def when_the_loop_ends(function: Callable[[], object]) -> None:
    """Have a function called when this event loop, at its end, cancels what still runs on it."""
    begun = anyio.Event()

    async def wait() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            function()

    here().detach(wait)
    await begun.wait()  # a task that has not begun would just be dropped


class Ahead:
    """The clock of the asyncio loop that runs here, to be put forward: for timeouts, instead of waiting for them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._real = self._loop.time
        self._ahead = 0.0
        self._loop.time = lambda: self._real() + self._ahead  # type: ignore[method-assign]

    def by(self, seconds: float) -> None:
        self._ahead += seconds
