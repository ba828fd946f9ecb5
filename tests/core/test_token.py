"""Tokens, requests, and what is refused before anything is sent."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal._client import Acquired
from aiomsal._token import (
    Account,
    Token,
    TokenRequest,
    canonical_claims,
    canonical_scopes,
    check_options,
    decode_claims,
)

SECRET = "s3cret"
TOKEN = Token(SECRET, 2.0, 1.5, 1.0, account=Account("oid.tid"), id_token=f"header.{SECRET}.signature")


def jwt(payload: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


def test_neither_a_token_nor_an_acquisition_shows_its_secrets() -> None:
    for shown in (TOKEN, Acquired(TOKEN, SECRET.encode()), [TOKEN], {"token": TOKEN}):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert SECRET not in text
            assert "oid.tid" in text


def test_a_token_is_frozen_and_survives_copies_and_pickles() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TOKEN.value = "other"  # type: ignore[misc]
    assert copy.copy(TOKEN) == copy.deepcopy(TOKEN) == pickle.loads(pickle.dumps(TOKEN)) == TOKEN


def test_the_authorization_names_the_type_of_the_token() -> None:
    assert TOKEN.authorization == f"Bearer {SECRET}"
    assert Token("value", 1, 1, token_type="pop").authorization == "pop value"


def test_an_account_survives_json() -> None:
    account = Account("oid.tid", "host", "name", "tid")
    assert Account(*json.loads(json.dumps(account))) == account


@pytest.mark.parametrize(
    ("grant", "account", "unbound"), [("user", "", True), ("user", "oid.tid", False), ("client_credentials", "", False)]
)
def test_a_users_request_without_an_account_is_unbound(grant: str, account: str, unbound: bool) -> None:
    assert TokenRequest("client", "https://host/tenant", grant, ("a",), account).unbound is unbound


# -- claims of an ID token -------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_the_claims_of_an_id_token_are_read(claims: dict[str, Any]) -> None:
    token = Token("value", 1, 1, id_token=jwt(json.dumps(claims).encode()))
    assert token.id_token_claims == claims


@given(st.text() | st.binary().map(jwt) | st.text().map(lambda text: jwt(text.encode("utf-8", "replace"))))
def test_an_id_token_that_is_none_has_no_claims(text: str) -> None:
    assert isinstance(decode_claims(text), dict)


@pytest.mark.parametrize("payload", [b"", b"[1]", b"null", b'"text"', b"\xff", b"[" * 100_000])
def test_a_payload_that_is_no_object_has_no_claims(payload: bytes) -> None:
    assert decode_claims(jwt(payload)) == {}


def test_without_an_id_token_there_are_no_claims() -> None:
    assert Token("value", 1, 1).id_token_claims == {}


# -- scopes ----------------------------------------------------------------------------------------------------------


def test_scopes_are_a_set() -> None:
    assert canonical_scopes(("b", "a", "b")) == ("a", "b")


@pytest.mark.parametrize("scope", [["User.Read"], ("User.Read",), {"User.Read"}, None, 7, b"User.Read"])
def test_what_is_not_a_string_is_no_scope_and_the_error_says_what_to_write(scope: object) -> None:
    with pytest.raises(TypeError, match=rf"not {type(scope).__name__}: pass several scopes as several arguments"):
        canonical_scopes((scope,))
    with pytest.raises(TypeError, match=r"get\(\*scopes\)"):
        canonical_scopes(("User.Read", scope))


@pytest.mark.parametrize("scope", ["", " ", "a b", " a", "a ", "a\n", "a\tb", "a\u00a0b"])
def test_an_empty_scope_or_one_with_blanks_is_refused_and_the_error_says_what_to_write(scope: str) -> None:
    with pytest.raises(ValueError, match="pass several as several arguments"):
        canonical_scopes((scope,))


def test_no_scope_is_refused_and_the_error_gives_an_example() -> None:
    with pytest.raises(ValueError, match=r'at least one scope: "User\.Read"'):
        canonical_scopes(())


# -- claims challenges -----------------------------------------------------------------------------------------------


def test_claims_are_the_text_of_a_json_object() -> None:
    assert (
        canonical_claims(' {"access_token": {"nbf": {"value": "1"}}}\n') == '{"access_token": {"nbf": {"value": "1"}}}'
    )


@pytest.mark.parametrize(
    "claims",
    ["", "{", "[]", "null", "7", '"text"', "eyJhY2Nlc3NfdG9rZW4iOnt9fQ", "[" * 100_000, '{"a":' * 100_000],
    ids=lambda claims: claims[:8],
)
def test_claims_that_are_no_json_object_are_refused_and_the_error_says_what_to_do(claims: str) -> None:
    with pytest.raises(ValueError, match="base64url: decode it"):
        canonical_claims(claims)


@pytest.mark.parametrize("claims", [{"access_token": {}}, b"{}", None, 7])
def test_claims_that_are_no_text_are_refused_and_the_error_says_what_to_do(claims: object) -> None:
    with pytest.raises(TypeError, match=r"use json\.dumps"):
        canonical_claims(claims)


# -- keywords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["account", "login_hint", "claims", "rejected", "on_behalf_of", "anything"])
@pytest.mark.parametrize("value", [None, "", Account("")])
def test_a_keyword_that_names_nothing_is_refused_and_the_error_says_what_to_do(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}=.* names nothing: leave the keyword out"):
        check_options({"tenant": "tenant", name: value})


@pytest.mark.parametrize("rejected", ["token", 7, Account("a")])
def test_what_is_rejected_is_a_token(rejected: object) -> None:
    with pytest.raises(TypeError, match=rf"the Token that was refused, not {type(rejected).__name__}"):
        check_options({"rejected": rejected})


def test_a_token_passed_as_text_is_not_repeated_in_the_error() -> None:
    with pytest.raises(TypeError) as raised:
        check_options({"rejected": SECRET})
    assert SECRET not in str(raised.value)


def test_keywords_go_to_the_client_but_for_the_rejected_token() -> None:
    options = {"account": "oid.tid", "rejected": TOKEN, "flag": False, "number": 0}
    assert check_options(options) == ({"account": "oid.tid", "flag": False, "number": 0}, TOKEN)
    assert check_options({}) == ({}, None)
