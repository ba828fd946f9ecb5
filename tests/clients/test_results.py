"""What the authority said, as tokens and errors."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from aiomsal import (
    Account,
    AuthorityError,
    AuthorityUnavailable,
    Classification,
    InteractionRequired,
    InvalidClient,
    Throttled,
    Token,
)
from aiomsal._token import TokenRequest
from aiomsal.clients._exchange import Exchange, Reply
from aiomsal.clients._gate import UNASKED_PAUSE, Gate
from aiomsal.clients._results import UNKNOWN_LIFETIME, account_of, error_of, failure_of, token_of
from aiomsal.clients._transport import TransportFailure

MSAL_NET = ("basic_action", "additional_action", "message_only", "consent_required", "user_password_expired")
"""The suberrors that MSAL.NET's `UiRequiredExceptionClassification` names."""
APP = TokenRequest("app", "https://h/t", "client_credentials", ("r/.default",))
USER = TokenRequest("app", "https://h/t", "user", ("User.Read",))


def exchange(body: dict[str, Any], status: int = 200, retry_after: float | None = None) -> Exchange:
    cache: Any = None
    made = Exchange(cache, 1000.0)
    made.answered = 1003.0
    made.reply = Reply("https://h/t/token", status, json.dumps(body), {}, body, retry_after)
    return made


def token(body: dict[str, Any], request: TokenRequest = APP) -> Token:
    return token_of(exchange({"access_token": "at", **body}), request, tenant_id="t", account=None)


def jwt(claims: dict[str, Any]) -> str:
    return f".{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}."


def test_the_life_of_a_token_is_counted_from_when_it_was_asked_for() -> None:
    made = token({"expires_in": 3600, "refresh_in": 1800})
    assert (made.expires_at, made.refresh_at, made.obtained_at) == (4600.0, 2800.0, 1003.0)


@pytest.mark.parametrize("granted", [None, "", "r/.default"], ids=repr)
def test_scopes_granted_as_asked_for_are_the_request_s_own(granted: str | None) -> None:
    assert token({"scope": granted} if granted is not None else {}).scopes is APP.scopes


def test_two_users_of_one_name_elsewhere_are_two_accounts() -> None:
    told = [exchange({"id_token": jwt({"sub": "s", "tid": tenant, "upn": "ann"})}) for tenant in ("a", "b", "a")]
    a, b, again = [account_of(each, "h", "t") for each in told]
    assert a == ("s", "h", "ann", "a")
    assert b == ("s", "h", "ann", "b")
    assert a is again


def test_a_clock_that_jumped_back_meanwhile_does_not_lengthen_it() -> None:
    jumped = exchange({"access_token": "at", "expires_in": 3600})
    jumped.answered = 500.0
    made = token_of(jumped, APP, tenant_id="t", account=None)
    assert (made.expires_at, made.obtained_at) == (4100.0, 500.0)


@pytest.mark.parametrize(("stated", "seconds"), [("3600", 3600), (3600.0, 3600), (59, 59)])
def test_numbers_come_as_numbers_or_as_texts(stated: Any, seconds: float) -> None:
    assert token({"expires_in": stated}).expires_at == 1000.0 + seconds


@pytest.mark.parametrize("absurd", [-1, 0, "soon", "nan", float("inf"), 10**400, 1e15, True, [], {}, None], ids=repr)
def test_an_absurd_expiry_is_not_believed_and_makes_no_storm(absurd: Any) -> None:
    made = token({"expires_in": absurd})
    assert made.expires_at == 1000.0 + UNKNOWN_LIFETIME
    assert made.refresh_at == made.expires_at


def test_a_lifetime_nobody_stated_is_msal_s_default_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert token({}).expires_at == 1600.0
        assert not caplog.records
        token({"expires_in": "soon"})
        assert "expires_in='soon'" in caplog.text


def test_an_expiry_may_be_a_moment() -> None:
    assert token({"expires_on": "2000"}).expires_at == 2000.0


@pytest.mark.parametrize("advice", [0, -5, 10**9, "x"])
def test_advice_to_refresh_at_no_time_within_the_life_is_none(advice: Any) -> None:
    made = token({"expires_in": 3600, "refresh_in": advice})
    assert made.refresh_at == made.expires_at


def test_scopes_granted_are_told_and_those_asked_for_if_they_are_not() -> None:
    assert token({"scope": "b a a"}).scopes == ("a", "b")
    assert token({}).scopes == APP.scopes


def test_the_token_type_is_spelt_as_headers_spell_it() -> None:
    assert token({"token_type": "bearer"}).authorization == "Bearer at"
    assert token({"token_type": "pop"}).token_type == "pop"
    assert token({"token_type": 7}).token_type == "Bearer"


def test_the_tenant_is_the_id_token_s_if_there_is_one() -> None:
    assert token({}).tenant_id == "t"
    assert token({"id_token": jwt({"tid": "guests"})}).tenant_id == "guests"


@pytest.mark.parametrize("body", [{}, {"access_token": ""}, {"access_token": 7}], ids=str)
def test_an_answer_without_a_token_is_no_usable_answer(body: dict[str, Any]) -> None:
    with pytest.raises(AuthorityUnavailable) as caught:
        token_of(exchange(body), APP, tenant_id="t", account=None)
    assert caught.value.status == 200


def test_accounts_are_named_by_client_info_or_else_by_the_id_token() -> None:
    info = jwt({"uid": "u", "utid": "h"}).strip(".")
    id_token = jwt({"sub": "s", "tid": "guests", "preferred_username": "ann"})
    assert account_of(exchange({"client_info": info, "id_token": id_token}), "e", "t") == Account(
        "u.h", "e", "ann", "guests"
    )
    assert account_of(exchange({"client_info": info}), "e", "t") == Account("u.h", "e", "", "t")
    assert account_of(exchange({"id_token": jwt({"sub": "s", "upn": "ann"})}), "e", "t") == Account(
        "s", "e", "ann", "t"
    )
    assert account_of(exchange({}), "e", "t") is None


@pytest.mark.parametrize(
    ("status", "body", "request_", "kind"),
    [
        (400, {"error": "invalid_grant"}, USER, InteractionRequired),
        (400, {"error": "login_required"}, USER, InteractionRequired),
        (400, {"error": "invalid_grant"}, APP, AuthorityError),
        (400, {"error": "invalid_scope"}, USER, AuthorityError),
        (401, {"error": "invalid_client"}, USER, InvalidClient),
        (400, {"error": "unauthorized_client"}, APP, InvalidClient),
        (400, {"error": "invalid_request", "error_codes": [7000222]}, APP, InvalidClient),
        (400, {"error": "invalid_grant", "error_codes": [700024]}, USER, InvalidClient),
        (429, {"error": "invalid_grant"}, USER, Throttled),
        (500, {"error": "server_error"}, USER, AuthorityUnavailable),
        (503, {"error": "invalid_grant"}, USER, AuthorityUnavailable),
        (408, {"error": "invalid_grant"}, USER, AuthorityUnavailable),
        (400, {"error": "temporarily_unavailable"}, USER, AuthorityUnavailable),
        (400, {"error": 7, "error_codes": "x", "suberror": [], "claims": {}, "trace_id": None}, USER, AuthorityError),
    ],
    ids=str,
)
def test_the_kind_of_an_error(status: int, body: dict[str, Any], request_: TokenRequest, kind: type[Exception]) -> None:
    error = error_of(body, exchange(body, status), request_)
    assert type(error) is kind
    assert error.correlation_id


def test_what_is_shown_of_a_response_is_what_is_known_to_be_harmless() -> None:
    body = {
        "error": "invalid_grant",
        "error_description": "AADSTS1: no",
        "error_codes": [1],
        "refresh_token": "rt",
        "x": "y",
    }
    error = error_of(body, exchange(body, 400), USER)
    assert error.response == {"error": "invalid_grant", "error_description": "AADSTS1: no", "error_codes": [1]}
    assert str(error) == "invalid_grant: AADSTS1: no"


@pytest.mark.parametrize(("stated", "told"), [(12.0, 12.0), (0.0, 0.0), (None, UNASKED_PAUSE)])
def test_a_429_tells_the_seconds_that_the_gate_waits(stated: float | None, told: float) -> None:
    refused = exchange({"error": "x"}, 429, stated)
    for error in (error_of({"error": "x"}, refused, APP), failure_of(TransportFailure("no JSON"), refused)):
        assert isinstance(error, Throttled)
        assert error.retry_after == told
    gate = Gate("h", clock=lambda: 1000.0)
    gate.note(429, stated)
    assert gate._welcome_at == 1000.0 + told


@pytest.mark.parametrize(
    ("suberror", "classification"),
    [
        *[(kind.value, kind) for kind in Classification if kind.value in MSAL_NET],
        *[(suberror, Classification.NONE) for suberror in ("bad_token", "token_expired", "client_mismatch", "", "new")],
        *[(suberror, Classification.NONE) for suberror in ("protection_policy_required", "Basic_Action")],
        *[(suberror, Classification.NONE) for suberror in ("device_authentication_failed", "prompt_never_failed")],
        ("acquire_token_silent_failed", Classification.NONE),  # a word of ours, and none of the authority's
    ],
)
@pytest.mark.parametrize("code", ["invalid_grant", "interaction_required", "login_required"])
def test_what_only_a_person_can_resolve_is_classified_by_its_suberror(
    code: str, suberror: str, classification: Classification
) -> None:
    body = {"error": code, "suberror": suberror, "claims": '{"access_token": {}}'}
    error = error_of(body, exchange(body, 400), USER)
    assert isinstance(error, InteractionRequired)
    assert error.classification is classification
    assert (error.code, error.suberror, error.claims) == (code, suberror, '{"access_token": {}}')


@pytest.mark.parametrize("suberror", ["", "basic_action"])
def test_consent_that_is_required_is_so_whatever_the_suberror(suberror: str) -> None:
    body = {"error": "consent_required", "suberror": suberror}
    error = error_of(body, exchange(body, 400), USER)
    assert isinstance(error, InteractionRequired)
    assert error.classification is Classification.CONSENT_REQUIRED


def test_a_host_that_is_not_known_is_told_what_to_pass() -> None:
    body = {"error": "invalid_instance", "error_description": "AADSTS50049: Unknown or invalid instance."}
    error = failure_of(ValueError("invalid_instance: ..."), exchange(body, 400))
    assert type(error) is AuthorityError
    assert "instance_discovery=False" in str(error)
    assert error.code == "invalid_instance"


def test_what_msal_raises_by_itself_is_told_in_its_words_without_tokens() -> None:
    error = failure_of(ValueError(f"cannot read eyJabcdefgh.{'x' * 20}.z"), exchange({}))
    assert type(error) is AuthorityError
    assert str(error) == "msal_failed: cannot read [hidden]"
