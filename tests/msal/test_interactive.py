"""Interactive sign-in: MSAL's parameters and results, our listener, one window at a time, and leaving at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import webbrowser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aiomsal import msal
from aiomsal.testing import ScriptedBrowser

from .support import ANN, BEN, MAIL, crowd, outcome, public, settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiomsal.testing import Application, FakeEntra

CODE = "token.authorization_code"


@pytest.fixture
def open_windows(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedBrowser]:
    """Put a person in front of this machine's browser."""

    def put(user: str | None = None) -> ScriptedBrowser:
        browser = ScriptedBrowser(fake_entra, user)
        monkeypatch.setattr(webbrowser, "get", lambda *_: SimpleNamespace(name="scripted", open=browser))
        return browser

    return put


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*_: str) -> Any:
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "get", get)


def asked(url: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(url: str) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", urlsplit(asked(url)["redirect_uri"]).port)) == 0


async def opened(browser: ScriptedBrowser, windows: int = 1) -> None:
    await asyncio.to_thread(browser.wait_for, windows=windows)
    await settled()


async def test_one_window_signs_in_all_who_ask_for_the_same(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    waiting = asyncio.ensure_future(crowd(lambda: app.acquire_token_interactive(MAIL)))
    await opened(browser)
    browser.sign_in(ANN)
    results = await waiting
    assert {each["id_token_claims"]["preferred_username"] for each in results} == {ANN}
    assert results[0]["token_source"] == "identity_provider"
    assert results[0] is not results[1]
    assert (browser.windows, fake_entra.count(CODE)) == (1, 1)
    await asyncio.to_thread(browser.wait_for, pages=1)
    [(status, page)] = browser.pages
    assert (status, "You are signed in" in page) == (200, True)
    assert [each["username"] for each in await app.get_accounts()] == [ANN]


async def test_msals_parameters_arrive(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows(ANN)
    launching: list[dict[str, Any]] = []
    port = free_port()
    claims = '{"id_token":{"acr":{"essential":true}}}'
    result = await public(fake_entra, program).acquire_token_interactive(
        MAIL,
        "login",
        ANN,
        "home.example",
        claims,
        30,
        port,
        ["https://api.example/Read"],
        600,
        None,
        lambda **told: launching.append(told),
        ui_locales="eo",
    )
    assert "access_token" in result, result
    [url] = browser.urls
    sent = asked(url)
    assert (
        sent.items()
        >= {
            "prompt": "login",
            "login_hint": ANN,
            "domain_hint": "home.example",
            "claims": claims,
            "max_age": "600",
            "response_mode": "form_post",
            "ui_locales": "eo",
            "redirect_uri": f"http://localhost:{port}",
        }.items()
    )
    assert {"Mail.Read", "https://api.example/Read"} <= set(sent["scope"].split())
    assert launching == [{"ui": "browser"}]


async def test_declining_is_msals_dict(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows()
    call = asyncio.ensure_future(public(fake_entra, program).acquire_token_interactive(MAIL))
    await opened(browser)
    browser.decline()
    result = await call
    assert result["error"] == "access_denied"
    await asyncio.to_thread(browser.wait_for, pages=1)
    [(status, page)] = browser.pages
    assert (status, "The sign-in did not succeed" in page) == (400, True)


async def test_the_callers_templates_are_shown(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    templates = {"success_template": "Well done.", "error_template": "<p>Oh: $error ($error_description) $code</p>"}
    for number, decide in enumerate((lambda: browser.sign_in(ANN), browser.decline), 1):
        call = asyncio.ensure_future(app.acquire_token_interactive(MAIL, **templates))
        await opened(browser, number)
        decide()
        await call
        await asyncio.to_thread(browser.wait_for, pages=number)
    (_, good), (_, bad) = browser.pages
    assert good == "Well done."
    assert bad.startswith("<p>Oh: access_denied (")


async def test_nobody_in_time_is_msals_exception(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    with pytest.raises(msal.BrowserInteractionTimeoutError, match="did not complete the flow in time"):
        await app.acquire_token_interactive(MAIL, timeout=0.01)
    await opened(browser)
    assert not listens(browser.urls[0])


async def test_when_the_last_who_waits_leaves_it_ends_at_once(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    calls = [asyncio.ensure_future(app.acquire_token_interactive(MAIL)) for _ in range(2)]
    await opened(browser)
    calls[0].cancel()
    await settled()
    assert listens(browser.urls[0])
    calls[1].cancel()
    await asyncio.wait(calls)
    await settled()
    assert not listens(browser.urls[0])
    assert len(app._desk._here().sign_ins) == 0
    newcomer = asyncio.ensure_future(app.acquire_token_interactive(MAIL))
    await opened(browser, 2)
    browser.sign_in(BEN)
    assert (await newcomer)["id_token_claims"]["preferred_username"] == BEN


async def test_its_thread_ends_with_it(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    call = asyncio.ensure_future(app.acquire_token_interactive(MAIL))
    await opened(browser)
    threads = app._desk._here().sign_in_threads
    call.cancel()
    await asyncio.wait([call])
    await asyncio.to_thread(threads.shutdown)  # returns when its threads have ended


async def test_different_requests_take_turns(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    first = asyncio.ensure_future(app.acquire_token_interactive(MAIL))
    await opened(browser)
    second = asyncio.ensure_future(app.acquire_token_interactive(MAIL, login_hint=BEN))
    await settled()
    process = app._desk._here()
    assert (len(process.sign_ins), len(process.turns), browser.windows) == (2, 1, 1)
    browser.sign_in(ANN)
    await first
    await opened(browser, 2)
    browser.sign_in(BEN)
    assert (await second)["id_token_claims"]["preferred_username"] == BEN
    assert fake_entra.count(CODE) == 2


@pytest.mark.usefixtures("no_browser")
@pytest.mark.parametrize("is_async", [False, True])
async def test_without_a_browser_the_callback_shows_the_url(
    fake_entra: FakeEntra, program: Application, is_async: bool
) -> None:
    person = ScriptedBrowser(fake_entra, ANN)
    threads: list[threading.Thread] = []

    def show(url: str) -> None:
        threads.append(threading.current_thread())
        person(url)

    async def show_later(url: str) -> None:
        show(url)

    callback = show_later if is_async else show
    result = await public(fake_entra, program).acquire_token_interactive(MAIL, auth_uri_callback=callback)
    assert "access_token" in result
    assert (threads[0] is threading.main_thread()) == is_async


@pytest.mark.usefixtures("no_browser")
async def test_a_callback_that_raises_ends_the_sign_in(fake_entra: FakeEntra, program: Application) -> None:
    def show(url: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await public(fake_entra, program).acquire_token_interactive(MAIL, auth_uri_callback=show)


@pytest.mark.usefixtures("no_browser")
async def test_without_a_browser_and_a_callback_a_warning_says_what_to_do(
    fake_entra: FakeEntra, program: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "aiomsal")
    with pytest.raises(msal.BrowserInteractionTimeoutError):
        await public(fake_entra, program).acquire_token_interactive(MAIL, timeout=0.5)
    [record] = [each for each in caplog.records if each.name == "aiomsal"]
    assert "pass auth_uri_callback=" in record.getMessage()
    assert "https://" not in record.getMessage()


async def test_what_msal_rejects_is_rejected_before_a_window_opens(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    for options, expected in (
        ({"scopes": ["openid"]}, "reserved"),
        ({"scopes": MAIL, "auth_scheme": object()}, "auth_scheme is currently only available from broker"),
        ({"scopes": MAIL, "data": {"token_type": "ssh-cert"}}, "req_cnf"),
    ):
        with pytest.raises(ValueError, match=expected):
            await app.acquire_token_interactive(**options)  # type: ignore[arg-type]
    assert browser.windows == 0


async def test_a_port_that_is_taken_is_an_os_error(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    open_windows()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failure = await outcome(
            public(fake_entra, program).acquire_token_interactive(MAIL, port=taken.getsockname()[1])
        )
    assert type(failure) is OSError


async def test_a_receiver_of_the_callers_own_is_msals_affair(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()

    class Receiver:
        def get_auth_response(self, *, auth_uri: str, **_: Any) -> dict[str, str]:
            return fake_entra.authorize(auth_uri, ANN).params

    result = await public(fake_entra, program).acquire_token_interactive(MAIL, port=8400, auth_code_receiver=Receiver())
    assert "access_token" in result
    assert browser.windows == 0


async def test_a_broker_does_it_all_in_a_thread(fake_entra: FakeEntra, program: Application, open_windows: Any) -> None:
    browser = open_windows()
    app = public(fake_entra, program)
    await app.ready()
    built = app._desk.built
    built._enable_broker = True  # there is none on this machine
    said: list[tuple[Any, ...]] = []

    def broker(scopes: list[str], handle: object, *rest: Any, **options: Any) -> dict[str, Any]:
        said.append((threading.current_thread() is threading.main_thread(), handle is built.CONSOLE_WINDOW_HANDLE))
        return {"error": "from the broker"}

    built._acquire_token_interactive_via_broker = broker
    handle = msal.PublicClientApplication.CONSOLE_WINDOW_HANDLE
    result = await app.acquire_token_interactive(MAIL, parent_window_handle=handle)
    assert result["error"] == "from the broker"
    with pytest.raises(ValueError, match="parent_window_handle is required"):
        await app.acquire_token_interactive(MAIL)
    assert said == [(False, True)]
    assert browser.windows == 0


def test_a_loop_that_ends_takes_its_sign_in_with_it(
    fake_entra: FakeEntra, program: Application, open_windows: Any
) -> None:
    browser = open_windows()
    app = public(fake_entra, program)

    async def begin() -> None:
        task = asyncio.ensure_future(app.acquire_token_interactive(MAIL))
        await opened(browser)
        assert not task.done()

    asyncio.run(begin())
    app._desk._here().sign_in_threads.shutdown()
    assert not listens(browser.urls[0])
    gc.collect()
