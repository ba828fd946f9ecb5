"""Errors carry their data through copies and pickles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from aiomsal import _errors
from aiomsal._errors import (
    AccountRequired,
    AuthorityError,
    AuthorityUnavailable,
    Classification,
    FlightAborted,
    InteractionRequired,
    InvalidClient,
    SignInError,
    StoreError,
    Throttled,
    TokenError,
    copy_of,
)
from aiomsal._token import Account

COMMON: dict[str, Any] = {
    "code": "invalid_grant",
    "error_codes": (50076, 65001),
    "suberror": "basic_action",
    "claims": '{"access_token":{}}',
    "correlation_id": "correlation",
    "trace_id": "trace",
    "response": {"error": "invalid_grant"},
}
OWN: dict[type[TokenError], dict[str, Any]] = {
    TokenError: {},
    InteractionRequired: {"classification": Classification.CONSENT_REQUIRED},
    AccountRequired: {
        "classification": Classification.ACQUIRE_TOKEN_SILENT_FAILED,
        "candidates": (Account("a"), Account("b")),
    },
    AuthorityError: {},
    Throttled: {"retry_after": 7.5},
    AuthorityUnavailable: {"status": 503},
    InvalidClient: {},
    SignInError: {},
    StoreError: {},
    FlightAborted: {},
}


def test_every_error_of_the_tree_is_tried() -> None:
    tree = {each for each in vars(_errors).values() if isinstance(each, type) and issubclass(each, TokenError)}
    assert tree == OWN.keys()


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, copy_of, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_with_all_its_fields(kind: type[TokenError], how: Any) -> None:
    error = kind("what happened", **COMMON, **OWN[kind])
    error.add_note("a note")
    twin = how(error)
    assert type(twin) is kind
    assert twin is not error
    assert str(twin) == str(error) == "invalid_grant: what happened"
    assert {**vars(twin)} == {**vars(error)}
    for name, value in {**COMMON, **OWN[kind]}.items():
        assert getattr(twin, name) == value


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_an_error_without_words_has_its_defaults(kind: type[TokenError]) -> None:
    error = kind()
    assert str(error) == error.description == error.code == ""
    assert error.error_codes == ()
    assert error.response == {}
    assert copy.copy(error).response is not None
    assert all(not value for value in vars(error).values() if value is not Classification.NONE)


def test_the_code_is_said_once() -> None:
    assert str(TokenError("invalid_grant: no", code="invalid_grant")) == "invalid_grant: no"
    assert str(TokenError("no", code="invalid_grant")) == "invalid_grant: no"


def test_the_response_is_the_errors_own() -> None:
    response = {"error": "a"}
    error = TokenError(response=response)
    response["error"] = "b"
    assert error.response == {"error": "a"}


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (AccountRequired, InteractionRequired),
        (InteractionRequired, TokenError),
        (Throttled, AuthorityError),
        (AuthorityUnavailable, AuthorityError),
        (InvalidClient, AuthorityError),
        (AuthorityError, TokenError),
        (SignInError, TokenError),
        (StoreError, TokenError),
        (FlightAborted, TokenError),
    ],
)
def test_the_tree_is_as_documented(kind: type[TokenError], parent: type[TokenError]) -> None:
    assert kind.__bases__ == (parent,)
