"""Records: to bytes and back, keys, and garbage."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal._records import (
    Session,
    dump_session,
    dump_token,
    load_session,
    load_token,
    new_session,
    session_record_key,
    token_record_key,
)
from aiomsal._token import Account, Token, TokenRequest

texts = st.text(max_size=20)
dates = st.floats(allow_nan=False, allow_infinity=False)
tokens = st.builds(
    Token,
    value=texts,
    expires_at=dates,
    refresh_at=dates,
    obtained_at=dates,
    token_type=texts,
    scopes=st.lists(texts, max_size=3).map(tuple),
    account=st.none() | st.builds(Account, texts, texts, texts, texts),
    tenant_id=texts,
    correlation_id=texts,
    id_token=texts,
)
sessions = st.builds(Session, st.from_regex(r"\A[0-9a-f]{32}\Z"), st.binary(max_size=50))
TOKEN = Token(
    "value", 2.0, 1.5, 1.0, scopes=("a",), account=Account("oid.tid", "host", "name", "tid"), id_token="x.y.z"
)


@given(tokens)
def test_a_token_comes_back_as_it_was(token: Token) -> None:
    loaded = load_token(dump_token(token))
    assert loaded == token
    assert type(loaded.account) is type(token.account)
    assert hash(loaded) == hash(token)


@given(sessions)
def test_a_session_comes_back_as_it_was(session: Session) -> None:
    assert load_session(dump_session(session)) == session


def test_each_new_session_has_an_identifier_of_its_own() -> None:
    ids = {new_session(b"same").id for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)


def test_a_session_shows_nothing_of_itself() -> None:
    session = Session("0123456789abcdef", b"refresh token")
    assert repr(session) == str(session) == f"{session}" == "<Session of 13 bytes>"


# -- garbage ---------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_a_value_error(record: bytes) -> None:
    for load in (load_token, load_session):
        with pytest.raises(ValueError):
            load(record)


@given(name=st.sampled_from([*json.loads(dump_token(TOKEN)), "unknown"]), value=json_values)
def test_a_record_with_a_wrong_field_is_a_value_error_or_a_token_of_the_right_types(name: str, value: Any) -> None:
    record = json.dumps({**json.loads(dump_token(TOKEN)), name: value}).encode()
    try:
        token = load_token(record)
    except ValueError:
        return
    texts = (token.value, token.token_type, token.tenant_id, token.correlation_id, token.id_token, *token.scopes)
    assert all(type(text) is str for text in (*texts, *(token.account or ())))
    assert all(type(date) is float for date in (token.expires_at, token.refresh_at, token.obtained_at))
    assert type(token.scopes) is tuple
    assert token.account is None or type(token.account) is Account


@given(st.sampled_from([*json.loads(dump_token(TOKEN))]))
def test_a_record_cut_short_or_of_another_version_is_a_value_error(name: str) -> None:
    fields = json.loads(dump_token(TOKEN))
    with pytest.raises(ValueError):
        load_token(dump_token(TOKEN)[:-1])
    for version in (0, 2, "1", None):
        with pytest.raises(ValueError):
            load_token(json.dumps({**fields, "v": version}).encode())


@pytest.mark.parametrize(
    "record",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps({**json.loads(dump_token(TOKEN)), "expires_at": 10**400}).encode(),
        json.dumps({**json.loads(dump_token(TOKEN)), "expires_at": "2"}).encode(),
        b"aiomsal-session/2 id\ndata",
        b"aiomsal-session/1 id without data",
        b"aiomsal-session/1 \xff\ndata",
    ],
    ids=["deep list", "deep dict", "huge number", "number as text", "version 2", "cut", "not ascii"],
)
def test_what_has_broken_other_parsers_is_a_value_error(record: bytes) -> None:
    for load in (load_token, load_session):
        with pytest.raises(ValueError):
            load(record)


# -- keys ------------------------------------------------------------------------------------------------------------

REQUEST = TokenRequest(
    "client",
    "https://host/tenant",
    "user",
    ("a", "b"),
    "oid.tid",
    "name@host",
    '{"claims":1}',
    ("cp1",),
    (("k", "v"),),
    "pop",
    0,
)
CHANGES: dict[str, Any] = {
    "client_id": "other",
    "authority": "https://host/other",
    "grant": "other",
    "scopes": ("a", "c"),
    "account": "other",
    "login_hint": "other",
    "claims": "{}",
    "capabilities": ("cp2",),
    "extra": (("k", "w"),),
    "token_type": "Bearer",
}


def test_every_field_of_a_request_is_tried() -> None:
    assert CHANGES.keys() | {"generation"} == set(TokenRequest._fields)


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_changes_the_key(field: str) -> None:
    session = Session("id", b"")
    for other in (REQUEST._replace(**{field: CHANGES[field]}), REQUEST._replace(**{field: type(CHANGES[field])()})):
        assert token_record_key(other, session) != token_record_key(REQUEST, session)


def test_the_generation_is_not_part_of_the_key() -> None:
    assert token_record_key(REQUEST._replace(generation=7), None) == token_record_key(REQUEST, None)


def test_a_new_session_orphans_the_tokens_of_the_old() -> None:
    keys = {
        token_record_key(REQUEST, session) for session in (None, Session("", b""), Session("1", b""), Session("2", b""))
    }
    assert len(keys) == 4
    assert token_record_key(REQUEST, Session("1", b"other")) in keys


def test_keys_are_the_same_in_every_process_and_version() -> None:
    assert (
        token_record_key(REQUEST, None)
        == "aiomsal/v1/token/7941c3044538b96cbeb2992d9d59d7959b1b591b857e28a3c9eab514c45a7332"
    )
    assert (
        session_record_key("https://host oid.tid")
        == "aiomsal/v1/session/465ebdee79c4fc2c9cce455960db68a5d8f4dce7cf49b0317375776112155b72"
    )


requests = st.builds(
    TokenRequest,
    client_id=texts,
    authority=texts,
    grant=texts,
    scopes=st.lists(texts, max_size=3).map(tuple),
    account=texts,
    login_hint=texts,
    claims=texts,
    capabilities=st.lists(texts, max_size=3).map(tuple),
    extra=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    token_type=texts,
)


@given(requests, requests, st.none() | texts, st.none() | texts)
def test_keys_are_equal_only_for_equal_requests_and_sessions(
    one: TokenRequest, other: TokenRequest, one_id: str | None, other_id: str | None
) -> None:
    one_key = token_record_key(one, None if one_id is None else Session(one_id, b""))
    other_key = token_record_key(other, None if other_id is None else Session(other_id, b""))
    assert (one_key == other_key) == ((one, one_id) == (other, other_id))


@given(requests, sessions, st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_keys_are_short_printable_and_show_nothing(request_: TokenRequest, session: Session, session_key: str) -> None:
    for key in (token_record_key(request_, session), token_record_key(request_, None), session_record_key(session_key)):
        assert re.fullmatch(r"aiomsal/v1/(token|session)/[0-9a-f]{64}", key)
