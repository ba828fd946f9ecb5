"""What the tests of the browser sign-in share: an authority by hand, a person's window, and raw HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import anyio.lowlevel

from aiomsal import Token
from aiomsal._asked import SignInFlow, SignInRequest
from aiomsal._client import Acquired
from aiomsal._token import TokenRequest
from aiomsal.sign_in.browser import Browser
from tests.core.support import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anyio.abc import SocketStream, TaskGroup

    from aiomsal.sign_in import DeviceAuthorization, Pending

ASKED = SignInRequest(TokenRequest("app", "https://h/t", "user", ("User.Read",)))
DONE = Acquired(Token("at", 2.0, 2.0), b"session")
STATE = "Zm9yZ2VyeS1pcy1mdXRpbGU"
URL = f"https://h/t/authorize?client_id=app&state={STATE}&nonce=n0nce"
FORM = {"code": "c0de", "state": STATE, "session_state": "s"}
PATIENCE = 15.0


class Authority:
    """`SignInSteps` by hand. What is redeemed succeeds, or fails with `error`; parked until `release` if `parked`."""

    def __init__(self, *, state: str = STATE, auth_uri: str = URL) -> None:
        self.state = state
        self.auth_uri = auth_uri
        self.result: Acquired = DONE
        self.error: Exception | None = None
        self.refuses_to_start: Exception | None = None
        self.redirect_uris: list[str] = []
        self.asked: list[SignInRequest] = []
        self.redeemed: list[Mapping[str, str]] = []
        self.cancelled = 0
        self.deadlines: list[float] = []
        self.redeeming = anyio.Event()
        self.release = anyio.Event()
        self.release.set()

    def park(self) -> None:
        self.release = anyio.Event()

    async def start_authorization(self, asked: SignInRequest, redirect_uri: str) -> SignInFlow:
        await anyio.lowlevel.checkpoint()
        self.asked.append(asked)
        self.redirect_uris.append(redirect_uri)
        if self.refuses_to_start is not None:
            raise self.refuses_to_start
        return SignInFlow(auth_uri=self.auth_uri, state=self.state, redirect_uri=redirect_uri)

    async def redeem_authorization(self, flow: SignInFlow, params: Mapping[str, str]) -> Acquired:
        assert flow.state == self.state
        self.redeemed.append(params)
        self.deadlines.append(anyio.current_effective_deadline())
        self.redeeming.set()
        try:
            await self.release.wait()
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.result

    async def start_device_code(self, asked: SignInRequest) -> DeviceAuthorization:
        raise AssertionError

    async def poll_device_code(self, asked: SignInRequest, authorization: DeviceAuthorization) -> Acquired | Pending:
        raise AssertionError


class Sitting(Caller):
    """One sign-in under way, in a window that a person sits in front of."""

    def __init__(self, group: TaskGroup, authority: Authority | None = None, **options: Any) -> None:
        self.authority = authority or Authority()
        self.urls: list[str] = []
        self._opened = anyio.Event()
        browser = Browser(**{"open": self._open, **options})
        super().__init__(group, lambda: browser.sign_in(self.authority, ASKED))

    def _open(self, url: str) -> bool:
        self.urls.append(url)
        self._opened.set()
        return True

    async def opened(self) -> Sitting:
        with anyio.fail_after(PATIENCE):
            await self._opened.wait()
        return self

    @property
    def port(self) -> int:
        return int(self.authority.redirect_uris[-1].rpartition(":")[2])

    async def over(self) -> None:
        with anyio.fail_after(PATIENCE):
            while self.outcome == "waiting":
                await anyio.sleep(0.001)


# -- raw HTTP --------------------------------------------------------------------------------------------------------


def request(
    port: int,
    form: Mapping[str, str] | bytes | str = FORM,
    *,
    line: str = "POST / HTTP/1.1",
    host: str | None = "localhost",
    headers: tuple[str, ...] = ("Content-Type: application/x-www-form-urlencoded",),
    length: int | None = None,
) -> bytes:
    """What a browser posts, or something near it. A host without a colon gets the port."""
    body = form if isinstance(form, bytes) else (form if isinstance(form, str) else urlencode(form)).encode()
    lines = [line]
    if host is not None:
        lines.append(f"Host: {host}" if ":" in host else f"Host: {host}:{port}")
    lines += headers
    if length is not None or not any("Transfer-Encoding" in header for header in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        line, *lines = head.decode("ascii").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", line)
        assert match, f"not a response: {data!r}"
        self.status = int(match[1])
        pairs = [(name.lower(), value) for name, _, value in (each.partition(": ") for each in lines)]
        self.headers = dict(pairs)
        assert len(self.headers) == len(pairs), "a header twice"
        self.body = body.decode()

    def check(self, *, head_only: bool = False) -> None:
        """What holds for every response."""
        assert self.headers["connection"] == "close"
        assert self.headers["cache-control"] == "no-store"
        assert self.headers["x-content-type-options"] == "nosniff"
        assert self.headers["referrer-policy"] == "no-referrer"
        assert self.headers["content-type"] == "text/html; charset=utf-8"
        assert not [name for name in self.headers if name.startswith("access-control")], "no other site may read it"
        policy = self.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        if head_only:
            assert self.body == ""
            return
        assert int(self.headers["content-length"]) == len(self.body.encode())
        for style in re.findall("<style>(.*?)</style>", self.body, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy, "the browser would not apply it"
        assert "You may close this window" in self.body


async def connect(port: int) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", port)


async def heard(stream: SocketStream) -> bytes:
    """All that comes until the other side ends."""
    data = b""
    with anyio.fail_after(PATIENCE):
        try:
            while True:
                data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return data


async def exchange(port: int, *parts: bytes, eof: bool = False) -> bytes:
    """Send this over a connection of its own, and hear what comes."""
    async with await connect(port) as stream:
        try:
            for part in parts:
                await stream.send(part)
            if eof:
                await stream.send_eof()
        except anyio.BrokenResourceError:
            pass
        return await heard(stream)


async def nobody_listens(port: int) -> bool:
    try:
        stream = await connect(port)
    except OSError:
        return True
    await stream.aclose()
    return False


# -- what must not be shown ------------------------------------------------------------------------------------------


def everything_in(error: BaseException) -> Iterator[str]:
    """All that is seen of an exception, and of those behind it."""
    while True:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        yield "".join(traceback.format_exception(error))
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following
