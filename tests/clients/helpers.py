"""What a flight does with a client, and what stands in for waiting."""

from __future__ import annotations

import base64
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import anyio

from aiomsal import AuthorityError
from aiomsal._client import Acquired, Attempt
from aiomsal._token import decode_claims
from aiomsal.clients._gate import Gate
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.clients.public import PublicClient
from aiomsal.sign_in.device_code import DeviceCode

if TYPE_CHECKING:
    from aiomsal import SignInFlow
    from aiomsal.testing import Application, FakeEntra

GRAPH = "https://graph.microsoft.com/.default"
REDIRECT_URI = "https://app.example/signed-in"
ANN, BEN = "ann@home.example", "ben@home.example"


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
    return await client.sign_in(client.sign_in_request(("User.Read",), {}))


async def answer_to(
    entra: FakeEntra,
    client: ConfidentialClient | PublicClient,
    username: str = ANN,
    scope: str = "User.Read",
    **asked: Any,
) -> tuple[SignInFlow, dict[str, str]]:
    """Begin a sign-in and be the user who signs in: the flow, and what the browser brings to the web application."""
    request = client.sign_in_request((scope,), asked)
    flow = await client.begin_sign_in(request, redirect_uri=REDIRECT_URI, response_mode="query")
    return flow, entra.authorize(flow.auth_uri, username).params


async def visited(
    entra: FakeEntra, client: ConfidentialClient | PublicClient, username: str = ANN, **asked: Any
) -> Acquired:
    """Sign in at a web application."""
    return await client.complete_sign_in(*await answer_to(entra, client, username, **asked))


def home(acquired: Acquired) -> str:
    """The home account id of whoever signed in."""
    assert acquired.token.account is not None
    return acquired.token.account.home_account_id


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


class Forger:
    """An authority that puts other claims into its ID tokens; None leaves one out. It answers in FakeEntra's place."""

    def __init__(self, entra: FakeEntra, **claims: Any) -> None:
        self._client = entra.http_client()
        self.get = self._client.get
        self.claims = claims

    def post(self, url: str, **options: Any) -> Any:
        response = self._client.post(url, **options)
        body = json.loads(response.text)
        if self.claims and "id_token" in body:
            header, _, signature = body["id_token"].split(".")
            claims = {**decode_claims(body["id_token"]), **self.claims}
            kept = json.dumps({name: value for name, value in claims.items() if value is not None})
            payload = base64.urlsafe_b64encode(kept.encode()).rstrip(b"=").decode()
            response.text = json.dumps({**body, "id_token": f"{header}.{payload}.{signature}"})
        return response


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
