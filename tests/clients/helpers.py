"""What a flight does with a client, and what stands in for waiting."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import anyio

from aiomsal import AuthorityError
from aiomsal._client import Acquired, Attempt
from aiomsal.clients._gate import Gate
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.clients.public import PublicClient
from aiomsal.sign_in.device_code import DeviceCode

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

GRAPH = "https://graph.microsoft.com/.default"


async def acquire(
    client: ConfidentialClient | PublicClient,
    *scopes: str,
    session: bytes | None = None,
    patience: float = 60.0,
    **options: Any,
) -> Acquired:
    """What a flight does: prepare and acquire until one of them has the last word."""
    request = client.request(scopes, options)
    failure: AuthorityError | None = None
    deadline = anyio.current_time() + patience
    for number in itertools.count():
        await client.prepare(request, Attempt(number, failure, deadline))
        try:
            return await client.acquire(request, session)
        except AuthorityError as error:
            failure = error
    raise AssertionError


def confidential(entra: FakeEntra, app: Application, credential: Any = None, **options: Any) -> ConfidentialClient:
    if not {"authority", "tenant", "oidc_authority"} & options.keys():
        options["authority"] = entra.authority()
    options.setdefault("http_client", entra.http_client())
    return impatient(ConfidentialClient(app.client_id, credential or app.client_secret, **options))


def public(entra: FakeEntra, app: Application, **options: Any) -> PublicClient:
    if not {"authority", "tenant", "oidc_authority"} & options.keys():
        options["authority"] = entra.authority()
    options.setdefault("http_client", entra.http_client())
    options.setdefault("sign_in", DeviceCode(lambda _: None, sleep=no_sleep))
    return impatient(PublicClient(app.client_id, **options))


async def signed_in(entra: FakeEntra, client: PublicClient, username: str = "ann@home.example") -> Acquired:
    """Sign in by a device code that is approved at once."""
    entra.configure(auto_approve=username, device_code_interval=0)
    return await client.sign_in(client.request(("User.Read",), {}))


async def no_sleep(_seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


def impatient(client: Any) -> Any:
    """The client with a gate that waits for nothing: its back-off is drawn as zero, and its sleep is none."""
    client._desk._gate = lambda host: Gate(host, random=lambda: 0.0, sleep=no_sleep)
    return client


class Waits:
    """A clock and a sleep for a gate: sleeping moves the clock, and is recorded."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.now += seconds


def first(deadline: float = math.inf) -> Attempt:
    return Attempt(0, None, deadline)


class Listening:
    """An http_client that ends in FakeEntra, and remembers where it was asked to go."""

    def __init__(self, entra: FakeEntra) -> None:
        self._client = entra.http_client()
        self.urls: list[str] = []

    def get(self, url: str, **options: Any) -> Any:
        self.urls.append(url)
        return self._client.get(url, **options)

    def post(self, url: str, **options: Any) -> Any:
        self.urls.append(url)
        return self._client.post(url, **options)
