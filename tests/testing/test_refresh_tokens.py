from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.testing import EntraError
from aiomsal.testing._entra.errors import RefusedError
from aiomsal.testing._entra.refresh import Family, RefreshTokens
from aiomsal.testing._entra.signins import SignIn

from .helpers import claims_of, confidential, public, signed_in

if TYPE_CHECKING:
    from aiomsal.testing import FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

USER = "adele@home.example"


class SignedIn:
    """A user signed in to a public client of real MSAL."""

    def __init__(self, entra: FakeEntra) -> None:
        self.entra = entra
        self.user = entra.add_user(USER, name="Adele Vance")
        self.app = entra.add_application(public=True)
        self.client = public(entra, self.app)
        self.result = signed_in(entra, self.client, ["User.Read"])

    def refresh(self, scope: str = "User.Read") -> dict[str, Any]:
        account = self.client.get_accounts()[0]
        result: dict[str, Any] = self.client.acquire_token_silent_with_error([scope], account, force_refresh=True)
        return result

    def redeem(self, refresh_token: str) -> dict[str, Any]:
        """Refresh without MSAL, which would always use the newest one."""
        url = f"{self.entra.authority()}/oauth2/v2.0/token"
        form = {"grant_type": "refresh_token", "client_id": self.app.client_id, "refresh_token": refresh_token}
        result: dict[str, Any] = json.loads(self.entra.http_client().post(url, data=form).text)
        return result


@pytest.fixture
def adele(fake_entra: FakeEntra) -> SignedIn:
    return SignedIn(fake_entra)


def code_of(result: dict[str, Any]) -> int:
    code: int = result["error_codes"][0]
    return code


def test_a_silent_refresh_gets_a_new_token_of_the_same_user(adele: SignedIn) -> None:
    result = adele.refresh()
    before, after = claims_of(adele.result["access_token"]), claims_of(result["access_token"])
    assert before["jti"] != after["jti"]
    assert before["oid"] == after["oid"] == adele.user.object_id
    assert after["scp"] == "User.Read"
    assert after["preferred_username"] == USER


def test_the_account_is_that_of_the_users_home(adele: SignedIn) -> None:
    (account,) = adele.client.get_accounts()
    assert account["home_account_id"] == f"{adele.user.object_id}.{adele.user.tenant_id}"
    assert account["username"] == USER


def test_the_id_token_is_for_the_client(adele: SignedIn) -> None:
    claims = adele.result["id_token_claims"]
    assert claims["aud"] == adele.app.client_id
    assert claims["oid"] == adele.user.object_id
    assert claims["name"] == "Adele Vance"


def test_a_refresh_token_is_good_for_another_resource(adele: SignedIn) -> None:
    result = adele.refresh("api://other/Read")
    assert claims_of(result["access_token"])["aud"] == "api://other"


def test_a_guest_has_another_object_id_and_the_same_account(adele: SignedIn) -> None:
    other = adele.entra.add_tenant()
    account = adele.client.get_accounts()[0]
    cache = adele.client.token_cache
    elsewhere = public(adele.entra, adele.app, authority=adele.entra.authority(other.tenant_id), token_cache=cache)
    result = elsewhere.acquire_token_silent_with_error(["User.Read"], account)
    claims = claims_of(result["access_token"])
    assert claims["tid"] == other.tenant_id
    assert claims["oid"] == adele.user.object_id_in(other.tenant_id) != adele.user.object_id
    assert [a["home_account_id"] for a in adele.client.get_accounts()] == [account["home_account_id"]]


def test_an_old_refresh_token_works_on_as_at_entra(adele: SignedIn) -> None:
    first = adele.result["refresh_token"]
    second = adele.redeem(first)["refresh_token"]
    assert second != first
    assert "access_token" in adele.redeem(first)
    assert "access_token" in adele.redeem(second)


def test_without_rotation_no_new_refresh_token_comes(adele: SignedIn) -> None:
    adele.entra.configure(rotation="off")
    assert "refresh_token" not in adele.redeem(adele.result["refresh_token"])
    assert "access_token" in adele.refresh()


def test_under_strict_rotation_a_chain_of_refreshes_works(adele: SignedIn) -> None:
    adele.entra.configure(rotation="strict")
    for _ in range(3):
        assert "access_token" in adele.refresh()
    assert adele.entra.count("token.refresh_token") == 3


def test_under_strict_rotation_reuse_revokes_the_family(adele: SignedIn) -> None:
    adele.entra.configure(rotation="strict")
    first = adele.result["refresh_token"]
    second = adele.redeem(first)["refresh_token"]
    reused = adele.redeem(first)
    assert (reused["error"], code_of(reused), reused["suberror"]) == ("invalid_grant", 70000, "bad_token")
    assert code_of(adele.redeem(second)) == 50173


def test_of_two_who_redeem_at_the_same_instant_one_is_refused(adele: SignedIn) -> None:
    """Both have found the token good before either has used it up."""
    tokens = RefreshTokens()
    text = tokens.issue(Family(SignIn(adele.user, 1, 0), adele.app.client_id), "User.Read", expires_at=10)
    first, second = (tokens.find(text, adele.app.client_id, now=1) for _ in range(2))
    tokens.use_up(first)
    with pytest.raises(RefusedError, match="AADSTS70000"):
        tokens.use_up(second)
    assert first.family.revoked


def test_reuse_does_not_touch_another_sign_in(adele: SignedIn) -> None:
    adele.entra.configure(rotation="strict")
    other = signed_in(adele.entra, adele.client, ["User.Read"])["refresh_token"]
    adele.redeem(adele.result["refresh_token"])
    adele.redeem(adele.result["refresh_token"])
    assert "access_token" in adele.redeem(other)


def test_a_refresh_that_is_refused_does_not_use_the_token_up(adele: SignedIn) -> None:
    adele.entra.configure(rotation="strict")
    adele.entra.fault("token.refresh_token", status=503, times=1)
    assert "error" in adele.redeem(adele.result["refresh_token"])
    assert "access_token" in adele.redeem(adele.result["refresh_token"])


def test_refresh_tokens_of_a_user_can_be_revoked_and_a_sign_in_helps(adele: SignedIn) -> None:
    assert adele.entra.revoke_refresh_tokens(USER) == 1
    refused = adele.refresh()
    assert (refused["error"], code_of(refused)) == ("invalid_grant", 50173)
    signed_in(adele.entra, adele.client, ["User.Read"])
    assert "access_token" in adele.refresh()


def test_a_refresh_token_expires(fake_clock: FakeClock, adele: SignedIn) -> None:
    fake_clock.advance(adele.entra.settings.refresh_token_expires_in - 1)
    assert "access_token" in adele.redeem(adele.result["refresh_token"])
    fake_clock.advance(1)
    assert code_of(adele.redeem(adele.result["refresh_token"])) == 700082


def test_a_refresh_token_belongs_to_its_client(adele: SignedIn) -> None:
    adele.app = adele.entra.add_application(public=True)
    assert code_of(adele.redeem(adele.result["refresh_token"])) == 70000
    assert code_of(adele.redeem("made up")) == 70000


def test_a_confidential_client_must_prove_itself_to_refresh(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    refused = confidential(fake_entra, app, "wrong").acquire_token_by_refresh_token("made up", ["User.Read"])
    assert code_of(refused) == 7000215


def test_multifactor_authentication_is_required_until_the_user_signs_in_again(adele: SignedIn) -> None:
    adele.entra.require_interaction(USER)
    refused = adele.refresh()
    assert (refused["error"], code_of(refused)) == ("invalid_grant", 50076)
    assert refused["suberror"] == refused["classification"] == "basic_action"
    signed_in(adele.entra, adele.client, ["User.Read"])
    assert "access_token" in adele.refresh()


def test_consent_is_required_for_one_scope_and_one_user(adele: SignedIn) -> None:
    consent = EntraError(65001, claims='{"access_token":{}}')
    adele.entra.require_interaction(adele.user, scope="https://graph.microsoft.com/Mail.Read", error=consent)
    refused = adele.refresh("Mail.Read")
    assert (code_of(refused), refused["suberror"], refused["claims"]) == (65001, "consent_required", consent.claims)
    assert "access_token" in adele.refresh("User.Read")


def test_a_requirement_of_another_user_concerns_nobody_else(adele: SignedIn) -> None:
    adele.entra.add_user("bert@home.example")
    adele.entra.require_interaction("bert@home.example")
    assert "access_token" in adele.refresh()
    adele.entra.require_interaction()
    assert code_of(adele.refresh()) == 50076


def test_an_unknown_user_is_an_error_that_says_what_to_do(fake_entra: FakeEntra) -> None:
    with pytest.raises(ValueError, match=r"add one with add_user\('nobody'\)"):
        fake_entra.revoke_refresh_tokens("nobody")
