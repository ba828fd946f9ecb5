"""The HTTP client given to MSAL, over real HTTPS and apart."""

from __future__ import annotations

import email.utils
import http.server
import json
import os
import socket
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal import AuthorityUnavailable, TokenError
from aiomsal.clients._exchange import Exchange, current
from aiomsal.clients._transport import Transport, TransportFailure, TransportOptions, _body, _patience
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.testing._entra.tls import make_server_context

from .helpers import GRAPH, acquire, confidential, first, impatient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.testing import Application, FakeEntra

pytestmark = pytest.mark.anyio


class Answers:
    """An http_client that answers the same to everything, and remembers what it was asked."""

    def __init__(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.status_code, self.headers = status, headers or {}
        self.text = body if isinstance(body, str) else json.dumps(body)
        self.asked: list[dict[str, Any]] = []

    def get(self, url: str, **options: Any) -> Answers:
        self.asked.append({"url": url, **options})
        return self

    post = get


def transport(client: Any, **options: Any) -> tuple[Transport, Exchange]:
    cache: Any = None
    exchange = Exchange(cache, 0.0)
    current.set(exchange)
    return Transport(TransportOptions(client, **options), connections=1), exchange


URL = "https://login.example/t/oauth2/v2.0/token"


def test_our_correlation_id_goes_over_msal_s_own() -> None:
    answers = Answers({})
    answers.text = '{"a": 1}'
    sender, exchange = transport(answers)
    sender.post(URL, headers={"client-request-id": "MSAL's", "Accept": "application/json"}, data={})
    assert answers.asked[0]["headers"]["client-request-id"] == exchange.correlation_id
    assert answers.asked[0]["headers"]["Accept"] == "application/json"


@pytest.mark.parametrize("url", ["http://login.example/t/token", "ftp://x/y", "http://169.254.169.254/metadata/x"])
def test_nothing_is_sent_but_by_https(url: str) -> None:
    answers = Answers({"a": 1})
    sender, _ = transport(answers)
    with pytest.raises(TransportFailure, match="https"):
        sender.post(url, data={"client_secret": "hunter2-hunter2"})
    with pytest.raises(TransportFailure, match="https"):
        sender.get(url)
    assert answers.asked == []


def test_the_reply_is_noted_for_the_exchange() -> None:
    sender, exchange = transport(Answers({"error": "slow"}, 429, {"retry-AFTER": "7"}))
    sender.post(URL, data={})
    assert exchange.reply is not None
    assert (exchange.reply.status_code, exchange.reply.retry_after) == (429, 7.0)
    assert exchange.reply.body == {"error": "slow"}
    assert exchange.trouble == ""


@pytest.mark.parametrize(
    "body", ["<html>", "", "[]", "1", "[" * 100_000], ids=["html", "nothing", "list", "number", "deep"]
)
def test_what_is_no_json_object_is_never_shown_to_msal(body: str) -> None:
    sender, exchange = transport(Answers(body))
    with pytest.raises(TransportFailure, match="no JSON object"):
        sender.post(URL, data={})
    assert exchange.trouble == "", "somebody answered"


def test_a_redirect_is_not_followed() -> None:
    sender, _ = transport(Answers("", 302, {"Location": "https://evil.example"}))
    with pytest.raises(TransportFailure, match="redirects"):
        sender.post(URL, data={})


def test_an_error_description_does_not_echo_what_was_sent() -> None:
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    said = f"bad secret hunter2-hunter2, bad assertion {token}, bad code {'x' * 120}\r\nTrace ID: 1"
    sender, _ = transport(Answers({"error": "invalid_client", "error_description": said}, 401))
    reply = sender.post(URL, data={"client_secret": "hunter2-hunter2"})
    described = reply.body["error_description"]
    assert described == "bad secret [hidden], bad assertion [hidden], bad code [hidden] Trace ID: 1"
    assert json.loads(reply.text) == reply.body


def test_what_requests_raises_goes_no_further() -> None:
    class Broken:
        def post(self, _url: str, **options: Any) -> Any:
            raise ConnectionError(options["data"])

        get = post

    sender, exchange = transport(Broken())
    with pytest.raises(TransportFailure) as caught:
        sender.post(URL, data={"refresh_token": "1." + "r" * 110})
    assert "rrrr" not in repr(caught.value)
    assert "rrrr" not in repr(caught.value.__cause__)
    assert caught.value.__context__ is None
    assert exchange.trouble


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("7.5", 7.5), ("1e99", 3600.0), ("nan", None), ("inf", None), ("soon", None)],
)
def test_retry_after_is_read_with_care(text: str, seconds: float | None) -> None:
    assert _patience(text) == seconds


def test_retry_after_may_be_a_date() -> None:
    patience = _patience(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert patience is not None
    assert 98 < patience <= 100


# -- our own client, over sockets ------------------------------------------------------------------------------------


def over_https(app: Application, server: Any, **options: Any) -> ConfidentialClient:
    options = {"authority": server.authority(), "ca_file": server.ca_file, "instance_discovery": False, **options}
    return impatient(ConfidentialClient(app.client_id, app.client_secret, **options))


async def test_our_own_client_speaks_https_to_an_authority_whose_ca_it_was_given(
    fake_entra: FakeEntra, service: Application
) -> None:
    with fake_entra.serve() as server:
        token = (await acquire(over_https(service, server), GRAPH)).token
    assert token.tenant_id == fake_entra.tenant_id


@pytest.mark.parametrize(
    "contents", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_ca_file_that_cannot_be_read_is_told_at_once_until_it_can(
    contents: bytes | None, fake_entra: FakeEntra, service: Application, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if contents is not None:
        path.write_bytes(contents)
    with fake_entra.serve() as server:
        client = over_https(service, server, ca_file=path)
        for _ in range(2):
            with pytest.raises(TokenError, match=r"ca\.pem' holds no certificates") as caught:
                await client.prepare(client.request((GRAPH,), {}), first())
            assert type(caught.value) is TokenError, "nothing that anybody tries again after"
            assert caught.value.code == "unusable_ca_file"
        assert client._desk.gate._strikes == 0
        assert fake_entra.count() == 0
        path.write_bytes(Path(server.ca_file).read_bytes())
        assert (await acquire(client, GRAPH)).token


async def test_a_directory_of_certificates_will_do(fake_entra: FakeEntra, service: Application, tmp_path: Path) -> None:
    with fake_entra.serve() as server:
        (tmp_path / "ca.pem").write_bytes(Path(server.ca_file).read_bytes())
        client = over_https(service, server, ca_file=tmp_path)  # not hashed as OpenSSL wants it: nobody is trusted
        with pytest.raises(AuthorityUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await acquire(client, GRAPH)


async def test_a_ca_nobody_named_is_not_trusted_whatever_the_environment_says(
    fake_entra: FakeEntra, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_entra.serve() as server:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(server.ca_file))
        with pytest.raises(AuthorityUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.*pass ca_file="):
            await acquire(over_https(service, server, ca_file=None), GRAPH)
    assert fake_entra.count() == 0


async def test_netrc_does_not_replace_the_credential(
    fake_entra: FakeEntra, service: Application, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login somebody password else")
    monkeypatch.setenv("NETRC", os.fspath(tmp_path / "netrc"))
    with fake_entra.serve() as server:
        assert (await acquire(over_https(service, server), GRAPH)).token


async def test_loopback_is_asked_without_the_environment_s_proxy(
    fake_entra: FakeEntra, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")
    with fake_entra.serve() as server:
        assert (await acquire(over_https(service, server), GRAPH)).token


async def test_the_environment_s_proxy_is_used_by_default_and_one_that_is_named_always(
    fake_entra: FakeEntra, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_proxy() as (url, asked):
        monkeypatch.setenv("HTTPS_PROXY", url)
        away: dict[str, Any] = {"authority": "https://login.example/t", "instance_discovery": False}
        with pytest.raises(AuthorityUnavailable, match=r"ProxyError|403"):
            await acquire(impatient(ConfidentialClient(service.client_id, "secret", **away)), GRAPH)
        assert set(asked) == {"login.example:443"}
        asked.clear()
        with fake_entra.serve() as server:
            with pytest.raises(AuthorityUnavailable):
                await acquire(over_https(service, server, proxies={"https": url}), GRAPH)
            assert asked
            asked.clear()
            assert (await acquire(over_https(service, server, proxies={}), GRAPH)).token
            assert asked == []


@contextmanager
def a_proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that refuses, and remembers what it was asked for."""
    asked: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


async def test_a_hanging_authority_lets_the_thread_go_after_the_timeout(
    fake_entra: FakeEntra, service: Application
) -> None:
    with fake_entra.serve() as server:
        client = over_https(service, server, timeout=(5.0, 0.05))
        fake_entra.fault("token", hang=True)
        with pytest.raises(AuthorityUnavailable, match="ReadTimeout"):
            await acquire(client, GRAPH)


async def test_nobody_listening_is_an_outage(service: Application) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    authority = f"https://127.0.0.1:{port}/t"
    client = ConfidentialClient(service.client_id, "secret", authority=authority, instance_discovery=False)
    with pytest.raises(AuthorityUnavailable, match=r"[Cc]onnection refused") as caught:
        await acquire(impatient(client), GRAPH)
    assert caught.value.status is None


def test_connections_are_kept_cookies_are_not_and_redirects_are_not_followed(tmp_path: Path) -> None:
    context, ca_file = make_server_context(tmp_path)
    seen: list[tuple[str | None, int]] = []

    class Cookies(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.headers["Cookie"], self.client_address[1]))
            self.send_response(200 if self.path == "/t/token" else 302)
            self.send_header("Location", "/t/token")
            self.send_header("Set-Cookie", "fpc=user-a; Path=/")
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b'{"a": 1}')

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cookies) as server:
        server.daemon_threads, server.block_on_close = True, False  # they wait for what the kept connection may bring
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        sender, _ = transport(None, ca_file=str(ca_file))
        for _ in range(3):
            sender.post(f"https://localhost:{server.server_port}/t/token", data={"a": "b"})
        with pytest.raises(TransportFailure, match="redirects"):
            sender.post(f"https://localhost:{server.server_port}/elsewhere", data={"a": "b"})
        server.shutdown()
        thread.join()
    assert [cookie for cookie, _ in seen] == [None] * 4, "three, and one whose redirect was not followed"
    assert len({port for _, port in seen}) == 1


def test_an_answer_that_drips_is_cut_off() -> None:
    class Drip:
        def iter_content(self, _size: int) -> Iterator[bytes]:
            while True:
                yield b" "

    drip: Any = Drip()
    with pytest.raises(TimeoutError, match="too long"):
        _body(drip, time.monotonic() + 0.01)


def test_an_answer_without_end_is_cut_off_and_no_json_any_more() -> None:
    class Flood:
        def iter_content(self, size: int) -> Iterator[bytes]:
            while True:
                yield b" " * size

    flood: Any = Flood()
    assert _body(flood, time.monotonic() + 60) == ""


def test_what_cannot_be_decoded_is_an_answer_too(tmp_path: Path) -> None:
    context, ca_file = make_server_context(tmp_path)

    class Garbled(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b'{"a": 1}')

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Garbled) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        sender, exchange = transport(None, ca_file=str(ca_file))
        with pytest.raises(TransportFailure, match="no JSON object"):
            sender.post(f"https://localhost:{server.server_port}/t/token", data={"a": "b"})
        thread.join()
    assert exchange.trouble == "", "somebody answered"


def test_a_user_s_http_client_is_not_given_what_it_may_not_know() -> None:
    answers = Answers({"a": 1})
    sender, _ = transport(answers)
    sender.get(URL, params={"p": "q"}, headers={}, timeout=3, verify=False)
    assert set(answers.asked[0]) == {"url", "params", "headers"}


def test_our_options_are_not_for_a_user_s_http_client(fake_entra: FakeEntra, service: Application) -> None:
    for options in ({"proxies": {}}, {"ca_file": "ca.pem"}):
        with pytest.raises(ValueError, match="configure yours"):
            confidential(fake_entra, service, **options)
