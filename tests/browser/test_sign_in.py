"""A person signs in, in a real browser, and lands on the loopback listener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aiomsal import InteractionRequired, SignInError
from aiomsal.testing import EntraError
from tests.end_to_end.support import ANN, BEN, crowd, one_token

from .support import CLICKED, FAILED, OPENED, PASSWORD, REDEEMED, SIGNED_IN, desktop

if TYPE_CHECKING:
    from tests.end_to_end.support import House

    from .chromium import Chromium
    from .conftest import Ask

CONSENT = EntraError(65001)


async def test_a_person_signs_in_and_lands_on_the_loopback_listener(house: House, chromium: Chromium, ask: Ask) -> None:
    tokens = desktop(house, chromium)
    asking = ask(tokens.get("User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees(SIGNED_IN)
    token = await asking
    assert token.account is not None
    assert token.account.username == ANN
    assert await tokens.accounts() == (token.account,)
    assert (len(chromium.opened), house.entra.count(OPENED), house.entra.count(REDEEMED)) == (1, 1, 1)
    here = urlsplit(await chromium.address())
    assert (here.scheme, here.hostname, here.path, here.query, here.fragment) == ("http", "localhost", "/", "", "")


async def test_two_hundred_coroutines_open_one_window(house: House, chromium: Chromium, ask: Ask) -> None:
    tokens = desktop(house, chromium)
    asking = ask(crowd(200, tokens.get, "User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    token = one_token(await asking)
    assert token.account is not None
    assert token.account.username == ANN
    assert (len(chromium.opened), house.entra.count(OPENED), house.entra.count(REDEEMED)) == (1, 1, 1)
    assert await tokens.get("User.Read") is token


async def test_the_browser_has_nothing_to_complain_about(house: House, chromium: Chromium, ask: Ask) -> None:
    asking = ask(desktop(house, chromium).get("User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees(SIGNED_IN)
    await asking
    assert await chromium.complaints() == []


async def test_a_wrong_password_is_for_the_page_to_tell(house: House, chromium: Chromium, ask: Ask) -> None:
    asking = ask(desktop(house, chromium).get("User.Read"))
    await chromium.signs_in(ANN, "a guess")
    assert "AADSTS50126" in await chromium.text("message")
    assert not asking.done()
    await chromium.signs_in(ANN, PASSWORD)
    await asking
    assert (len(chromium.opened), house.entra.count(CLICKED), house.entra.count(REDEEMED)) == (1, 2, 1)


# -- no ---------------------------------------------------------------------------------------------------------------


async def test_whoever_cancels_is_an_error_for_the_program_and_a_page_for_the_person(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    tokens = desktop(house, chromium)
    asking = ask(crowd(50, tokens.get, "User.Read"))
    await chromium.sees("Sign in")
    await chromium.clicks("cancel")
    await chromium.sees(FAILED)
    outcomes = await asking
    assert {(type(error), error.code) for error in outcomes} == {(SignInError, "access_denied")}
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (1, 0)
    assert await tokens.accounts() == ()


async def test_what_the_authority_says_is_text_on_the_page_whatever_it_is(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    markup = (
        "</p><img id=injected src=x onerror=\"document.title='injected'\"><script>document.title='injected'</script>"
    )
    house.entra.fault("authorize", error=EntraError(65004, error="access_denied", description=markup))
    asking = ask(desktop(house, chromium).get("User.Read"))
    await chromium.sees(FAILED)
    with pytest.raises(SignInError):
        await asking
    assert markup in await chromium.text()
    assert await chromium.count("#injected, img, script") == 0
    assert not [line for line in await chromium.complaints() if "Security" in line]  # nothing was there to be blocked


async def test_a_page_asks_for_consent_and_takes_it(house: House, chromium: Chromium, ask: Ask) -> None:
    tokens = desktop(house, chromium)
    house.entra.require_interaction(ANN, scope="Mail.Read", error=CONSENT)
    asking = ask(tokens.get("Mail.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees("Permissions requested")
    assert await chromium.text("user") == ANN
    assert "Mail.Read" in await chromium.text("scopes")
    assert not asking.done()
    await chromium.clicks("accept")
    await chromium.sees(SIGNED_IN)
    token = await asking
    assert "Mail.Read" in token.scopes
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (1, 1)


async def test_who_does_not_consent_gets_nothing(house: House, chromium: Chromium, ask: Ask) -> None:
    tokens = desktop(house, chromium)
    house.entra.require_interaction(ANN, scope="Mail.Read", error=CONSENT)
    asking = ask(tokens.get("Mail.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees("Permissions requested")
    await chromium.clicks("cancel")
    await chromium.sees(FAILED)
    with pytest.raises(SignInError) as caught:
        await asking
    assert caught.value.code == "access_denied"
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (1, 0)


# -- again ------------------------------------------------------------------------------------------------------------


async def test_whom_the_browser_knows_types_nothing_and_clicks_nothing(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    asking = ask(desktop(house, chromium).get("User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    first = await asking
    second = await desktop(house, chromium).get("User.Read")  # another program
    assert second.account == first.account
    assert (len(chromium.opened), house.entra.count(OPENED), house.entra.count(CLICKED)) == (2, 2, 1)
    await chromium.sees(SIGNED_IN)


async def test_prompt_login_asks_whom_the_browser_knows_all_the_same(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    tokens = desktop(house, chromium)
    asking = ask(tokens.get("User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    await asking
    asking = ask(tokens.sign_in("User.Read", prompt="login", login_hint=ANN))
    await chromium.sees("Sign in")
    assert await chromium.value("username") == ANN
    assert not asking.done()
    await chromium.signs_in(ANN, PASSWORD)
    assert (await asking).account == (await tokens.accounts())[0]
    assert (len(chromium.opened), house.entra.count(CLICKED), house.entra.count(REDEEMED)) == (2, 2, 2)


async def test_prompt_select_account_lets_choose_one_or_use_another(house: House, chromium: Chromium, ask: Ask) -> None:
    tokens = desktop(house, chromium)
    asking = ask(tokens.get("User.Read"))
    await chromium.signs_in(ANN, PASSWORD)
    ann = await asking
    asking = ask(tokens.sign_in("User.Read", prompt="select_account"))
    await chromium.sees("Sign in")
    assert await chromium.text("account-0") == ANN
    await chromium.clicks("account-0")
    assert (await asking).account == ann.account
    asking = ask(tokens.sign_in("User.Read", prompt="select_account"))
    await chromium.signs_in(BEN, PASSWORD)
    ben = await asking
    assert ben.account is not None
    assert ben.account.username == BEN
    assert {account.username for account in await tokens.accounts()} == {ANN, BEN}
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (3, 3)


async def test_prompt_none_shows_nothing_and_says_who_is_needed(house: House, chromium: Chromium) -> None:
    with pytest.raises(InteractionRequired):
        await desktop(house, chromium).sign_in("User.Read", prompt="none")
    await chromium.sees(FAILED)
    assert (len(chromium.opened), house.entra.count(CLICKED), house.entra.count(REDEEMED)) == (1, 0, 0)


# -- windows are closed -----------------------------------------------------------------------------------------------


async def test_a_window_that_was_closed_is_waited_for_and_may_be_opened_again(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    asking = ask(desktop(house, chromium).get("User.Read"))
    await chromium.sees("Sign in")
    await chromium.close()
    assert not asking.done()
    await chromium.visit(chromium.opened[0])  # from the browser's history
    await chromium.signs_in(ANN, PASSWORD)
    await asking
    assert (len(chromium.opened), house.entra.count(OPENED), house.entra.count(REDEEMED)) == (1, 2, 1)


async def test_whoever_signs_in_when_nobody_waits_any_more_does_no_harm(
    house: House, chromium: Chromium, ask: Ask
) -> None:
    tokens = desktop(house, chromium)
    asking = ask(tokens.get("User.Read"))
    await chromium.sees("Sign in")
    asking.cancel()
    await asyncio.wait([asking])
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees("localhost")  # the browser's own page
    assert "ERR_CONNECTION_REFUSED" in await chromium.text()
    assert (house.entra.count(REDEEMED), await tokens.accounts()) == (0, ())
    asking = ask(tokens.get("User.Read"))
    await asking
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (2, 1)
