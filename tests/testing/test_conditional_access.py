"""What is required of a sign-in besides having been: that it came with certain claims."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.testing import EntraError

from .helpers import TOKEN_PATH, claims_of, poll, public
from .window import Window

if TYPE_CHECKING:
    from aiomsal.testing import FakeEntra

pytestmark = pytest.mark.timeout(20)

ANN = "ann@home.example"
LOOPBACK = "http://localhost:8400"
CONTEXT = '{"access_token": {"acrs": {"essential": true, "value": "c1"}}}'
OTHER = '{"access_token": {"acrs": {"essential": true, "value": "c2"}}}'


class Ann:
    """A user, and a public client of real MSAL that she signs in to."""

    def __init__(self, entra: FakeEntra) -> None:
        entra.add_user(ANN)
        self.entra = entra
        self.app = entra.add_application(public=True)
        self.refresh_token = self.sign_in()

    def sign_in(self, claims: str | None = None, *, device: bool = False) -> str:
        client = public(self.entra, self.app)
        if device:
            flow = client.initiate_device_flow(["User.Read"], claims_challenge=claims)
            self.entra.approve_device_code(flow["user_code"], ANN)
            result = poll(client, flow)
        else:
            flow = client.initiate_auth_code_flow(
                ["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post", claims_challenge=claims
            )
            result = client.acquire_token_by_auth_code_flow(flow, self.entra.authorize(flow["auth_uri"], ANN).params)
        token: str = result["refresh_token"]
        return token

    def refresh(self, token: str, claims: str = "", scope: str = "User.Read") -> dict[str, Any]:
        form = {"grant_type": "refresh_token", "client_id": self.app.client_id, "refresh_token": token, "scope": scope}
        url = f"{self.entra.authority()}/{TOKEN_PATH}"
        result: dict[str, Any] = json.loads(self.entra.http_client().post(url, data={**form, "claims": claims}).text)
        return result


@pytest.fixture
def ann(fake_entra: FakeEntra) -> Ann:
    return Ann(fake_entra)


@pytest.mark.parametrize("device", [False, True])
def test_a_claims_challenge_is_satisfied_by_a_sign_in_that_brought_these_claims_only(ann: Ann, device: bool) -> None:
    ann.entra.require_interaction(ANN, scope="User.Read", error=EntraError(50076, claims=CONTEXT))
    refused = ann.refresh(ann.refresh_token)
    assert (refused["error"], refused["error_codes"], refused["claims"]) == ("invalid_grant", [50076], CONTEXT)
    assert "access_token" in ann.refresh(ann.refresh_token, scope="Mail.Read")
    for claims in (None, OTHER):
        assert ann.refresh(ann.sign_in(claims, device=device))["error_codes"] == [50076]
    assert ann.refresh(ann.refresh_token, CONTEXT)["error_codes"] == [50076], "only a person can satisfy it"
    assert "access_token" in ann.refresh(ann.sign_in(CONTEXT, device=device))
    assert ann.refresh(ann.refresh_token)["error_codes"] == [50076], "not by this sign-in"


def test_a_sign_in_from_before_does_not_count(ann: Ann) -> None:
    token = ann.sign_in(CONTEXT)
    ann.entra.require_interaction(ANN, error=EntraError(50076, claims=CONTEXT))
    assert ann.refresh(token)["error_codes"] == [50076]


def test_claims_are_compared_as_json_and_more_of_them_do_no_harm(ann: Ann) -> None:
    ann.entra.require_interaction(ANN, error=EntraError(50076, claims=CONTEXT))
    more = json.loads(CONTEXT)
    more["access_token"]["acrs"] = dict(reversed(more["access_token"]["acrs"].items()))
    more["access_token"]["xms_cc"] = {"values": ["cp1"]}
    more["id_token"] = {"auth_time": {"essential": True}}
    assert "access_token" in ann.refresh(ann.sign_in(json.dumps(more, indent=1)))
    less: dict[str, Any] = {"access_token": {"acrs": {"value": "c1"}}}
    assert ann.refresh(ann.sign_in(json.dumps(less)))["error_codes"] == [50076]
    for other in ({"access_token": None}, {"access_token": {"acrs": []}}):
        assert ann.refresh(ann.sign_in(json.dumps(other)))["error_codes"] == [50076]


def test_an_authentication_context_concerns_requests_that_ask_for_it(ann: Ann) -> None:
    ann.entra.require_interaction(ANN, claims=CONTEXT)
    assert "acrs" not in claims_of(ann.refresh(ann.refresh_token)["access_token"])
    assert claims_of(ann.refresh(ann.refresh_token, OTHER)["access_token"])["acrs"] == ["c2"]
    refused = ann.refresh(ann.refresh_token, CONTEXT)
    assert (refused["error"], refused["error_codes"]) == ("interaction_required", [50076])
    assert refused["suberror"] == "basic_action"
    assert ann.refresh(ann.sign_in(), CONTEXT)["error_codes"] == [50076]
    answer = ann.refresh(ann.sign_in(CONTEXT), CONTEXT)
    assert claims_of(answer["access_token"])["acrs"] == ["c1"]


def test_it_may_be_one_of_a_scope_with_an_error_of_its_own(ann: Ann) -> None:
    error = EntraError(53003, claims=OTHER)
    ann.entra.require_interaction(scope="Mail.Read", claims=CONTEXT, error=error)
    assert "access_token" in ann.refresh(ann.refresh_token, CONTEXT)
    refused = ann.refresh(ann.refresh_token, CONTEXT, "Mail.Read")
    assert (refused["error_codes"], refused["claims"]) == ([53003], OTHER)
    assert ann.refresh(ann.sign_in(CONTEXT), CONTEXT, "Mail.Read")["error_codes"] == [53003]
    assert "access_token" in ann.refresh(ann.sign_in(OTHER), CONTEXT, "Mail.Read")


def test_several_contexts_come_in_the_token(ann: Ann) -> None:
    both = '{"access_token": {"acrs": {"values": ["c1", "c2"]}}}'
    assert claims_of(ann.refresh(ann.refresh_token, both)["access_token"])["acrs"] == ["c1", "c2"]


def test_a_browser_that_remembers_asks_again_where_claims_demand_it(ann: Ann) -> None:
    client = public(ann.entra, ann.app)

    def uri(claims: str | None = None, prompt: str | None = None) -> str:
        flow = client.initiate_auth_code_flow(
            ["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post", claims_challenge=claims, prompt=prompt
        )
        where: str = flow["auth_uri"]
        return where

    window = Window(ann.entra, uri())
    window.click("sign-in", username=ANN)
    ann.entra.require_interaction(ANN, claims=CONTEXT)
    window.open(uri())
    assert window.left_for
    window.open(uri(CONTEXT, "none"))
    assert window.params["error"] == "interaction_required"
    window.open(uri(CONTEXT))
    assert window.left_for is None
    window.click("sign-in", username=ANN)
    window.open(uri(CONTEXT, "none"))
    assert "code" in window.params


@pytest.mark.parametrize("wrong", ["no json", "[]"])
def test_claims_that_are_no_object_are_an_error_of_the_test(ann: Ann, wrong: str) -> None:
    with pytest.raises(ValueError):
        ann.entra.require_interaction(claims=wrong)
    with pytest.raises(ValueError):
        ann.entra.require_interaction(error=EntraError(50076, claims=wrong))
    assert "access_token" in ann.refresh(ann.refresh_token)
