"""All the way: manager, public client, MSAL, loopback listener, a scripted browser, and FakeEntra over HTTPS."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import pytest

from aiomsal import AuthorityUnavailable, DeviceCode, PublicClient, SignInError, Token, TokenManager
from aiomsal.sign_in.browser import Browser
from aiomsal.testing import ScriptedBrowser
from tests.end_to_end.conftest import fake_clock, fake_entra, house
from tests.end_to_end.support import ANN, BEN, Caller, crowd, one_token, settle
from tests.sign_in.support import PATIENCE, Response, everything_in, exchange, nobody_listens, request

if TYPE_CHECKING:
    from aiomsal.testing import Application
    from tests.end_to_end.support import House

__all__ = ["fake_clock", "fake_entra", "house"]

pytestmark = pytest.mark.anyio

REDEEMED = "token.authorization_code"


@pytest.fixture
def app(house: House) -> Application:
    return house.entra.add_application(public=True)


def program(house: House, app: Application, sign_in: Any) -> TokenManager:
    client = PublicClient(app.client_id, sign_in=sign_in, **house.common((5.0, 10.0)))
    return TokenManager(house.impatient(client), clock=house.clock)


async def opened(browser: ScriptedBrowser, windows: int = 1) -> str:
    """Where the latest window was opened, when there are so many."""
    await anyio.to_thread.run_sync(lambda: browser.wait_for(windows=windows))
    assert browser.windows == windows
    return browser.urls[-1]


async def told(browser: ScriptedBrowser, pages: int = 1) -> Response:
    """What the latest window shows, when so many show something."""
    await anyio.to_thread.run_sync(lambda: browser.wait_for(pages=pages))
    assert browser.errors == []
    status, body = browser.pages[-1]
    return Response(f"HTTP/1.1 {status} X\r\n\r\n{body}".encode())


def asked_in(url: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


def port_in(url: str) -> int:
    port = urlsplit(asked_in(url)["redirect_uri"]).port
    assert port is not None
    return port


@pytest.mark.parametrize("how", ["login_hint", "account"])
async def test_the_page_tells_whoever_is_not_the_one_the_call_is_for(how: str, house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra, BEN)
    tokens = program(house, app, Browser(open=browser))
    with pytest.raises(SignInError) as caught:
        await tokens.get("User.Read", **{how: ANN if how == "login_hint" else "somebody.else"})  # type: ignore[misc]
    assert caught.value.code == "wrong_account"
    page = await told(browser)
    assert "You are signed in" not in page.body
    assert "nothing was kept" in page.body
    assert await tokens.accounts() == ()


async def test_two_hundred_callers_open_one_window(house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra, ANN)
    tokens = program(house, app, Browser(open=browser))
    token = one_token(await crowd(200, tokens.get, "User.Read"))
    assert token.account is not None
    assert token.account.username == ANN
    assert browser.windows == 1
    assert house.entra.count("authorize") == house.entra.count(REDEEMED) == 1
    assert await tokens.get("User.Read") is token
    page = await told(browser)
    assert page.status == 200
    assert "You are signed in" in page.body
    assert token.value not in page.body
    assert await nobody_listens(port_in(browser.urls[0]))


async def test_whoever_declines_is_an_error_for_all_and_a_page_for_the_person(house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra)
    tokens = program(house, app, Browser(open=browser))
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(20)]
        await opened(browser)
        browser.decline()
    for caller in callers:
        assert isinstance(caller.outcome, SignInError)
        assert caller.outcome.code == "access_denied"
    page = await told(browser)
    assert page.status == 400
    assert "access_denied" in page.body
    assert house.entra.count(REDEEMED) == 0


async def test_an_authority_that_fails_at_the_last_step_is_not_called_a_success(house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra, ANN)
    house.entra.fault(REDEEMED, status=503)
    with pytest.raises(AuthorityUnavailable):
        await program(house, app, Browser(open=browser)).get("User.Read")
    assert house.entra.count(REDEEMED) == 1, "a code is sent once"
    page = await told(browser)
    assert page.status == 400
    assert "The sign-in did not succeed" in page.body


async def test_when_all_have_left_the_port_is_free_and_a_newcomer_gets_a_window(house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra)
    tokens = program(house, app, Browser(open=browser))
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(3)]
        port = port_in(await opened(browser))
        for caller in callers[:2]:
            caller.scope.cancel()
        await settle()
        assert not await nobody_listens(port), "one still waits"
        callers[2].scope.cancel()
        with anyio.fail_after(PATIENCE):
            while not await nobody_listens(port):
                await anyio.sleep(0.001)
        last = Caller(group, tokens.get, "User.Read")
        await opened(browser, 2)
        browser.sign_in(BEN)
    assert isinstance(last.outcome, Token)
    assert [caller.outcome for caller in callers] == [None] * 3
    assert house.entra.count(REDEEMED) == 1


async def test_an_answer_meant_for_another_sign_in_is_refused_and_the_wait_goes_on(
    house: House, app: Application
) -> None:
    browser = ScriptedBrowser(house.entra)
    tokens, others = program(house, app, Browser(open=browser)), program(house, app, Browser(open=browser))
    async with anyio.create_task_group() as group:
        caller = Caller(group, tokens.get, "User.Read")
        url = await opened(browser)
        attacker = Caller(group, others.get, "User.Read")
        other_url = await opened(browser, 2)
        answer = house.entra.authorize(other_url, BEN)
        forged = request(port_in(url), urlencode(answer.params))
        assert Response(await exchange(port_in(url), forged)).status == 400
        assert not caller.over
        browser.sign_in(ANN, window=0)
        assert (await told(browser)).status == 200
        attacker.scope.cancel()
    assert caller.token.account is not None
    assert caller.token.account.username == ANN
    assert house.entra.count(REDEEMED) == 1


async def test_all_that_is_asked_reaches_the_page_and_the_token(house: House, app: Application) -> None:
    browser = ScriptedBrowser(house.entra, ANN)
    tokens = program(house, app, Browser(open=browser))
    await tokens.sign_in(
        "User.Read",
        login_hint=ANN,
        domain_hint="organizations",
        prompt="login",
        max_age=0,
        extra_scopes_to_consent=["Mail.Read"],
        claims='{"id_token": {"auth_time": {"essential": true}}}',
    )
    asked = asked_in(browser.urls[0])
    assert asked["login_hint"] == ANN
    assert asked["domain_hint"] == "organizations"
    assert asked["prompt"] == "login"
    assert asked["max_age"] == "0"
    assert asked["response_mode"] == "form_post"
    assert {"User.Read", "Mail.Read"} <= {*asked["scope"].split()}
    assert "auth_time" in asked["claims"]
    assert asked["redirect_uri"] == f"http://localhost:{port_in(browser.urls[0])}"


async def test_what_a_device_code_cannot_carry_is_refused_to_the_caller_by_name(house: House, app: Application) -> None:
    tokens = program(house, app, DeviceCode(lambda _: None))
    with pytest.raises(ValueError, match="cannot carry prompt="):
        await tokens.sign_in("User.Read", prompt="login")
    assert house.entra.count("devicecode") == 0


@pytest.mark.parametrize("end", ["signed in", "declined", "failed", "no browser"])
async def test_nothing_of_the_conversation_is_logged_or_raised(
    end: str, house: House, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[dict[str, str]] = []
    authorize = house.entra.authorize

    class Recording:
        def authorize(self, auth_uri: str, user: Any = None, *, decline: bool = False) -> Any:
            answer = authorize(auth_uri, user, decline=decline)
            answers.append(dict(answer.params))
            return answer

    scripted = ScriptedBrowser(Recording())
    urls: list[str] = []

    def use(url: str) -> bool:
        urls.append(url)
        if end == "no browser":
            return False
        scripted(url)
        scripted.decline() if end == "declined" else scripted.sign_in(ANN)
        return True

    if end == "failed":
        house.entra.fault(REDEEMED, status=500)
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG):
        try:
            shown.append(repr(await program(house, app, Browser(open=use)).get("User.Read")))
        except (SignInError, AuthorityUnavailable) as error:
            shown += everything_in(error)
    shown += [f"{record.getMessage()} {record.exc_info} {record.args}" for record in caplog.records]
    asked = asked_in(urls[0])
    secrets = {asked["state"], asked["nonce"], asked["code_challenge"]}
    secrets |= {answer["code"] for answer in answers if "code" in answer}
    assert len(secrets) == (4 if end in ("signed in", "failed") else 3)
    for text in shown:
        assert not [secret for secret in secrets if secret in text]
