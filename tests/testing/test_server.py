"""The server over HTTPS, in a thread and in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from aiomsal.testing import EntraError, FakeEntra, FakeEntraProcess

from .helpers import GRAPH, ask_server, claims_of, confidential, poll, public, trusting_session, with_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.testing import ClientCertificate, RequestRecord

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(scope="module")
def process() -> Iterator[FakeEntraProcess]:
    with FakeEntraProcess() as entra:
        yield entra


@pytest.fixture
def remote(process: FakeEntraProcess) -> Iterator[FakeEntraProcess]:
    yield process
    process.clear_faults()
    process.forget_requests()


def options(server: Any, session: requests.Session) -> dict[str, Any]:
    return {"authority": server.authority(), "http_client": session, "instance_discovery": False}


def test_msal_gets_a_token_over_https(fake_entra: FakeEntra, certificate: ClientCertificate) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        client = confidential(fake_entra, app, with_certificate(certificate), **options(server, session))
        claims = claims_of(client.acquire_token_for_client(GRAPH)["access_token"])
    assert claims["iss"] == f"{server_url(claims)}/{fake_entra.tenant_id}/v2.0"
    assert [record.kind for record in fake_entra.requests] == ["discovery", "token.client_credentials"]


def server_url(claims: dict[str, Any]) -> str:
    url: str = claims["iss"].rsplit("/", 2)[0]
    assert url.startswith("https://localhost:")
    return url


def test_the_address_may_be_the_number_too(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        authority = server.authority().replace("localhost", "127.0.0.1")
        client = confidential(fake_entra, app, **{**options(server, session), "authority": authority})
        assert "access_token" in client.acquire_token_for_client(GRAPH)


def test_a_client_that_does_not_trust_the_authority_is_turned_away(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with fake_entra.serve() as server:
        with requests.Session() as session:
            session.trust_env = False
            with pytest.raises(requests.exceptions.SSLError):
                ask_server(session, server, app)
        with trusting_session(server.ca_file) as session:
            assert ask_server(session, server, app).status_code == 200
    assert fake_entra.count() == 1


def test_a_connection_serves_many_requests(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with fake_entra.serve() as server, raw_connection(server.url, server.ca_file) as sock:
        for _ in range(3):
            sock.sendall(raw_request(server.url, f"/{fake_entra.tenant_id}/discovery/v2.0/keys"))
            assert b'"kty":"RSA"' in read_response(sock)
    assert app.client_id
    assert fake_entra.count("jwks") == 3


@pytest.mark.parametrize("why", ["at once", "after a latency", "after a gate"])
def test_requests_sent_together_are_answered_one_after_another(fake_entra: FakeEntra, why: str) -> None:
    with fake_entra.serve() as server, raw_connection(server.url, server.ca_file) as sock:
        if why == "after a latency":
            fake_entra.fault("jwks", latency=0.01, times=1)
        with fake_entra.hold("jwks") as gate:
            if why != "after a gate":
                gate.release()
            sock.sendall(raw_request(server.url, f"/{fake_entra.tenant_id}/discovery/v2.0/keys") * 3)
            if why == "after a gate":
                gate.wait_for(1)
                assert fake_entra.count("jwks") == 1
        for _ in range(3):
            assert read_response(sock).startswith(b"HTTP/1.1 200")


def test_what_is_no_http_ends_the_connection(fake_entra: FakeEntra) -> None:
    with fake_entra.serve() as server, raw_connection(server.url, server.ca_file) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):
            read_response(sock)
    assert fake_entra.count() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="reads the socket's error as POSIX reports it")
def test_a_reset_is_a_reset_on_the_wire(fake_entra: FakeEntra) -> None:
    fake_entra.fault("jwks", reset=True)
    with fake_entra.serve() as server, raw_connection(server.url, server.ca_file) as sock:
        sock.sendall(raw_request(server.url, f"/{fake_entra.tenant_id}/discovery/v2.0/keys"))
        with socket.socket(fileno=os.dup(sock.fileno())) as wire, pytest.raises(ConnectionResetError):
            wire.settimeout(10)
            while wire.recv(4096):  # what TLS had to say before
                pass


def test_a_path_that_is_not_served_is_an_error_and_counted(fake_entra: FakeEntra) -> None:
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        response = session.get(f"{server.url}/somewhere/else", timeout=10)
    assert response.status_code == 400
    assert "FakeEntra has nothing at GET /somewhere/else" in response.json()["error_description"]
    assert fake_entra.count("unknown") == 1


def raw_connection(url: str, ca_file: str) -> ssl.SSLSocket:
    port = int(url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=ca_file)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost")


def raw_request(url: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {url.removeprefix('https://')}\r\n\r\n".encode()


def read_response(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += read_some(sock, 1)
    head = data.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while length:
        some = read_some(sock, length)
        data += some
        length -= len(some)
    return data


def read_some(sock: ssl.SSLSocket, n: int) -> bytes:
    data = sock.recv(n)
    if not data:
        raise EOFError
    return data


def test_hung_requests_do_not_hold_up_others(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        with fake_entra.hold("token", match=lambda record: record.scope != GRAPH[0]) as gate:
            pool = ThreadPoolExecutor(20)
            asked = [pool.submit(ask_server, session, server, app, scope="api://x/.default") for _ in range(20)]
            gate.wait_for(20)
            with trusting_session(server.ca_file) as other:
                assert ask_server(other, server, app).status_code == 200
            assert not any(future.done() for future in asked)
        assert {future.result(10).status_code for future in asked} == {200}
        pool.shutdown()


def test_it_leaves_no_file_and_no_listener_behind(fake_entra: FakeEntra) -> None:
    with fake_entra.serve() as server:
        url, ca_file = server.url, Path(server.ca_file)
        assert ca_file.exists()
        assert [path.name for path in ca_file.parent.iterdir()] == ["ca.pem"]
    assert not ca_file.parent.exists()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1)
    with pytest.raises(RuntimeError, match="enter it first"):
        _ = server.url


def test_it_ends_while_requests_hang(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with (
        ThreadPoolExecutor(1) as pool,
        fake_entra.serve() as server,
        fake_entra.hold("token") as gate,
        trusting_session(server.ca_file) as session,
    ):
        asked = pool.submit(ask_server, session, server, app)
        gate.wait_for(1)
        server.stop()
        with pytest.raises(requests.ConnectionError):
            asked.result(10)
        assert gate.waiting == 0


# -- in a process


def test_a_process_answers_and_is_driven_by_the_same_methods(remote: FakeEntraProcess) -> None:
    app = remote.add_application()
    remote.fault("token", error=EntraError(90033), times=1)
    with trusting_session(remote.ca_file) as session:
        client = confidential(FakeEntra(), app, **options(remote, session))
        assert ask_server(session, remote, app).status_code == 503
        assert "access_token" in client.acquire_token_for_client(GRAPH)
    assert remote.count("token") == 2
    assert [record.status for record in remote.requests] == [200, 503, 200]
    remote.configure(expires_in=1234)
    assert remote.settings.expires_in == 1234


def test_a_device_code_is_approved_in_the_process(remote: FakeEntraProcess) -> None:
    user = remote.add_user("adele@home.example")
    app = remote.add_application(public=True)
    with trusting_session(remote.ca_file) as session:
        client = public(FakeEntra(), app, **options(remote, session))
        flow = client.initiate_device_flow(["User.Read"])
        remote.approve_device_code(flow["user_code"], user)
        assert poll(client, flow)["id_token_claims"]["oid"] == user.object_id


def test_a_gate_in_the_process_holds_and_releases(remote: FakeEntraProcess) -> None:
    app = remote.add_application()
    with (
        trusting_session(remote.ca_file) as session,
        ThreadPoolExecutor(2) as pool,
        remote.hold("token", match=is_for_graph) as gate,
    ):
        asked = [pool.submit(ask_server, session, remote, app) for _ in range(2)]
        gate.wait_for(2)
        assert gate.release(1) == 1
        gate.wait_for(1)
        assert gate.waiting == 1
        with pytest.raises(TimeoutError, match="1 of 5 requests"):
            gate.wait_for(5, timeout=0.1)
        assert gate.release() == 1
        assert [future.result(10).status_code for future in asked] == [200, 200]


def is_for_graph(record: RequestRecord) -> bool:
    return record.scope == GRAPH[0]


def test_an_error_of_the_process_is_raised_here(remote: FakeEntraProcess) -> None:
    with pytest.raises(ValueError, match="no request is of the kind 'tokens'"):
        remote.fault("tokens", status=500)
    with pytest.raises(ValueError, match="no user 'nobody'"):
        remote.revoke_refresh_tokens("nobody")
    with pytest.raises(TypeError, match="function of an importable module"):
        remote.fault("token", status=500, match=lambda record: True)
    assert remote.count("token") == 0  # and it still answers


def test_a_process_that_does_not_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="enter it first"):
        FakeEntraProcess().count("token")


PARENT = """
import os, sys, time
from aiomsal.testing import FakeEntraProcess
entra = FakeEntraProcess()
entra.start()
child = os.fork() if sys.argv[1] == "killed, with a child that keeps its pipes" else -1
if child == 0:
    time.sleep(60)
print(entra.ca_file, entra.url, child, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills by signal")
@pytest.mark.parametrize("way", ["ended", "killed", "killed, with a child that keeps its pipes"])
def test_a_process_ends_with_its_parent(way: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", PARENT, way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout
        ca_file, url, child = parent.stdout.readline().split()
        port = int(url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), 5).close()
        if way != "ended":
            parent.kill()
    try:
        deadline = time.monotonic() + 10
        while Path(ca_file).exists() and time.monotonic() < deadline:
            time.sleep(0.02)  # nobody is left who could tell us
        assert not Path(ca_file).exists()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)
    finally:
        if int(child) > 0:
            os.kill(int(child), signal.SIGKILL)


def test_a_process_leaves_ctrl_c_to_its_parent(remote: FakeEntraProcess) -> None:
    assert remote._process is not None
    remote.forget_requests()
    remote._process.send_signal(signal.SIGINT)
    assert [remote.count() for _ in range(3)] == [0, 0, 0], "it answers still"
    assert remote._process.poll() is None


def test_the_log_of_a_process_holds_no_secret(remote: FakeEntraProcess) -> None:
    app = remote.add_application()
    with trusting_session(remote.ca_file) as session:
        token = json.loads(ask_server(session, remote, app).text)["access_token"]
    shown = repr((remote.requests, remote, app))
    assert app.client_id in shown
    assert token not in shown
    assert app.client_secret not in shown
