"""Which calls are one, by counting requests; and what leaving, and failing, means to the others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import msal as real
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal import msal
from aiomsal.msal._keys import key_of

from .support import (
    ANN,
    BEN,
    GRAPH,
    MAIL,
    Desk,
    Machine,
    arrived,
    confidential,
    crowd,
    public,
    settled,
    signed_in,
    token,
)

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

CREDENTIALS, REFRESH = "token.client_credentials", "token.refresh_token"


async def test_equal_calls_for_the_client_are_one_request(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    with fake_entra.hold("token") as gate:
        waiting = asyncio.ensure_future(crowd(lambda: app.acquire_token_for_client(GRAPH), 100))
        await arrived(gate)
    results = await waiting
    assert fake_entra.count(CREDENTIALS) == 1
    assert {each["access_token"] for each in results} == {results[0]["access_token"]}


async def test_each_caller_gets_a_dict_of_their_own(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    account = await signed_in(fake_entra, app)
    first, second = await crowd(lambda: app.acquire_token_silent(MAIL, account, force_refresh=True), 2)
    assert first == second
    first["id_token_claims"]["name"] = first["access_token"] = "mine now"
    assert second["id_token_claims"]["name"] == "ann"
    assert second["access_token"] != "mine now"
    accounts, others = await crowd(app.get_accounts, 2)
    accounts[0].clear()
    assert others[0]["username"] == ANN


async def test_equal_silent_calls_are_one_refresh(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    account = await signed_in(fake_entra, app)
    await crowd(lambda: app.acquire_token_silent(["User.Read"], account))
    assert fake_entra.count(REFRESH) == 1
    await crowd(lambda: app.acquire_token_silent_with_error(["User.Read"], account, force_refresh=True))
    assert fake_entra.count(REFRESH) == 2


async def test_different_calls_are_not_one(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann, ben = await signed_in(fake_entra, app), await signed_in(fake_entra, app, BEN)
    with fake_entra.hold("token") as gate:
        waiting = asyncio.gather(
            app.acquire_token_silent(["User.Read"], ann, force_refresh=True),
            app.acquire_token_silent(["User.Read"], ben, force_refresh=True),
            app.acquire_token_silent(MAIL, ann, force_refresh=True),
            app.acquire_token_silent(MAIL, ann, claims_challenge='{"access_token":{"a":{"essential":true}}}'),
            app.acquire_token_silent_with_error(MAIL, ann, force_refresh=True),
        )
        await arrived(gate, 5)
    assert len({each["access_token"] for each in await waiting if each}) == 5
    assert fake_entra.count(REFRESH) == 5


async def test_on_behalf_of_shares_for_one_user_and_never_between_two(
    fake_entra: FakeEntra, service: Application
) -> None:
    desk = Desk(fake_entra, lambda data: (200, token(f"for {data['assertion']}")))
    app = confidential(fake_entra, service, http_client=desk)
    results = await asyncio.gather(
        *[app.acquire_token_on_behalf_of(user, MAIL) for user in ("ann", "ben") for _ in range(10)]
    )
    assert [each["access_token"] for each in results] == ["for ann"] * 10 + ["for ben"] * 10
    assert len(desk.posts) == 2
    assert b"ann" not in repr(app._desk._here().flights._aloft).encode()


@pytest.mark.skipif(not hasattr(real.ClientApplication, "ACQUIRE_TOKEN_BY_USER_FIC_ID"), reason="an older MSAL")
async def test_user_federated_identity_credentials_share_by_assertion_and_user(
    fake_entra: FakeEntra, service: Application
) -> None:
    desk = Desk(
        fake_entra, lambda data: (200, token(f"{data['user_federated_identity_credential']} {data['username']}"))
    )
    app = confidential(fake_entra, service, http_client=desk)
    method = app.acquire_token_by_user_federated_identity_credential
    asked = [(assertion, user) for assertion in ("a", "b") for user in (ANN, BEN)] * 5
    results = await asyncio.gather(*[method(MAIL, assertion, user) for assertion, user in asked])
    assert [each["access_token"] for each in results] == [f"{assertion} {user}" for assertion, user in asked]
    assert len(desk.posts) == 4


@pytest.mark.skipif(not hasattr(real.ClientApplication, "ACQUIRE_TOKEN_BY_USER_FIC_ID"), reason="an older MSAL")
async def test_what_a_client_asks_for_itself_shares_by_all_that_is_sent(
    fake_entra: FakeEntra, service: Application
) -> None:
    desk = Desk(fake_entra, lambda data: (200, token(f"{data.get('fmi_path')} {data.get('claims')}")))
    app = confidential(fake_entra, service, http_client=desk)
    claims = '{"access_token":{}}'
    asked = [{"fmi_path": "a"}, {"fmi_path": "b"}, {"claims_challenge": claims}, {"forwarded_client_claims": "{}"}] * 3
    results = await asyncio.gather(*[app.acquire_token_for_client(GRAPH, **each) for each in asked])
    assert [each["access_token"] for each in results[:2]] == ["a None", "b None"]
    assert len(desk.posts) == 4


async def test_a_managed_identity_is_asked_once_for_each_resource() -> None:
    machine = Machine()
    machine.open.clear()
    client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=machine)
    waiting = asyncio.gather(
        *[client.acquire_token_for_client(resource=resource) for resource in ("a", "b") for _ in range(10)]
    )
    while len(machine.gets) < 2:
        await asyncio.to_thread(lambda: None)
    machine.open.set()
    await waiting
    assert len(machine.gets) == 2


async def test_what_cannot_be_compared_is_not_shared(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    posts: list[object] = []
    both = threading.Barrier(2)
    client = fake_entra.http_client()

    def post(*args: Any, **options: Any) -> Any:
        posts.append(options)
        both.wait(10)
        return client.post(*args, **options)

    await crowd(lambda: app.acquire_token_for_client(GRAPH, post=post), 2)
    assert len(posts) == 2


async def test_two_applications_share_nothing(fake_entra: FakeEntra, service: Application) -> None:
    await asyncio.gather(*[confidential(fake_entra, service).acquire_token_for_client(GRAPH) for _ in range(3)])
    assert fake_entra.count(CREDENTIALS) == 3


async def test_who_leaves_changes_nothing_for_the_others(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    with fake_entra.hold("token") as gate:
        calls = [asyncio.ensure_future(app.acquire_token_for_client(GRAPH)) for _ in range(3)]
        await arrived(gate)
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
    assert "access_token" in await calls[1]
    assert "access_token" in await calls[2]
    assert fake_entra.count(CREDENTIALS) == 1


async def test_what_all_have_left_goes_on_and_is_cached(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    with fake_entra.hold("token") as gate:
        call = asyncio.ensure_future(app.acquire_token_for_client(GRAPH))
        await arrived(gate)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        newcomer = asyncio.ensure_future(app.acquire_token_for_client(GRAPH))
        await settled()
    assert "access_token" in await newcomer
    assert fake_entra.count(CREDENTIALS) == 1


def test_a_loop_that_ends_waits_for_the_rotated_refresh_token(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    account = asyncio.run(signed_in(fake_entra, app))
    fake_entra.configure(rotation="strict")

    async def leave() -> None:
        gate = fake_entra.hold("token")
        call = asyncio.ensure_future(app.acquire_token_silent(MAIL, account, force_refresh=True))
        await arrived(gate)
        call.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.release)

    asyncio.run(leave())
    assert asyncio.run(app.acquire_token_silent_with_error(MAIL, account, force_refresh=True))["token_source"]  # type: ignore[index]


async def test_a_failure_is_for_all_who_share_it_each_a_copy(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    await app.ready()
    fake_entra.fault("token", reset=True, times=1)
    with fake_entra.hold("token") as gate:
        waiting = asyncio.ensure_future(crowd(lambda: app.acquire_token_for_client(GRAPH), 3))
        await arrived(gate)
    failures = await waiting
    assert {type(each).__name__ for each in failures} == {"ConnectionError"}
    assert len({id(each) for each in failures}) == 3
    assert "access_token" in await app.acquire_token_for_client(GRAPH)


async def test_a_removal_waits_for_the_refresh_that_would_undo_it(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann, ben = await signed_in(fake_entra, app), await signed_in(fake_entra, app, BEN)
    with fake_entra.hold("token") as gate:
        refresh = asyncio.ensure_future(app.acquire_token_silent(MAIL, ann, force_refresh=True))
        await arrived(gate)
        removal = asyncio.ensure_future(app.remove_account(ann))
        await settled()
        newcomer = asyncio.ensure_future(app.acquire_token_silent(["User.Read"], ann))
        await settled()
        assert not removal.done()
        assert gate.waiting == 1
        assert await app.acquire_token_silent(MAIL, ben) is not None  # others are not held up
    assert await refresh is not None
    await removal
    assert await newcomer is None
    assert await app.get_accounts() == [ben]
    assert list(app.token_cache.search("RefreshToken", query={"home_account_id": ann["home_account_id"]})) == []


async def test_removals_of_one_account_take_turns(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann = await signed_in(fake_entra, app)
    assert await crowd(lambda: app.remove_account(ann), 5) == [None] * 5


async def test_a_removal_whose_caller_left_is_carried_out(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann = await signed_in(fake_entra, app)
    with fake_entra.hold("token") as gate:
        refresh = asyncio.ensure_future(app.acquire_token_silent(MAIL, ann, force_refresh=True))
        await arrived(gate)
        removal = asyncio.ensure_future(app.remove_account(ann))
        await settled()
        removal.cancel()
    await refresh
    await app.remove_account(ann)  # waits for that one
    assert await app.get_accounts() == []
    assert app._desk._here().fence._leaving == app._desk._here().fence._working == {}


# -- the key ---------------------------------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.text(max_size=3)
NESTED = st.recursive(
    PLAIN | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
FIELDS = st.tuples(
    st.sampled_from(["silent", "for_client"]),
    st.lists(st.text(max_size=3), max_size=3),
    st.none() | st.dictionaries(st.sampled_from(["home_account_id", "realm"]), st.text(max_size=2)),
    st.tuples(PLAIN, PLAIN),
    st.dictionaries(st.text(max_size=2), NESTED, max_size=3),
    st.none() | st.text(max_size=3) | st.binary(max_size=3),
)


def _exact(value: Any) -> Any:
    """Equality by type too, as True and 1 are different things to send."""
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(each) for each in value]
    return (type(value), value)


@given(FIELDS, FIELDS)
def test_keys_are_equal_exactly_if_all_that_reaches_the_wire_is(one: Any, other: Any) -> None:
    def canonical(call: Any) -> Any:
        method, scopes, *rest = call
        return method, set(scopes), _exact(rest)

    first, second = (key_of(*call[:5], secret=call[5]) for call in (one, other))
    assert first is not None
    assert second is not None
    assert hash(first) is not None
    assert (first == second) == (canonical(one) == canonical(other))


@given(FIELDS, st.integers(0, 5))
def test_changing_one_field_changes_the_key(call: Any, place: int) -> None:
    changed = list(call)
    changed[place] = [
        "another",
        [*call[1], "another scope"],
        {"home_account_id": "another account"},
        (*call[3], "another"),
        {**call[4], "another": 1},
        b"another secret",
    ][place]
    assert key_of(*call[:5], secret=call[5]) != key_of(*changed[:5], secret=changed[5])


@pytest.mark.parametrize(
    "call",
    [
        ("m", "a scope", None, (), {}),
        ("m", [1], None, (), {}),
        ("m", [[]], None, (), {}),
        ("m", ["s"], {"home_account_id": []}, (), {}),
        ("m", ["s"], object(), (), {}),
        ("m", ["s"], None, ({},), {}),
        ("m", ["s"], None, (1,), {}),
        ("m", ["s"], None, (), {"post": print}),
        ("m", ["s"], None, (), {"data": {"x": [object()]}}),
        ("m", ["s"], None, (), {"data": {"token_type": "pop", "req_cnf": "x"}}),
    ],
)
def test_what_cannot_be_compared_has_no_key(call: Any) -> None:
    assert key_of(*call) is None


def test_types_count_where_python_says_equal() -> None:
    def key(scopes: Any, value: object) -> object:
        return key_of("m", scopes, None, (), {"value": value})

    assert key(["s"], 1) == key(["s"], 1)
    assert key(["s"], 1) != key(["s"], True)
    assert key(["s"], 1) != key(("s",), 1)


def test_a_secret_is_not_in_its_key() -> None:
    key = key_of("m", ["s"], None, (), {"data": {"assertion": "top secret"}}, secret="top secret")
    assert "top secret" not in repr(key)
