"""With a store and sessions: what another process brought, what must be saved, and a store that fails."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aiomsal import AccountRequired, AuthorityUnavailable, StoreError, Token
from aiomsal._records import load_session
from aiomsal.testing import FakeClock
from aiomsal.testing._scripted import ScriptedUserClient
from tests.core.manager_support import (
    ALICE,
    BOB,
    SCOPE,
    START,
    Call,
    Rig,
    SharedStore,
    TokenManager,
    at_once,
    people,
    settle,
)


def rigs(number: int, make: Any = Rig, **options: Any) -> list[Rig]:
    first = make(store=SharedStore(), **options)
    return [first, *(make(beside=first, **options) for _ in range(number - 1))]


# -- several processes -----------------------------------------------------------------------------------------------


async def test_another_processs_token_is_found_without_asking() -> None:
    first, second = rigs(2)
    token = await first.hold()
    found = await second.tokens.get(SCOPE)
    assert (found.value, found.obtained_at, found.expires_at) == (token.value, token.obtained_at, token.expires_at)
    assert second.asked == 0
    assert at_once(second.tokens.get(SCOPE)) is found
    assert (second.tokens.stats().acquired, second.tokens.stats().tokens) == (0, 1)


async def test_one_who_waited_for_the_lock_finds_what_its_holder_brought() -> None:
    first, second, third = rigs(3)
    async with anyio.create_task_group() as group:
        leader = Call(group, first.tokens.get, SCOPE)
        acquisition = await first.parked()
        calls = [Call(group, rig.tokens.get, SCOPE) for rig in (second, third)]
        await settle()
        assert (second.asked, third.asked) == (0, 0)
        acquisition.land()
    assert {call.value for call in calls} == {leader.value}
    assert (first.asked, second.asked, third.asked) == (1, 0, 0)


async def test_one_whose_holder_failed_asks_for_itself() -> None:
    first, second = rigs(2)
    async with anyio.create_task_group() as group:
        failed = Call(group, first.tokens.get, SCOPE)
        acquisition = await first.parked()
        call = Call(group, second.tokens.get, SCOPE)
        await settle()
        acquisition.fail(AuthorityUnavailable("down"))
        (await second.parked()).land()
    assert isinstance(failed.error, AuthorityUnavailable)
    assert call.value == "token-2"


async def test_a_refresh_waits_for_nobody_who_is_at_it_already() -> None:
    first, second = rigs(2)
    old = await first.hold()
    await second.tokens.get(SCOPE)
    first.clock.advance(3400)
    at_once(first.tokens.get(SCOPE))
    acquisition = await first.parked()
    assert at_once(second.tokens.get(SCOPE)).value == old.value
    await settle()
    assert second.tokens.stats().flights == 0  # it did not wait for the lock
    assert (second.asked, second.tokens.stats().failed, second.tokens.stats().refresh_failed) == (0, 0, 0)
    acquisition.land()
    await settle()
    first.clock.advance(31)
    at_once(second.tokens.get(SCOPE))
    await settle()
    assert at_once(second.tokens.get(SCOPE)).value == "token-2"
    assert second.asked == 0


async def test_a_cold_caller_who_went_along_with_such_a_refresh_gets_a_proper_token() -> None:
    store = SharedStore()
    first = Rig(store=store)
    await first.hold()
    second = Rig(beside=first)
    await second.tokens.get(SCOPE)
    first.clock.advance(3569)
    at_once(first.tokens.get(SCOPE))
    acquisition = await first.parked()
    parked, go_on = store.hold("lock", "token")
    at_once(second.tokens.get(SCOPE))
    await parked.wait()
    first.clock.advance(2)
    async with anyio.create_task_group() as group:
        call = Call(group, second.tokens.get, SCOPE)
        await settle()
        go_on.set()
        await settle()
        assert call.outcome is None
        acquisition.land()
    assert call.value == "token-2"
    assert second.asked == 0


async def test_a_stale_record_is_served_but_does_not_end_a_refresh() -> None:
    first, second = rigs(2)
    await first.hold()
    first.clock.advance(3400)
    assert (await second.tokens.get(SCOPE)).value == "token-1"
    at_once(second.tokens.get(SCOPE))
    (await second.parked()).land()
    await settle()
    assert at_once(second.tokens.get(SCOPE)).value == "token-2"


async def test_a_rejected_token_is_not_taken_from_the_store() -> None:
    first, second = rigs(2)
    old = await first.hold()
    assert (await second.hold(rejected=old)).value == "token-2"
    assert (await first.tokens.get(SCOPE, rejected=old)).value == "token-2"  # and now there is another there
    assert (first.asked, second.asked) == (1, 1)


# -- sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [None, SharedStore])
async def test_the_rotated_refresh_token_is_saved_though_everybody_has_left(store: Any) -> None:
    rig = people(store=store and store())
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, "mail") for _ in range(5)]
        acquisition = await rig.parked()
        for call in calls:
            call.scope.cancel()
    acquisition.land()
    await settle()
    await settle()
    assert rig.client.refresh_token(await rig.session(), ALICE) == "refresh-2"
    assert at_once(rig.tokens.get("mail")).value == "token-2"


@pytest.mark.parametrize("stale", [True, False])
def test_a_loop_that_ends_with_an_acquisition_aloft_saves_the_session_and_holds_the_token(stale: bool) -> None:
    clock = FakeClock(START)
    client = ScriptedUserClient(clock=clock, absorbs=True)
    tokens = TokenManager(client, clock=clock)

    async def before() -> None:
        await tokens._sessions.enter("client", client.sign_in_session(ALICE, "refresh-0"))
        if stale:
            client._script = lambda acquisition: acquisition.land()
            await tokens.get("mail", account=ALICE)
            client._script = None
            clock.advance(3400)

    async def short() -> None:
        if stale:
            at_once(tokens.get("mail", account=ALICE))
        else:
            asyncio.get_running_loop().create_task(tokens.get("mail", account=ALICE))
        while not client.parked:
            await asyncio.sleep(0)
        threading.Timer(0.05, client.parked[0].land).start()

    asyncio.run(before())
    asyncio.run(short())

    async def after() -> None:
        session = await tokens._sessions.load("client")
        assert session is not None
        assert client.refresh_token(session.data, ALICE) == f"refresh-{1 + stale}"
        assert at_once(tokens.get("mail", account=ALICE)).value == f"token-{1 + stale}"

    asyncio.run(after())
    assert len(client.acquisitions) == 1 + stale


def test_a_loop_that_ends_while_a_session_is_being_saved_saves_it() -> None:
    rig = people(store=SharedStore())

    async def short() -> None:
        await rig.enrol_by_hand(ALICE)
        parked, _ = rig.tokens._shelf._store.hold("set", "session")  # type: ignore[attr-defined]
        asyncio.get_running_loop().create_task(rig.tokens.get("mail", account=ALICE))
        (await rig.parked()).land()
        await parked.wait()

    async def refresh_token() -> str | None:
        return rig.client.refresh_token(await rig.session(), ALICE)

    asyncio.run(short())
    assert asyncio.run(refresh_token()) == "refresh-2"


@pytest.mark.parametrize("store", [None, SharedStore])
async def test_ten_scopes_of_one_user_are_acquired_one_after_another_each_with_the_newest_refresh_token(
    store: Any,
) -> None:
    rig = people(store=store and store())
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, f"scope-{number}", account=ALICE) for number in range(10)]
        newest = "refresh-of-sign-in-1"
        for _ in range(10):
            acquisition = await rig.parked()
            assert len(rig.client.parked) == 1
            assert rig.client.refresh_token(acquisition.session, ALICE) == newest
            newest = f"refresh-{acquisition.number}"
            acquisition.land()
            await settle()
    assert len({call.value for call in calls}) == 10
    assert rig.client.refresh_token(await rig.session(), ALICE) == newest


async def test_no_access_token_is_in_a_session_saved() -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    await rig.hold("mail", landing={"value": "access-token-in-plain"})
    for key, value in store.writes:
        if "/session/" in key:
            assert b"access-token-in-plain" not in value
            assert b"token-1" not in value
    assert all(b"refresh-" not in value for key, value in store.writes if "/token/" in key)


async def test_a_lapsed_lock_costs_no_refresh_token() -> None:
    first, second = rigs(2, people)
    store: SharedStore = first.tokens._shelf._store  # type: ignore[assignment]
    await first.enrol(ALICE)
    store.lapsed = True
    async with anyio.create_task_group() as group:
        calls = [Call(group, first.tokens.get, "a", account=ALICE)]
        earlier = await first.parked()
        calls.append(Call(group, second.tokens.get, "b", account=ALICE))
        later = await second.parked()
        later.land()
        await settle()
        earlier.land()
    assert {call.value for call in calls} == {f"token-{earlier.number}", f"token-{later.number}"}
    assert first.client.refresh_token(await first.session(), ALICE) == f"refresh-{later.number}"


async def test_a_lapsed_lock_brings_nobody_back() -> None:
    first, second = rigs(2, people, can_ask=False)
    await first.enrol_by_hand(ALICE, BOB)
    first.tokens._shelf._store.lapsed = True  # type: ignore[attr-defined]
    async with anyio.create_task_group() as group:
        call = Call(group, first.tokens.get, "a", account=ALICE)
        acquisition = await first.parked()
        await second.tokens.sign_out(ALICE)
        acquisition.land()
    assert call.error.code == "signed_out"
    assert await first.tokens.accounts() == (BOB,)


async def test_two_processes_that_sign_people_in_at_once_lose_nobody() -> None:
    first, second = rigs(2, people)
    store: SharedStore = first.tokens._shelf._store  # type: ignore[assignment]
    parked, go_on = store.hold("set", "session")
    async with anyio.create_task_group() as group:
        Call(group, first.tokens.sign_in, "a")
        (await first.asking()).land(account=ALICE)
        await parked.wait()
        await second.enrol(BOB)
        go_on.set()
    assert set(await first.tokens.accounts()) == {ALICE, BOB}


async def test_token_records_are_orphaned_with_their_session() -> None:
    first, second = rigs(2, people, can_ask=False)
    await first.enrol_by_hand(ALICE)
    await first.hold("mail", account=ALICE)
    await second.tokens.sign_out(ALICE)
    await second.enrol_by_hand(ALICE)
    third = people(beside=first)
    assert (await third.hold("mail", account=ALICE)).value != "token-2"
    assert third.asked == 1


# -- a store that fails ----------------------------------------------------------------------------------------------

OPERATIONS = [{"get"}, {"set"}, {"lock"}, {"unlock"}, {"get", "set", "delete", "lock", "unlock"}]


@pytest.mark.parametrize("failing", OPERATIONS, ids=lambda failing: "-".join(sorted(failing)))
async def test_a_store_that_fails_is_passed_over_and_counted(failing: set[str]) -> None:
    store = SharedStore()
    rig = Rig(store=store)
    store.failing = failing
    token = await rig.hold()
    assert at_once(rig.tokens.get(SCOPE)) == token
    failures = {"get": 2, "set": 1, "lock": 1, "unlock": 1}
    expected = 4 if len(failing) > 1 else failures[next(iter(failing))]  # no lock, no unlock
    assert rig.tokens.stats().store_failures == expected
    assert rig.tokens.stats().failed == 0


@pytest.mark.parametrize("failing", ["get", "set", "lock"])
async def test_a_store_that_fails_is_an_error_where_that_was_asked_for(failing: str) -> None:
    store = SharedStore()
    rig = Rig(store=store, on_store_error="raise")
    store.failing = {failing}
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, SCOPE)
        await settle()
        for acquisition in rig.client.parked:
            acquisition.land()
    assert isinstance(call.error, StoreError)
    assert isinstance(call.error.__cause__, OSError)
    assert "secret-of-the-store" not in str(call.error)
    store.failing = set()
    assert isinstance(await rig.hold(), Token)


async def test_a_slow_store_delays_its_own_request_only_and_never_a_token_held() -> None:
    store = SharedStore()
    rig = Rig(store=store)
    await rig.hold()
    rig.clock.advance(3400)
    parked, go_on = store.hold("get", "token")
    assert at_once(rig.tokens.get(SCOPE)).value == "token-1"
    await parked.wait()
    assert at_once(rig.tokens.get(SCOPE)).value == "token-1"
    assert (await rig.hold("other")).value == "token-2"
    go_on.set()
    (await rig.parked()).land()
    await settle()
    assert at_once(rig.tokens.get(SCOPE)).value == "token-3"


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"v": 9}', b'{"v": 1, "value": 3}'])
async def test_a_corrupt_token_record_is_counted_and_replaced(garbage: bytes) -> None:
    first, second, third = rigs(3)
    await first.hold()
    store: SharedStore = first.tokens._shelf._store  # type: ignore[assignment]
    for key in store.of("token"):
        store.values[key] = garbage
    assert (await second.hold()).value == "token-2"
    assert second.tokens.stats().store_failures == 2
    assert (await third.tokens.get(SCOPE)).value == "token-2"


async def test_a_corrupt_session_is_replaced_by_the_next_sign_in() -> None:
    rig = people(store=SharedStore())
    store: SharedStore = rig.tokens._shelf._store  # type: ignore[assignment]
    await rig.enrol(ALICE)
    for key in store.of("session"):
        store.values[key] = b"garbage"
    assert await rig.tokens.accounts() == ()
    await rig.enrol(ALICE)
    assert await rig.tokens.accounts() == (ALICE,)
    assert [load_session(store.values[key]).data for key in store.of("session")] == [await rig.session()]


class Unreadable(SharedStore):
    """What is there can be neither read nor replaced, as after a change of keys."""

    async def get(self, key: str) -> bytes | None:
        raise ValueError("another key")

    async def set(self, key: str, value: bytes, **options: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return False


async def test_a_session_that_can_be_neither_read_nor_replaced_keeps_nobody_waiting_for_ever() -> None:
    rig = people(store=Unreadable())
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail")
        (await rig.asking()).land(account=ALICE)
    assert call.value == "token-1"
    assert at_once(rig.tokens.get("mail", account=ALICE)).value == "token-1"


async def test_records_of_tokens_name_neither_scope_nor_account() -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    await rig.hold("mail", account=ALICE)
    for key in store.values:
        assert "mail" not in key
        assert "alice" not in key
    assert all(json.loads(store.values[key])["v"] == 1 for key in store.of("token"))


# -- a store that is down, and with it the knowledge of who has signed in ---------------------------------------------


async def test_nobody_is_asked_to_sign_in_because_the_store_is_down() -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    store.failing = {"get"}
    for call in (rig.tokens.get("mail"), rig.tokens.get_silent("mail", account=ALICE), rig.tokens.accounts()):
        with pytest.raises(StoreError):
            await call
    assert len(rig.client.sign_ins.acquisitions) == 1  # Alice's own
    store.failing = set()
    assert (await rig.hold("mail")).account == ALICE


async def test_a_sign_out_that_the_store_did_not_hear_of_says_so() -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    store.failing = {"get"}
    with pytest.raises(StoreError):
        await rig.tokens.sign_out(ALICE)
    assert rig.tokens.stats().tokens == 0
    store.failing = set()
    assert await rig.tokens.accounts() == (ALICE,)
    await rig.tokens.sign_out(ALICE)
    assert await rig.tokens.accounts() == ()


async def test_who_signs_in_while_the_store_is_down_gets_the_token_though_it_cannot_be_kept() -> None:
    store = SharedStore()
    rig = people(store=store)
    store.failing = {"get", "set", "lock"}
    await rig.enrol(ALICE)
    assert rig.tokens.stats().store_failures > 0
    assert at_once(rig.tokens.get("openid", account=ALICE)).account == ALICE
    store.failing = set()
    assert await rig.tokens.accounts() == ()


@pytest.mark.parametrize("failing", [{"get"}, {"get", "set"}])
async def test_who_signs_in_while_the_store_is_down_is_not_taken_for_who_is_signed_in(
    failing: set[str],
) -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    store.failing = failing
    await rig.enrol(BOB)
    store.failing = set()
    assert await rig.tokens.accounts() == (ALICE,)
    assert (await rig.tokens.get("openid")).account == ALICE  # from its record
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail")
        (await rig.parked()).land()
    assert call.outcome.account == ALICE  # type: ignore[union-attr]


@pytest.mark.parametrize("failing", [{"delete"}, {"set"}])
async def test_a_sign_out_that_the_store_did_not_hear_of_is_an_error(failing: set[str]) -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE, *([BOB] if failing == {"set"} else []))
    store.failing = failing
    with pytest.raises(StoreError, match="still has what was to be removed") as caught:
        await rig.tokens.sign_out(ALICE)
    assert "secret-of-the-store" not in str(caught.value)
    store.failing = set()
    assert ALICE in await rig.tokens.accounts()
    await rig.tokens.sign_out(ALICE)
    assert ALICE not in await rig.tokens.accounts()


async def test_with_nobody_signed_in_the_client_is_not_prepared() -> None:
    rig = people(can_ask=False)
    prepared = []

    async def prepare(*args: object) -> None:
        prepared.append(args)

    rig.client.prepare = prepare
    with pytest.raises(AccountRequired):
        await rig.tokens.get("mail")
    assert prepared == []
    await rig.enrol_by_hand(ALICE)
    await rig.hold("mail")
    assert len(prepared) == 1
