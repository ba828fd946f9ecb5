"""Users with passwords, users whose accounts are disabled, and answers about the wrong user or none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from aiomsal.testing import EntraError

from .helpers import TOKEN_PATH, claims_of, confidential, poll, public, signed_in, trusting_session

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra, User

# MSAL warns of the grant as such.
pytestmark = [pytest.mark.timeout(20), pytest.mark.filterwarnings("ignore:This API has been deprecated")]

ANN, BEN = "ann@home.example", "ben@home.example"
PASSWORD = "correct horse"
LOOPBACK = "http://localhost:8400"


@pytest.fixture
def ann(fake_entra: FakeEntra) -> User:
    return fake_entra.add_user(ANN, password=PASSWORD)


@pytest.fixture
def ben(fake_entra: FakeEntra) -> User:
    return fake_entra.add_user(BEN)


@pytest.fixture
def app(fake_entra: FakeEntra, ann: User, ben: User) -> Application:
    return fake_entra.add_application(public=True)


@pytest.fixture
def client(fake_entra: FakeEntra, app: Application) -> Any:
    return public(fake_entra, app)


def by_password(client: Any, username: str = ANN, password: str = PASSWORD, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = client.acquire_token_by_username_password(username, password, ["User.Read"], **options)
    return result


def by_code(entra: FakeEntra, client: Any, username: str = ANN) -> dict[str, Any]:
    flow = client.initiate_auth_code_flow(["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post")
    params = entra.authorize(flow["auth_uri"], username).params
    result: dict[str, Any] = client.acquire_token_by_auth_code_flow(flow, params)
    return result


def refresh(client: Any) -> dict[str, Any]:
    (account,) = client.get_accounts()
    result: dict[str, Any] = client.acquire_token_silent_with_error(["User.Read"], account, force_refresh=True)
    return result


def redeem(entra: FakeEntra, app: Application, refresh_token: str) -> dict[str, Any]:
    """Refresh without MSAL, which would always use the newest one."""
    form = {"grant_type": "refresh_token", "client_id": app.client_id, "refresh_token": refresh_token}
    text = entra.http_client().post(f"{entra.authority()}/{TOKEN_PATH}", data=form).text
    result: dict[str, Any] = json.loads(text)
    return result


def whose(result: dict[str, Any]) -> str:
    username: str = claims_of(result["access_token"])["preferred_username"]
    return username


# -- passwords


def test_a_password_gets_tokens_and_a_refresh_token(fake_entra: FakeEntra, client: Any) -> None:
    assert whose(by_password(client)) == ANN
    assert whose(refresh(client)) == ANN
    kinds = [record.kind for record in fake_entra.requests][-3:]
    assert kinds == ["user_realm", "token.password", "token.refresh_token"]


def test_a_confidential_client_may_use_it_too(fake_entra: FakeEntra, ann: User) -> None:
    app = fake_entra.add_application()
    assert whose(by_password(confidential(fake_entra, app))) == ANN


@pytest.mark.parametrize(
    ("username", "password", "number"),
    [(ANN, "wrong", 50126), (BEN, "anything", 50126), ("nobody@home.example", PASSWORD, 50034)],
)
def test_a_wrong_name_or_password_is_refused(client: Any, username: str, password: str, number: int) -> None:
    refused = by_password(client, username, password)
    assert (refused["error"], refused["error_codes"]) == ("invalid_grant", [number])


def test_a_password_is_not_enough_where_more_is_required(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.require_interaction(ANN)
    assert by_password(client)["error_codes"] == [50076]
    by_code(fake_entra, client)
    assert by_password(client)["error_codes"] == [50076], "the password is still only a password"


def test_a_password_is_no_consent(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.require_interaction(ANN, error=EntraError(65001))
    assert by_password(client)["error_codes"] == [65001]
    by_code(fake_entra, client)
    assert whose(by_password(client)) == ANN


def test_a_password_shows_nowhere(fake_entra: FakeEntra, client: Any, ann: User) -> None:
    by_password(client)
    assert PASSWORD not in repr((fake_entra.requests, ann))


# -- disabled accounts


def test_a_disabled_user_is_refused_everywhere(fake_entra: FakeEntra, client: Any) -> None:
    by_code(fake_entra, client)
    approved = client.initiate_device_flow(["User.Read"])
    fake_entra.approve_device_code(approved["user_code"], ANN)
    flow = client.initiate_auth_code_flow(["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post")
    params = fake_entra.authorize(flow["auth_uri"], ANN).params
    fake_entra.disable_user(ANN)
    results = [
        refresh(client),
        poll(client, approved),
        client.acquire_token_by_auth_code_flow(flow, params),
        by_password(client),
    ]
    assert [(result["error"], result["error_codes"]) for result in results] == [("invalid_grant", [50057])] * 4
    assert by_password(client, password="wrong")["error_codes"] == [50126], "who does not know it learns nothing"
    assert whose(by_code(fake_entra, client, BEN)) == BEN


# -- answers about somebody else, or nobody


@pytest.mark.parametrize("kind", ["token", "token.refresh_token"])
def test_a_refresh_can_be_answered_for_another_user(
    fake_entra: FakeEntra, app: Application, client: Any, ben: User, kind: str
) -> None:
    refresh_token = by_code(fake_entra, client)["refresh_token"]
    fake_entra.fault(kind, answer_for=ben, times=1)
    wrong = redeem(fake_entra, app, refresh_token)
    assert (whose(wrong), claims_of(wrong["id_token"])["oid"]) == (BEN, ben.object_id)
    assert whose(redeem(fake_entra, app, wrong["refresh_token"])) == BEN
    assert whose(redeem(fake_entra, app, refresh_token)) == ANN


def test_so_can_a_sign_in(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.fault("token", answer_for=BEN, times=1)
    wrong = by_code(fake_entra, client)
    assert (whose(wrong), wrong["id_token_claims"]["preferred_username"]) == (BEN, BEN)
    (account,) = client.get_accounts()
    assert account["username"] == BEN  # client_info is Ben's too
    with pytest.raises(ValueError, match="no user 'nobody'"):
        fake_entra.fault("token", answer_for="nobody")


def test_answers_go_without_client_info_and_id_tokens_if_so_configured(fake_entra: FakeEntra, app: Application) -> None:
    for left_out in ("client_info", "id_token"):
        client = public(fake_entra, app)
        fake_entra.configure(client_info=left_out != "client_info", id_tokens=left_out != "id_token")
        others = {"client_info", "id_token"} - {left_out}
        results = [by_code(fake_entra, client), by_password(client), signed_in(fake_entra, client, ["User.Read"], ANN)]
        for result in results:
            assert left_out not in result
            assert others <= result.keys()
    fake_entra.configure(client_info=False, id_tokens=True)
    flow = public(fake_entra, app).initiate_auth_code_flow(
        ["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post"
    )
    assert "client_info" not in fake_entra.authorize(flow["auth_uri"], ANN).params


# -- answers that are lost


@pytest.mark.parametrize("face", ["in process", "over https"])
def test_a_lost_answer_leaves_the_refresh_token_used_up(fake_entra: FakeEntra, client: Any, face: str) -> None:
    fake_entra.configure(rotation="strict")
    token = by_code(fake_entra, client)["refresh_token"]
    form = {"grant_type": "refresh_token", "client_id": client.client_id, "refresh_token": token}
    fake_entra.fault("token.refresh_token", lost=True, times=1)
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        asked: Any = session if face == "over https" else fake_entra.http_client()
        url = f"{server.authority()}/{TOKEN_PATH}"
        with pytest.raises(requests.ConnectionError):
            asked.post(url, data=form, timeout=10)
        assert fake_entra.requests[-1].status is None
        assert json.loads(asked.post(url, data=form, timeout=10).text)["error_codes"] == [70000]


def test_a_lost_answer_leaves_the_code_redeemed(fake_entra: FakeEntra, client: Any) -> None:
    flow = client.initiate_auth_code_flow(["User.Read"], redirect_uri=LOOPBACK, response_mode="form_post")
    params = fake_entra.authorize(flow["auth_uri"], ANN).params
    fake_entra.fault("token.authorization_code", lost=True, times=1)
    with pytest.raises(requests.ConnectionError):
        client.acquire_token_by_auth_code_flow({**flow}, params)
    assert client.acquire_token_by_auth_code_flow(flow, params)["error_codes"] == [54005]


def test_a_request_whose_answer_is_lost_suffers_nothing_else(fake_entra: FakeEntra, client: Any) -> None:
    fake_entra.fault("token", lost=True, times=1)
    fake_entra.fault("token", status=503, times=1)
    with pytest.raises(ValueError, match="ends in one way"):
        fake_entra.fault("token", lost=True, status=503)
    form = {"grant_type": "password", "client_id": client.client_id, "scope": "User.Read"}
    form.update(username=ANN, password=PASSWORD)
    asked = fake_entra.http_client()
    with pytest.raises(requests.ConnectionError):
        asked.post(f"{fake_entra.authority()}/{TOKEN_PATH}", data=form)
    statuses = [asked.post(f"{fake_entra.authority()}/{TOKEN_PATH}", data=form).status_code for _ in range(2)]
    assert statuses == [503, 200]
