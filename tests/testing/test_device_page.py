"""The page where a person enters the code of another device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.testing import EntraError

from .helpers import claims_of, poll, public
from .window import Window

if TYPE_CHECKING:
    from aiomsal.testing import FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

ANN = "ann@home.example"


@pytest.fixture
def client(fake_clock: FakeClock, fake_entra: FakeEntra) -> Any:
    fake_entra.add_user(ANN, password="correct horse")
    return public(fake_entra, fake_entra.add_application(public=True))


def start(client: Any, *scopes: str) -> dict[str, Any]:
    flow: dict[str, Any] = client.initiate_device_flow([*scopes] or ["User.Read"])
    return flow


def enter(window: Window, flow: dict[str, Any]) -> Window:
    window.click("next", user_code=flow["user_code"])
    window.click("sign-in", username=ANN, password="correct horse")
    return window


def test_a_person_enters_the_code_signs_in_and_approves(fake_entra: FakeEntra, client: Any) -> None:
    flow = start(client)
    window = enter(Window(fake_entra, flow["verification_uri"]), flow)
    assert (window.page.ids["user"], window.page.ids["application"]) == (ANN, client.client_id)
    assert "User.Read" in window.page.ids["scopes"]
    assert poll(client, flow)["error"] == "authorization_pending"
    window.click("approve")
    assert window.page.title == "You have signed in"
    assert claims_of(poll(client, flow)["access_token"])["preferred_username"] == ANN
    assert [fake_entra.count(kind) for kind in ("devicecode", "deviceauth", "sign_in")] == [1, 2, 2]


def test_a_person_declines(fake_entra: FakeEntra, client: Any) -> None:
    flow = start(client)
    enter(Window(fake_entra, flow["verification_uri"]), flow).click("decline")
    assert poll(client, flow)["error"] == "authorization_declined"


def test_who_does_not_sign_in_decides_nothing(fake_entra: FakeEntra, client: Any) -> None:
    flow = start(client)
    window = Window(fake_entra, flow["verification_uri"])
    window.click("next", user_code=flow["user_code"])
    window.click("cancel")
    assert window.page.title == "You have not signed in"
    assert poll(client, flow)["error"] == "authorization_pending"
    window.open(flow["verification_uri"])
    enter(window, flow).click("approve")
    assert "access_token" in poll(client, flow)


def test_the_code_is_read_as_people_write_it(fake_entra: FakeEntra, client: Any) -> None:
    code = start(client)["user_code"]
    window = Window(fake_entra, f"https://login.microsoftonline.com/common/oauth2/deviceauth?user-code={code}")
    assert window.page.attributes["user-code"]["value"] == code
    window.click("next", user_code=f" {code[:4].lower()}-{code[4:]} ")
    assert window.page.title == "Sign in"


@pytest.mark.parametrize("why", ["unknown", "approved", "declined", "expired", "redeemed"])
def test_a_code_that_nobody_waits_for_is_asked_for_again(
    fake_entra: FakeEntra, fake_clock: FakeClock, client: Any, why: str
) -> None:
    flow = start(client)
    if why in ("approved", "redeemed"):
        fake_entra.approve_device_code(flow["user_code"], ANN)
    if why == "redeemed":
        poll(client, flow)
    if why == "declined":
        fake_entra.deny_device_code(flow["user_code"])
    if why == "expired":
        fake_clock.advance(900)
    window = Window(fake_entra, flow["verification_uri"])
    entered = "<b>" if why == "unknown" else flow["user_code"]
    window.click("next", user_code=entered)
    assert window.page.ids["message"].startswith("That code did not work")
    assert window.page.attributes["user-code"]["value"] == entered
    assert "<b>" not in window.page.html


def test_who_is_signed_in_need_only_approve(fake_entra: FakeEntra, client: Any) -> None:
    first, second = start(client), start(client)
    window = Window(fake_entra, first["verification_uri"])
    enter(window, first).click("approve")
    window.open(second["verification_uri"])
    window.click("next", user_code=second["user_code"])
    assert window.page.ids["user"] == ANN
    window.click("approve")
    assert "access_token" in poll(client, second)


def test_an_approval_is_consent_and_the_sign_in_that_was_required(fake_entra: FakeEntra, client: Any) -> None:
    first, second = start(client), start(client, "Mail.Read")
    window = Window(fake_entra, first["verification_uri"])
    enter(window, first).click("approve")
    poll(client, first)
    (account,) = client.get_accounts()
    fake_entra.require_interaction(scope="Mail.Read", error=EntraError(65001))
    fake_entra.require_interaction(scope="Mail.Read")
    window.open(second["verification_uri"])
    enter(window, second).click("approve")  # it asks who they are although it knows
    poll(client, second)
    assert "access_token" in client.acquire_token_silent(["Mail.Read"], account, force_refresh=True)


def test_a_code_does_not_show_in_the_log(fake_entra: FakeEntra, client: Any) -> None:
    flow = start(client)
    Window(fake_entra, flow["verification_uri"]).click("next", user_code=flow["user_code"])
    assert flow["user_code"] not in repr(fake_entra.requests)
