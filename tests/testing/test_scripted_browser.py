"""A browser with a scripted person, between an application that listens on loopback and a FakeEntra."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aiomsal.testing import FakeEntra, FakeEntraProcess, ScriptedBrowser

from .helpers import claims_of, public, trusting_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.testing import User

pytestmark = [pytest.mark.timeout(30), pytest.mark.filterwarnings("ignore:response_mode")]

ANN, BEN = "ann@home.example", "ben@home.example"


class Listener(BaseHTTPRequestHandler):
    """An application's: it keeps what is brought, and answers with a page, or with a redirect to one."""

    server: Application

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._answer("GET", url.path, dict(parse_qsl(url.query)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer("POST", urlsplit(self.path).path, dict(parse_qsl(body)))

    def _answer(self, method: str, path: str, params: dict[str, str]) -> None:
        self.server.brought.append((method, path, params))
        self.server.headers.append(dict(self.headers))
        self.server.targets.append(self.path)
        page = b"<p>You may close this window.</p>"
        self.send_response(303 if path == "/moved" else 200)
        if path == "/moved":
            self.send_header("Location", "/done?x=1")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *args: Any) -> None:
        pass


class Application(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Listener)
        self.brought: list[tuple[str, str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.targets: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def application() -> Iterator[Application]:
    with Application() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def process() -> Iterator[FakeEntraProcess]:
    with FakeEntraProcess() as entra:
        yield entra


class Desk:
    """An application of real MSAL whose answers are brought to a listener."""

    def __init__(self, entra: FakeEntra | FakeEntraProcess, application: Application, client: Any) -> None:
        self.entra, self.application, self.client = entra, application, client
        self.flow: dict[str, Any] = {}

    def begin(self, path: str = "", mode: str = "form_post") -> str:
        redirect_uri = self.application.url + path
        self.flow = self.client.initiate_auth_code_flow(["User.Read"], redirect_uri=redirect_uri, response_mode=mode)
        uri: str = self.flow["auth_uri"]
        return uri

    def whose(self) -> str:
        """Redeem the code that was brought last."""
        result = self.client.acquire_token_by_auth_code_flow(self.flow, self.application.brought[-1][2])
        name: str = claims_of(result["access_token"])["preferred_username"]
        return name


@pytest.fixture
def ann(fake_entra: FakeEntra) -> User:
    return fake_entra.add_user(ANN, password="correct horse")


@pytest.fixture
def desk(fake_entra: FakeEntra, ann: User, application: Application) -> Desk:
    fake_entra.add_user(BEN)
    uris = [f"http://127.0.0.1{path}" for path in ("", "/moved", "/query?x=1")]
    return Desk(
        fake_entra, application, public(fake_entra, fake_entra.add_application(public=True, redirect_uris=uris))
    )


def test_its_user_signs_in_and_brings_the_answer_to_the_application(desk: Desk, ann: User) -> None:
    browser = ScriptedBrowser(desk.entra, ann)
    uri = desk.begin()
    assert browser(uri) is True
    browser.wait_for(pages=1)
    assert (browser.windows, browser.urls, browser.errors) == (1, [uri], [])
    assert browser.pages == [(200, "<p>You may close this window.</p>")]
    ((method, path, params),) = desk.application.brought
    assert (method, path, params["state"]) == ("POST", "/", desk.flow["state"])
    assert desk.application.targets == ["/"]
    (headers,) = desk.application.headers  # as Chromium sends them
    assert (headers["Origin"], headers["Sec-Fetch-Site"]) == ("null", "cross-site")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert desk.whose() == ANN
    assert desk.entra.count("authorize") == 1


@pytest.mark.parametrize(
    ("path", "mode", "brought"),
    [
        ("", "query", [("GET", "/")]),
        ("/query?x=1", "query", [("GET", "/query")]),
        ("/moved", "form_post", [("POST", "/moved"), ("GET", "/done")]),
    ],
)
def test_it_does_as_browsers_do(desk: Desk, path: str, mode: str, brought: list[tuple[str, str]]) -> None:
    browser = ScriptedBrowser(desk.entra, ANN)
    browser(desk.begin(path, mode))
    browser.wait_for(pages=1)
    assert [each[:2] for each in desk.application.brought] == brought
    params = desk.application.brought[0][2]
    assert ("x" in params) == ("?" in path)
    params.pop("x", None)
    desk.application.brought.append(desk.application.brought[0])
    assert desk.whose() == ANN


def test_a_fragment_stays_in_the_browser(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra, ANN)
    browser(desk.begin(mode="fragment"))
    browser.wait_for(pages=1)
    assert desk.application.brought == [("GET", "/", {})]


def test_a_person_thinks_until_the_test_has_them_act(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    browser(desk.begin())
    assert (browser.windows, desk.entra.count("authorize"), desk.application.brought) == (1, 0, [])
    browser.sign_in(BEN)
    browser.wait_for(windows=1, pages=1)
    assert desk.whose() == BEN


def test_a_person_declines(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    browser(desk.begin())
    browser.decline()
    browser.wait_for(pages=1)
    ((_, _, params),) = desk.application.brought
    assert (params["error"], params["error_subcode"]) == ("access_denied", "cancel")


def test_a_person_acts_in_the_latest_window_or_the_one_named(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    states: list[str] = []
    for _ in range(3):
        browser(desk.begin())
        states.append(desk.flow["state"])
    for number, window in enumerate((-1, 0, 1), 1):
        browser.sign_in(ANN, window=window)
        browser.wait_for(windows=3, pages=number)
    assert [params["state"] for _, _, params in desk.application.brought] == [states[2], states[0], states[1]]


def test_opening_and_acting_waits_for_nothing(desk: Desk) -> None:
    idle, busy = ScriptedBrowser(desk.entra), ScriptedBrowser(desk.entra, ANN)
    assert isinstance(desk.entra, FakeEntra)
    with desk.entra.hold("authorize") as gate:
        busy(desk.begin())
        idle(desk.begin())
        idle.sign_in(ANN)
        idle.decline()
        gate.wait_for(3)
        assert busy.pages == idle.pages == []
    busy.wait_for(pages=1)
    idle.wait_for(pages=2)


def test_a_window_that_nobody_opened_is_an_error_of_the_test(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    with pytest.raises(ValueError, match="there is no window -1: 0 were opened"):
        browser.sign_in(ANN)
    with pytest.raises(TimeoutError, match="0 of 1 windows, and 0 pages and 0 errors of 2"):
        browser.wait_for(windows=1, pages=2, timeout=0.01)


def test_wait_for_waits_for_windows_that_others_open(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    timer = threading.Timer(0.05, browser, [desk.begin()])
    timer.start()
    browser.wait_for(windows=1, timeout=100)
    assert browser.windows == 1
    timer.join()


def test_what_keeps_an_answer_from_the_application_is_kept(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    browser(desk.begin("/not-registered"))
    browser.sign_in(ANN)
    browser.wait_for(pages=1)
    browser(desk.begin())
    desk.application.server_close()
    desk.application.shutdown()
    browser.sign_in(ANN)
    browser.wait_for(pages=2)
    not_registered, not_listening = browser.errors
    assert "AADSTS50011" in str(not_registered)
    assert isinstance(not_listening, ConnectionRefusedError)
    assert browser.pages == []


def test_it_brings_answers_to_http_only(fake_entra: FakeEntra, ann: User) -> None:
    app = fake_entra.add_application(public=True, redirect_uris=["https://app.example"])
    client = public(fake_entra, app)
    browser = ScriptedBrowser(fake_entra, ann)
    browser(client.initiate_auth_code_flow(["User.Read"], redirect_uri="https://app.example")["auth_uri"])
    browser.wait_for(pages=1)
    (error,) = browser.errors
    assert "http only, and not to https://app.example" in str(error)


def test_it_uses_no_proxy_of_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    browser = ScriptedBrowser(desk.entra, ANN)
    browser(desk.begin())
    browser.wait_for(pages=1)
    assert browser.errors == []
    assert desk.whose() == ANN


def test_its_repr_shows_no_address(desk: Desk) -> None:
    browser = ScriptedBrowser(desk.entra)
    browser(desk.begin())
    assert repr(browser) == "<ScriptedBrowser, 1 windows>"


# -- with an authority in a process of its own


@contextlib.contextmanager
def desk_in_process(process: FakeEntraProcess, application: Application) -> Iterator[Desk]:
    app = process.add_application(public=True, redirect_uris=["http://127.0.0.1"])
    with trusting_session(process.ca_file) as session:
        options = {"authority": process.authority(), "http_client": session, "instance_discovery": False}
        yield Desk(process, application, public(FakeEntra(), app, **options))


def test_it_works_with_a_process(process: FakeEntraProcess, application: Application) -> None:
    ann = process.add_user(ANN, password="correct horse")
    with desk_in_process(process, application) as desk:
        browser = ScriptedBrowser(process, ann)
        browser(desk.begin())
        browser.wait_for(pages=1)
        assert desk.whose() == ANN
        assert process.authorize(desk.begin(), decline=True).params["error"] == "access_denied"
        process.disable_user(ann)
        with pytest.raises(ValueError, match="AADSTS50057"):
            process.authorize(desk.begin(), ann)


def test_a_gate_of_the_process_can_be_opened_while_people_wait_at_it(
    process: FakeEntraProcess, application: Application
) -> None:
    process.add_user(ANN)
    with desk_in_process(process, application) as desk:
        browser = ScriptedBrowser(process, ANN)
        with process.hold("authorize") as gate:
            browser(desk.begin())
            browser(desk.begin())
            gate.wait_for(2)
            assert gate.release(1) == 1
            browser.wait_for(pages=1)
        browser.wait_for(pages=2)
        assert browser.errors == []
