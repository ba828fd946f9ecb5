"""Sessions as bytes, and the MSAL token cache made of one."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest

from aiomsal import Account
from aiomsal.clients._exchange import Exchange, current
from aiomsal.clients._session import accounts_of, merged, profiles_of, without
from aiomsal.clients._session_cache import session_cache_class, shared_cache


def session(*people: str, signed_in: float = 1.0, stamp: float = 1.0, secret: str = "rt", **more: Any) -> bytes:
    """A session of these people, each with a refresh token and an ID token."""
    common = [{"home_account_id": f"{name}.home", "environment": "e", "realm": "home"} for name in people]
    return json.dumps(
        {
            "version": 1,
            "Account": [
                {**c, "username": name, "authority_type": "MSSTS"} for c, name in zip(common, people, strict=True)
            ],
            "RefreshToken": [
                {
                    **c,
                    "client_id": "app",
                    "secret": f"{secret}-{name}",
                    "signed_in_at": repr(signed_in),
                    "refreshed_at": repr(stamp),
                    "credential_type": "RefreshToken",
                }
                for c, name in zip(common, people, strict=True)
            ],
            "IdToken": [
                {**c, "client_id": "app", "secret": f"idt-{name}"} for c, name in zip(common, people, strict=True)
            ],
            "AppMetadata": [{"environment": "e", "client_id": "app"}],
            **more,
        }
    ).encode()


def names(data: bytes | None) -> set[str]:
    return {account.username for account in accounts_of(data or b"")}


def secrets(data: bytes) -> set[str]:
    return {entry["secret"] for entry in json.loads(data)["RefreshToken"]}


def test_who_is_in_a_session_is_told_once_and_by_the_home_tenant() -> None:
    data = json.loads(session("ann"))
    data["Account"].insert(0, {**data["Account"][0], "realm": "guests", "username": "ann#ext#"})
    data["Account"].append({**data["Account"][0]})
    assert accounts_of(json.dumps(data).encode()) == (Account("ann.home", "e", "ann", "home"),)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b'{"version": 2, "Account": [{}]}', b'{"version": 1, "Account": [7, {}]}']
)
def test_nobody_is_in_what_cannot_be_read(data: bytes) -> None:
    assert accounts_of(data) == ()
    assert without(data, "a.b") is None
    assert names(merged(data, session("ann"), sign_in=True)) == {"ann"}
    session_cache_class()().load(data)


def id_token(**claims: Any) -> str:
    return f".{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}."


def test_a_user_has_a_profile_in_each_tenant_that_accounts_or_id_tokens_tell_of() -> None:
    common = {"home_account_id": "ann.home", "environment": "e", "client_id": "app"}
    data = session(
        "ann",
        "ben",
        Account=[
            {**common, "realm": "b", "username": "ann#ext#", "local_account_id": "ann-at-b"},
            {**common, "realm": "home", "username": "ann", "local_account_id": "ann"},
            {**common, "home_account_id": "ben.home", "realm": "b", "username": "ben", "local_account_id": "ben"},
        ],
        IdToken=[
            {**common, "realm": "home", "secret": id_token(oid="ann", sub="x", preferred_username="ann@new.example")},
            {**common, "realm": "a", "secret": id_token(oid="ann-at-a", upn="ann#ext#@a")},
            {**common, "realm": "b", "secret": "unreadable"},
            {**common, "home_account_id": "ben.home", "realm": "a", "secret": id_token(oid="ben-at-a")},
        ],
    )
    assert profiles_of(data, "ann.home") == (
        ("home", "ann", "ann@new.example", True),
        ("a", "ann-at-a", "ann#ext#@a", False),
        ("b", "ann-at-b", "ann#ext#", False),
    )
    assert profiles_of(data, "nobody.home") == ()
    assert profiles_of(b"", "ann.home") == ()


def test_who_is_known_by_a_subject_only_is_at_home_where_it_is_known() -> None:
    entry = {
        "home_account_id": "sub|1",
        "environment": "e",
        "realm": "r",
        "local_account_id": "sub|1",
        "username": "ann",
    }
    assert profiles_of(session("ben", Account=[entry]), "sub|1") == (("r", "sub|1", "ann", True),)


def test_who_has_left_has_no_profile_though_an_id_token_stayed() -> None:
    assert profiles_of(session("ann", Account=[]), "ann.home") == ()


def test_a_sign_in_adds_and_replaces() -> None:
    data = merged(session("ann", "ben", stamp=9.0), session("ben", "cid", stamp=1.0, secret="new"), sign_in=True)
    assert names(data) == {"ann", "ben", "cid"}
    assert secrets(data) == {"rt-ann", "new-ben", "new-cid"}


def test_the_first_sign_in_makes_the_session() -> None:
    assert names(merged(None, session("ann"), sign_in=True)) == {"ann"}


def test_who_has_left_meanwhile_stays_away() -> None:
    assert names(merged(session("ben"), session("ann", "ben"), sign_in=False)) == {"ben"}
    assert names(merged(None, session("ann"), sign_in=False)) == set()


@pytest.mark.parametrize(("ours", "theirs", "stays"), [(1.0, 2.0, "new"), (2.0, 1.0, "old"), (1.5, 1.75, "new")])
def test_of_two_versions_of_a_refresh_token_the_newer_stays(ours: float, theirs: float, stays: str) -> None:
    data = merged(session("ann", stamp=ours, secret="old"), session("ann", stamp=theirs, secret="new"), sign_in=False)
    assert secrets(data) == {f"{stays}-ann"}


@pytest.mark.parametrize(("ours", "theirs", "stays"), [(1.0, 2.0, "new"), (2.0, 1.0, "old")])
def test_a_refresh_of_an_older_sign_in_gives_way_to_a_newer_one_however_late_it_comes(
    ours: float, theirs: float, stays: str
) -> None:
    held = session("ann", signed_in=ours, stamp=2.0 + theirs, secret="old")
    late = session("ann", signed_in=theirs, stamp=2.0 + ours, secret="new")
    assert secrets(merged(held, late, sign_in=False)) == {f"{stays}-ann"}


def test_equal_sessions_are_equal_bytes_in_whichever_order_they_came_about() -> None:
    one_by_one = {
        merged(merged(session(a), session(b), sign_in=True), session(c), sign_in=True)
        for a, b, c in itertools.permutations(("ann", "ben", "cid"))
    }
    assert len(one_by_one) == 1
    data = one_by_one.pop()
    assert merged(data, data, sign_in=False) == data


def test_who_leaves_takes_everything_along() -> None:
    data = without(session("ann", "ben"), "ann.home")
    assert data is not None
    assert b"ann" not in data
    assert names(data) == {"ben"}
    assert without(data, "ben.home") is None
    assert without(data, "nobody") == data


# -- MSAL's cache ----------------------------------------------------------------------------------------------------

EVENT: dict[str, Any] = {
    "client_id": "app",
    "scope": ["User.Read"],
    "token_endpoint": "https://e/tenant/oauth2/v2.0/token",
    "environment": "e",
    "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    "data": {"device_code": "dc-secret"},
    "response": {
        "access_token": "at-secret",
        "refresh_token": "rt-secret",
        "expires_in": "not a number",
        "refresh_in": "neither",
        "client_info": "eyJ1aWQiOiJhbm4iLCJ1dGlkIjoiaG9tZSJ9",
    },
}


def caches() -> tuple[Any, Any]:
    """The cache that MSAL's application holds, and that of this call behind it."""
    own: Any = session_cache_class()()
    current.set(Exchange(own, 0.0))
    return shared_cache(), own


def test_an_access_token_is_neither_kept_nor_shown_nor_parsed() -> None:
    shared, own = caches()
    shared.add(EVENT)
    assert b"at-secret" not in own.dump()
    assert list(shared.search("AccessToken", target=["User.Read"], query={})) == []
    shared.modify("AccessToken", {"home_account_id": "ann.home"}, {"secret": "at-secret"})
    assert b"at-secret" not in own.dump()


def test_what_was_added_is_dumped_and_loaded_as_it_was() -> None:
    shared, own = caches()
    shared.add(EVENT)
    dumped = own.dump()
    assert [account.home_account_id for account in accounts_of(dumped)] == ["ann.home"]
    shared, own = caches()
    own.load(dumped)
    assert own.dump() == dumped
    assert [entry["secret"] for entry in shared.search("RefreshToken", query={"environment": "e"})] == ["rt-secret"]
    assert shared._get_app_metadata("e", "app")["client_id"] == "app"


def test_an_account_is_filed_under_the_tenant_of_its_id_token_and_not_under_the_authority_s_path() -> None:
    shared, own = caches()
    common = {**EVENT, "token_endpoint": "https://e/common/oauth2/v2.0/token"}
    shared.add(
        {
            **common,
            "response": {**EVENT["response"], "id_token": id_token(sub="s", oid="ann", tid="home", aud="app", exp=9e9)},
        }
    )
    assert accounts_of(own.dump()) == (Account("ann.home", "e", "", "home"),)
    assert profiles_of(own.dump(), "ann.home") == (("home", "ann", "", True),)
    shared, own = caches()
    shared.add(common)
    assert [account.tenant_id for account in accounts_of(own.dump())] == ["common"], "nothing better is known"


def test_a_rotated_refresh_token_replaces_the_old_one_and_is_newer() -> None:
    shared, own = caches()
    shared.add(EVENT)
    before = own.dump()
    shared.update_rt(next(shared.search("RefreshToken")), "rt-two")
    assert secrets(own.dump()) == {"rt-two"}
    assert secrets(merged(before, own.dump(), sign_in=False)) == {"rt-two"}
    assert secrets(merged(own.dump(), before, sign_in=False)) == {"rt-two"}
    shared, own = caches()
    shared.add({**EVENT, "response": {**EVENT["response"], "refresh_token": "rt-signed-in-later"}})
    later = own.dump()
    shared, own = caches()
    own.load(before)
    shared.update_rt(next(shared.search("RefreshToken")), "rt-three")
    assert secrets(merged(later, own.dump(), sign_in=False)) == {"rt-signed-in-later"}


def test_of_the_refresh_tokens_of_one_account_the_newest_is_dumped() -> None:
    shared, own = caches()
    shared.add(EVENT)
    shared.add({**EVENT, "scope": ["Mail.Read"], "response": {**EVENT["response"], "refresh_token": "rt-two"}})
    assert len(list(shared.search("RefreshToken"))) == 2, "MSAL tells them apart by scope"
    assert secrets(own.dump()) == {"rt-two"}


def test_a_removed_refresh_token_is_gone() -> None:
    shared, own = caches()
    shared.add(EVENT)
    shared.remove_rt(next(shared.search("RefreshToken")))
    assert secrets(own.dump()) == set()


def test_what_nobody_owns_is_not_dumped() -> None:
    shared, own = caches()
    shared.add({**EVENT, "skip_account_creation": True})
    assert secrets(own.dump()) == set()


def test_msal_logs_nothing_of_what_it_adds_that_is_secret(caplog: pytest.LogCaptureFixture) -> None:
    shared, _ = caches()
    with caplog.at_level("DEBUG"):
        shared.add(EVENT)
    assert "secret" not in caplog.text
