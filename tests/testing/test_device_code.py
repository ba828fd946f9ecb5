from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.testing import EntraError

from .helpers import claims_of, poll, public, signed_in

if TYPE_CHECKING:
    from aiomsal.testing import FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

USER = "adele@home.example"


@pytest.fixture
def client(fake_clock: FakeClock, fake_entra: FakeEntra) -> Any:
    fake_entra.add_user(USER)
    return public(fake_entra, fake_entra.add_application(public=True))


def test_it_is_pending_until_it_is_approved(fake_entra: FakeEntra, fake_clock: FakeClock, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    assert poll(client, flow)["error"] == "authorization_pending"
    fake_entra.approve_device_code(flow["user_code"], USER)
    result = poll(client, flow)
    assert claims_of(result["access_token"])["preferred_username"] == USER
    assert "refresh_token" in result
    assert fake_entra.count("devicecode") == 1
    assert fake_entra.count("token.device_code") == 2


def test_who_polls_too_soon_is_told_to_slow_down(fake_clock: FakeClock, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    assert poll(client, flow)["error"] == "authorization_pending"
    fake_clock.advance(4.9)
    assert poll(client, flow)["error"] == "slow_down"
    assert flow["interval"] == 10
    fake_clock.advance(9.9)
    assert poll(client, flow)["error"] == "slow_down"
    fake_clock.advance(15)
    assert poll(client, flow)["error"] == "authorization_pending"


def test_an_approved_code_is_given_however_soon(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    poll(client, flow)
    fake_entra.approve_device_code(flow["user_code"], USER)
    assert "access_token" in poll(client, flow)


def test_it_expires(fake_entra: FakeEntra, fake_clock: FakeClock, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    fake_entra.approve_device_code(flow["user_code"], USER)
    fake_clock.advance(900)
    assert poll(client, flow)["error"] == "expired_token"


def test_it_can_be_declined(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    fake_entra.deny_device_code(flow["user_code"])
    assert poll(client, flow)["error"] == "authorization_declined"


def test_it_is_redeemed_once(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    fake_entra.approve_device_code(flow["user_code"], USER)
    assert "access_token" in poll(client, flow)
    again = poll(client, flow)
    assert (again["error"], again["error_codes"]) == ("invalid_grant", [54005])


def test_it_belongs_to_its_client(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    fake_entra.approve_device_code(flow["user_code"], USER)
    other = public(fake_entra, fake_entra.add_application(public=True))
    assert poll(other, flow)["error"] == "bad_verification_code"


def test_all_are_approved_at_once_if_so_configured(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.configure(auto_approve=USER)
    assert "access_token" in poll(client, client.initiate_device_flow(["User.Read"]))
    with pytest.raises(ValueError, match="no user 'nobody'"):
        fake_entra.configure(auto_approve="nobody")


def test_a_user_code_that_nobody_holds_is_an_error(fake_entra: FakeEntra) -> None:
    fake_entra.add_user(USER)
    with pytest.raises(ValueError, match="no device code is waiting"):
        fake_entra.approve_device_code("BCDFGHJKL", USER)
    with pytest.raises(ValueError, match="no device code is waiting"):
        fake_entra.deny_device_code("BCDFGHJKL")


def test_an_approval_is_consent_to_what_was_asked_for(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.require_interaction(USER, error=EntraError(65001))
    signed_in(fake_entra, client, ["User.Read"])
    (account,) = client.get_accounts()
    refreshed = client.acquire_token_silent_with_error(["User.Read"], account, force_refresh=True)
    assert "access_token" in refreshed


def test_under_common_the_users_home_issues(fake_entra: FakeEntra) -> None:
    contoso = fake_entra.add_tenant("contoso.example")
    fake_entra.add_user("cleo@contoso.example", tenant="contoso.example")
    app = fake_entra.add_application(public=True)
    client = public(fake_entra, app, authority=fake_entra.authority("common"))
    result = signed_in(fake_entra, client, ["User.Read"], "cleo@contoso.example")
    assert claims_of(result["access_token"])["tid"] == contoso.tenant_id
    assert result["id_token_claims"]["iss"] == f"{fake_entra.authority(contoso.tenant_id)}/v2.0"


def test_what_is_secret_does_not_show_in_the_log(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_device_flow(["User.Read"])
    fake_entra.approve_device_code(flow["user_code"], USER)
    result = poll(client, flow)
    shown = repr(fake_entra.requests)
    for secret in (flow["device_code"], flow["user_code"], result["access_token"], result["refresh_token"]):
        assert secret not in shown


def test_an_error_at_the_start_is_an_error(fake_entra: FakeEntra) -> None:
    stranger = fake_entra.add_application(public=True, multi_tenant=False)
    other = fake_entra.add_tenant()
    client = public(fake_entra, stranger, authority=fake_entra.authority(other.tenant_id))
    assert client.initiate_device_flow(["User.Read"])["error"] == "unauthorized_client"
