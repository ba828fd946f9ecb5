"""Applications of the facade that end in FakeEntra, and what stands in for what FakeEntra does not do."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiomsal import msal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.testing import Application, FakeEntra

ANN, BEN = "ann@home.example", "ben@home.example"
REDIRECT_URI = "https://app.example/signed-in"
GRAPH = ["https://graph.microsoft.com/.default"]
MAIL = ["Mail.Read"]


def confidential(entra: FakeEntra, app: Application, **options: Any) -> msal.ConfidentialClientApplication:
    options.setdefault("authority", entra.authority())
    options.setdefault("http_client", entra.http_client())
    options.setdefault("client_credential", app.client_secret)
    return msal.ConfidentialClientApplication(app.client_id, **options)


def public(entra: FakeEntra, app: Application, **options: Any) -> msal.PublicClientApplication:
    options.setdefault("authority", entra.authority())
    options.setdefault("http_client", entra.http_client())
    return msal.PublicClientApplication(app.client_id, **options)


async def signed_in(
    entra: FakeEntra, app: msal.PublicClientApplication, username: str = ANN, scopes: list[str] = MAIL
) -> dict[str, Any]:
    """Sign in as a web application would, and return the account."""
    flow = await app.initiate_auth_code_flow(scopes, "http://localhost", response_mode="form_post")
    result = await app.acquire_token_by_auth_code_flow(flow, entra.authorize(flow["auth_uri"], username).params)
    assert "access_token" in result, result
    [account] = await app.get_accounts(username)
    return account


async def crowd(call: Callable[[], Awaitable[Any]], size: int = 20) -> list[Any]:
    """What so many get who call at the same time."""
    return await asyncio.gather(*[call() for _ in range(size)], return_exceptions=True)


async def arrived(gate: Any, n: int = 1) -> None:
    """When so many requests wait at a gate, and nothing more happens on the loop."""
    await asyncio.to_thread(gate.wait_for, n)
    await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except Exception as error:
        return error


class Desk:
    """An `http_client` that ends in FakeEntra, but for the token requests, which it answers itself, and remembers."""

    def __init__(self, entra: FakeEntra, answer: Callable[[dict[str, str]], tuple[int, dict[str, Any]]]) -> None:
        self._entra = entra.http_client()
        self._answer = answer
        self.posts: list[dict[str, str]] = []
        self.open = threading.Event()
        self.open.set()

    def get(self, url: str, **options: Any) -> Any:
        return self._entra.get(url, **options)

    def post(self, url: str, *, data: dict[str, str], **options: Any) -> Any:
        self.posts.append(dict(data))
        assert self.open.wait(10)
        status, body = self._answer(data)
        headers = body.pop("headers", {})
        return SimpleNamespace(status_code=status, text=json.dumps(body), headers=headers)


def token(text: str = "made-up", **more: Any) -> dict[str, Any]:
    return {"access_token": text, "token_type": "Bearer", "expires_in": 3600, **more}


class Machine:
    """The metadata endpoint of a virtual machine, as an `http_client`."""

    def __init__(self) -> None:
        self.gets: list[tuple[str, dict[str, str]]] = []
        self.open = threading.Event()
        self.open.set()
        self.answer: tuple[int, dict[str, Any]] = (200, token("of the machine", expires_in="3600", resource="R"))

    def get(self, url: str, *, params: dict[str, str], **_: Any) -> Any:
        self.gets.append((url, params))
        assert self.open.wait(10)
        status, body = self.answer
        return SimpleNamespace(status_code=status, text=json.dumps(body), headers={})

    def post(self, url: str, **_: Any) -> Any:
        raise AssertionError(url)

    def close(self) -> None: ...
