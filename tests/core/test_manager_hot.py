"""From memory: nothing suspends, wrong calls are refused before anything is asked, no call gets another's token."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomsal import Account, AuthorityError, Token, TokenManager, TokenRequest
from aiomsal._manager import MOST_REQUESTS
from aiomsal.testing._scripted import ScriptedClient, script_of
from tests.core.manager_support import ALICE, BOB, SCOPE, START, Call, Rig, at_once, people, settle


async def test_a_fresh_token_is_handed_out_without_suspending() -> None:
    rig = Rig()
    token = await rig.hold()
    assert at_once(rig.tokens.get(SCOPE)) == token
    assert at_once(rig.tokens.get(SCOPE)) is at_once(rig.tokens.get(SCOPE))
    assert at_once(rig.tokens.get_silent(SCOPE)) == token
    source = rig.tokens.source(SCOPE)
    assert at_once(source.get()) == token
    assert at_once(source.get()) == token
    assert rig.asked == 1


async def test_a_users_fresh_token_is_handed_out_without_suspending() -> None:
    rig = people()
    await rig.enrol(ALICE)
    token = await rig.hold("mail", account=ALICE)
    for account in (ALICE, ALICE, ALICE.home_account_id, ALICE.home_account_id):
        assert at_once(rig.tokens.get("mail", account=account)) == token
    source = rig.tokens.source("mail", account=ALICE)
    assert at_once(source.get()) == at_once(source.get()) == token
    assert rig.asked == 1


async def test_a_stale_token_is_handed_out_without_suspending() -> None:
    rig = Rig()
    token = await rig.hold()
    source = rig.tokens.source(SCOPE)
    await source.get()
    rig.clock.advance(3400)
    assert at_once(rig.tokens.get(SCOPE)) == token
    assert at_once(rig.tokens.get(SCOPE)) == token
    assert at_once(source.get()) == token
    assert at_once(rig.tokens.get_silent(SCOPE)) == token
    (await rig.parked()).land()
    await settle()
    assert rig.asked == 2
    assert at_once(source.get()).value == "token-2"


async def test_a_stale_users_token_is_handed_out_without_suspending() -> None:
    rig = people()
    await rig.enrol(ALICE)
    token = await rig.hold("mail", account=ALICE)
    await rig.tokens.get("mail", account=ALICE)
    rig.clock.advance(3400)
    assert at_once(rig.tokens.get("mail", account=ALICE)) == token
    (await rig.parked()).land()
    await settle()
    assert rig.asked == 2


KEYWORDS = ("account", "login_hint", "claims", "rejected", "tenant", "on_behalf_of", "whatever")


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("make", [Rig, people])
async def test_an_explicit_nothing_is_refused_for_every_keyword(make: Any, keyword: str, nothing: Any) -> None:
    rig = make()
    tokens = rig.tokens
    for call in (tokens.get, tokens.get_silent):
        with pytest.raises(TypeError, match=f"{keyword}="):
            at_once(call(SCOPE, **{keyword: nothing}))
    with pytest.raises(TypeError):
        tokens.source(SCOPE, **{keyword: nothing})
    with pytest.raises(TypeError):
        at_once(tokens.sign_in(SCOPE, **{keyword: nothing}))
    assert rig.asked == tokens.stats().flights == 0


async def test_unknown_keywords_are_refused() -> None:
    rig = people()
    for call in (rig.tokens.get, rig.tokens.get_silent, rig.tokens.sign_in):
        with pytest.raises(TypeError, match="scope_list"):
            at_once(call(SCOPE, scope_list="x"))
    with pytest.raises(TypeError, match="account"):
        at_once(Rig().tokens.get(SCOPE, account=ALICE))  # an application has no users
    with pytest.raises(TypeError, match="rejected is the Token"):
        at_once(rig.tokens.get(SCOPE, rejected="token"))
    rejected = Token("t", START + 60, START)
    for lasting in (rig.tokens.source, lambda *args, **options: at_once(rig.tokens.sign_in(*args, **options))):
        with pytest.raises(TypeError, match="rejected"):
            lasting(SCOPE, rejected=rejected)
    assert rig.asked == 0


@pytest.mark.parametrize("nobody", [None, "", Account("")])
async def test_signing_nobody_out_is_refused(nobody: Any) -> None:
    with pytest.raises(TypeError, match="sign_out takes"):
        at_once(people().tokens.sign_out(nobody))


@pytest.mark.parametrize(
    ("scopes", "error"),
    [
        ((), ValueError),
        (("",), ValueError),
        (("a b",), ValueError),
        ((" a",), ValueError),
        (("a", "b\n"), ValueError),
        ((["a"],), TypeError),
        ((("a",),), TypeError),
        ((None,), TypeError),
        ((b"a",), TypeError),
        (("a", 1), TypeError),
    ],
)
async def test_what_is_no_scope_is_refused_before_anything_is_asked(scopes: Any, error: type[Exception]) -> None:
    rig = Rig()
    await rig.hold("a")
    await rig.tokens.get("a")
    for call in (rig.tokens.get, rig.tokens.get_silent):
        with pytest.raises(error):
            at_once(call(*scopes))
    with pytest.raises(error):
        rig.tokens.source(*scopes)
    assert rig.asked == 1


async def test_order_and_repetition_of_scopes_make_no_difference() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, *scopes) for scopes in (("a", "b"), ("b", "a"), ("a", "b", "a"))]
        (await rig.parked()).land()
    assert [call.value for call in calls] == ["token-1"] * 3
    assert at_once(rig.tokens.get("b", "b", "a")).value == "token-1"
    assert rig.asked == 1


async def test_no_argument_can_pass_for_the_alias_of_another_call() -> None:
    rig = people()
    await rig.enrol(ALICE)
    await rig.hold("mail", account=ALICE)
    await rig.tokens.get("mail", account=ALICE)
    await rig.hold("mail", login_hint=ALICE.username)
    await rig.tokens.get("mail", login_hint=ALICE.username)
    with pytest.raises(TypeError):
        at_once(rig.tokens.get(("mail",), ALICE))
    with pytest.raises(TypeError):
        at_once(rig.tokens.get(("mail",), ("login_hint", ALICE.username)))
    for pair in (("login_hint", ALICE.username), ("account", ALICE)):
        assert (("mail",), pair) not in rig.tokens._aliases


async def test_the_order_of_keywords_makes_no_difference() -> None:
    rig = people()
    await rig.enrol(ALICE)
    await rig.hold("mail", account=ALICE, claims="{}")
    for _ in range(2):
        assert at_once(rig.tokens.get("mail", claims="{}", account=ALICE)).value == "token-2"
        assert at_once(rig.tokens.get("mail", account=ALICE.home_account_id, claims="{}")).value == "token-2"
    assert rig.asked == 1


async def test_a_rejected_token_never_becomes_part_of_an_alias() -> None:
    rig = Rig()
    first = await rig.hold()
    await rig.hold(rejected=first)
    for _ in range(3):
        assert at_once(rig.tokens.get(SCOPE, rejected=first)).value == "token-2"
    assert "token-1" not in {part.value for part in walk(list(rig.tokens._aliases)) if isinstance(part, Token)}


def walk(parts: Any) -> Any:
    for part in parts:
        yield part
        if isinstance(part, (tuple, list)):
            yield from walk(part)


# -- the key is a security boundary ----------------------------------------------------------------------------------


class AnythingClient(ScriptedClient):
    """Every field of the request can be set by a keyword."""

    def request(self, scopes: tuple[str, ...], options: Any, /) -> TokenRequest:
        return super().request(scopes, {})._replace(**options)


BASE = {
    "client_id": "client",
    "authority": "https://authority.example/tenant",
    "grant": "client_credentials",
    "account": "a",
    "login_hint": "l",
    "claims": "{}",
    "capabilities": ("cp1",),
    "extra": (("fmi_path", "x"),),
    "token_type": "Bearer",
}
CHANGES = {
    "client_id": "client2",
    "authority": "https://authority.example/other",
    "grant": "on_behalf_of",
    "account": "b",
    "login_hint": "m",
    "claims": '{"a": 1}',
    "capabilities": ("cp2",),
    "extra": (("fmi_path", "y"),),
    "token_type": "pop",
}


def test_the_property_below_knows_every_field_of_a_request() -> None:
    assert {*BASE, "scopes", "generation"} == set(TokenRequest._fields)


@settings(max_examples=30)
@given(fields=st.permutations(sorted(CHANGES)), first=st.integers(0, 11))
async def test_requests_that_differ_in_one_field_share_neither_flight_nor_token(fields: list[str], first: int) -> None:
    client = AnythingClient()
    tokens = TokenManager(client)
    calls: list[tuple[tuple[str, ...], dict[str, Any]]] = [((SCOPE,), BASE), ((SCOPE, "more"), BASE), ((SCOPE,), {})]
    calls += [((SCOPE,), {**BASE, field: CHANGES[field]}) for field in fields]
    calls = calls[first:] + calls[:first]
    async with anyio.create_task_group() as group:
        aloft = [Call(group, tokens.get, *scopes, **options) for scopes, options in calls]
        await settle()
        assert len(client.parked) == len(calls)
        for acquisition in client.parked:
            acquisition.land(repr(acquisition.request))
    for call, (scopes, options) in zip(aloft, calls, strict=True):
        mine = repr(client.request(tuple(sorted(scopes)), options))
        for _ in range(2):
            assert at_once(tokens.get(*scopes, **options)).value == mine
        assert call.value == mine
    assert len(client.acquisitions) == len(calls)


SCOPES = st.lists(st.sampled_from(["a", "b", "claims", "account"]), min_size=1, max_size=3)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "account": st.sampled_from([ALICE, ALICE.home_account_id, BOB, BOB.home_account_id]),
        "login_hint": st.sampled_from([ALICE.username, BOB.username]),
        "claims": st.sampled_from(["{}", '{"a": 1}']),
    },
)


class NobodyChooses(ScriptedClient):
    """Users without sessions: whatever is asked for is answered, by the request's own name."""

    def request(self, scopes: tuple[str, ...], options: Any, /) -> TokenRequest:
        account = options.get("account", "")
        account = account.home_account_id if isinstance(account, Account) else account
        rest = {key: value for key, value in options.items() if key != "account"}
        return super().request(scopes, {})._replace(account=account, **rest)


@settings(max_examples=60)
@given(calls=st.lists(st.tuples(SCOPES, OPTIONS, st.booleans()), min_size=2, max_size=12))
async def test_however_a_call_is_written_it_gets_the_token_of_its_own_request(
    calls: list[tuple[list[str], dict[str, Any], bool]],
) -> None:
    client = NobodyChooses(script=lambda acquisition: acquisition.land(repr(acquisition.request._replace(claims=""))))
    tokens = TokenManager(client)
    for scopes, options, again in calls * 2:
        for _ in range(1 + again):
            token = await tokens.get(*scopes, **dict(reversed(options.items())) if again else options)
            request = client.request(tuple(scopes), options)
            assert token.value == repr(request._replace(claims=""))
    asked = [acquisition.request for acquisition in client.acquisitions]
    assert len(set(asked)) == len(asked)


# -- bounds ----------------------------------------------------------------------------------------------------------


async def test_thousands_of_keys_stay_within_the_bound() -> None:
    client = ScriptedClient(script=script_of())
    tokens = TokenManager(client, max_tokens=100)
    for number in range(3000):
        await tokens.get(f"scope-{number}")
        await tokens.get(f"scope-{number}")
    assert len(client.acquisitions) == 3000
    assert tokens.stats().tokens == 100
    assert tokens.stats().evicted == 2900
    assert len(tokens._aliases) <= 400
    assert tokens.stats().flights == 0


async def test_the_counts_tell_what_has_been_done() -> None:
    rig = Rig()
    await rig.hold()
    async with anyio.create_task_group() as group:
        Call(group, rig.tokens.get, "other")
        acquisition = await rig.parked()
        assert rig.tokens.stats().flights == 1
        acquisition.fail(RuntimeError("no"))
    assert rig.tokens.stats()._asdict() == {
        "tokens": 1,
        "flights": 0,
        "acquired": 1,
        "failed": 1,
        "refresh_failed": 0,
        "evicted": 0,
        "store_failures": 0,
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": 0}, ValueError),
        ({"acquire_timeout": 0}, ValueError),
        ({"leeway": -1}, ValueError),
        ({"refresh_ahead": -1}, ValueError),
        ({"on_store_error": "ignore"}, ValueError),
    ],
)
def test_the_constructor_refuses_what_cannot_be_right(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        TokenManager(ScriptedClient(), **options)
    with pytest.raises(TypeError, match="a client is"):
        TokenManager("client-id")  # type: ignore[arg-type]


async def test_the_calls_remembered_until_they_have_a_token_are_bounded() -> None:
    rig = Rig(script=lambda acquisition: acquisition.fail(AuthorityError("no")))
    for number in range(MOST_REQUESTS + 10):
        with pytest.raises(AuthorityError):
            await rig.tokens.get(f"scope-{number}")
        assert len(rig.tokens._requests) <= MOST_REQUESTS
    assert rig.tokens.stats().tokens == 0
