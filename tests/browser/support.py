"""What stands at both ends of a browser window: programs that ask for a sign-in, and sites of other people."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

import h11

from aiomsal import Browser, PublicClient, TokenManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal.testing import Application
    from tests.end_to_end.support import House

    from .chromium import Chromium

PASSWORD = "pä <&>"

SIGNED_IN = "You are signed in"
FAILED = "The sign-in did not succeed"
REFUSED = "This is not what the sign-in waits for"

OPENED, CLICKED, REDEEMED = "authorize", "sign_in", "token.authorization_code"
"""Kinds of requests to FakeEntra: a sign-in page came up, a button on it or on the next ones, a code for tokens."""


def program(house: House, sign_in: Any, *, app: Application | None = None) -> TokenManager:
    """The manager of a public client that asks people in this way."""
    app = app or house.entra.add_application(public=True)
    client = PublicClient(app.client_id, sign_in=sign_in, **house.common((5.0, 10.0)))
    return TokenManager(house.impatient(client), clock=house.clock)


def desktop(house: House, chromium: Chromium, *, app: Application | None = None) -> TokenManager:
    """The same, which opens its windows in this browser."""
    return program(house, Browser(open=chromium.open), app=app)


@dataclass(frozen=True)
class Visit:
    """A request that a site was sent."""

    method: str
    path: str
    params: dict[str, str]
    """Of the query of a GET, of the form of a POST."""
    cookies: dict[str, str]


@dataclass(frozen=True)
class Page:
    """What a site answers."""

    html: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """A web site on a port of its own of this machine, whose pages a coroutine makes, on the loop of the test."""

    def __init__(self, answer: Callable[[Visit], Awaitable[Page]]) -> None:
        self._answer = answer
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        http = h11.Connection(h11.SERVER)
        try:
            visit = await _heard(http, reader)
            if visit is not None:
                writer.write(_said(http, await self._answer(visit)))
                await writer.drain()
        except ConnectionError:  # the browser has left
            pass
        finally:
            self._connections.discard(writer)
            writer.close()


async def _heard(http: h11.Connection, reader: asyncio.StreamReader) -> Visit | None:
    """One request; None on a connection that was made ahead and not needed."""
    request, body = None, b""
    while True:
        match http.next_event():
            case h11.NEED_DATA:
                http.receive_data(await reader.read(2**16))
            case h11.Request() as request:
                pass
            case h11.Data() as data:
                body += data.data
            case h11.EndOfMessage():
                break
            case _:
                return None
    assert request is not None
    target = urlsplit(request.target.decode())
    cookies = SimpleCookie(dict(request.headers).get(b"cookie", b"").decode())
    return Visit(
        request.method.decode(),
        target.path,
        dict(parse_qsl(body.decode() if request.method == b"POST" else target.query)),
        {name: morsel.value for name, morsel in cookies.items()},
    )


def _said(http: h11.Connection, page: Page) -> bytes:
    body = f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">{page.html}'.encode()
    headers = [*page.headers.items(), ("Content-Type", "text/html; charset=utf-8"), ("Connection", "close")]
    head = h11.Response(status_code=page.status, headers=[*headers, ("Content-Length", str(len(body)))])
    return b"".join(http.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage()))
