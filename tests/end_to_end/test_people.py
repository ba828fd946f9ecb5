"""People sign in by device code, once; refresh tokens do the rest, and none is ever lost."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from aiomsal import (
    AccountRequired,
    AuthorityUnavailable,
    Classification,
    InteractionRequired,
    MemoryStore,
    SignInError,
    Token,
    TokenManager,
)
from aiomsal.testing import EntraError

from .support import (
    ANN,
    BEN,
    Caller,
    Person,
    approving,
    arrived,
    crowd,
    landed,
    one_token,
    run_asyncio,
    run_trio,
    run_uvloop,
    settle,
    until,
)

if TYPE_CHECKING:
    from aiomsal.testing import FakeEntra

    from .support import House

pytestmark = pytest.mark.anyio

REFRESH, POLL, CODE = "token.refresh_token", "token.device_code", "devicecode"
RUNNERS = [run_asyncio, run_uvloop, run_trio]


async def signed_in(house: House, person: Person | None = None, **options: Any) -> tuple[TokenManager, Token]:
    """A manager where Ann has signed in, at an authority that revokes every refresh token if one comes again."""
    house.entra.configure(rotation="strict")
    tokens = house.program(person or approving(house.entra), **options)
    return tokens, await tokens.get("User.Read")


async def still_works(tokens: TokenManager, entra: FakeEntra) -> None:
    """The refresh token held is the one that is good: otherwise its whole family would be revoked now."""
    before = entra.count(REFRESH)
    one_token(await crowd(5, tokens.get_silent, f"Proof.{before}"))
    assert entra.count(REFRESH) == before + 1
    assert entra.requests[-1].status == 200


# -- one sign-in -----------------------------------------------------------------------------------------------------


async def test_two_hundred_callers_who_need_a_sign_in_see_one_code(house: House) -> None:
    person = approving(house.entra)
    tokens = house.program(person)
    token = one_token(await crowd(200, tokens.get, "User.Read"))
    assert token.account is not None
    assert token.account.username == ANN
    assert (len(person.prompts), house.entra.count(CODE), house.entra.count(POLL)) == (1, 1, 1)
    assert house.entra.count() == 3  # the discovery
    assert await tokens.accounts() == (token.account,)


async def test_two_hundred_callers_for_many_scopes_see_one_code_too(house: House) -> None:
    house.entra.configure(rotation="strict")
    person = approving(house.entra)
    tokens = house.program(person)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, f"Scope.{number % 10}") for number in range(200)]
    assert len({caller.token.value for caller in callers}) == 10
    assert (len(person.prompts), house.entra.count(POLL), house.entra.count(REFRESH)) == (1, 1, 9)


async def test_whoever_comes_while_the_person_thinks_goes_along(house: House) -> None:
    person = Person(patient=True)
    tokens = house.program(person)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(50)]
        await until(lambda: person.waits == 1)
        callers += [Caller(group, tokens.get, "User.Read") for _ in range(50)]
        await settle()
        house.entra.approve_device_code(person.prompts[0].user_code, ANN)
        person.let_poll()
    one_token([caller.outcome for caller in callers])
    assert (len(person.prompts), house.entra.count(POLL)) == (1, 1)


async def test_afterwards_any_other_scope_comes_silently(house: House) -> None:
    tokens, first = await signed_in(house)
    for number, scope in enumerate(["Mail.Read", "Files.Read", "api://ours/access"], start=1):
        token = one_token(await crowd(50, tokens.get, scope))
        assert token.account == first.account
        assert house.entra.count(REFRESH) == number
    assert house.entra.count(CODE) == 1


async def test_get_silent_asks_nobody_and_says_so(house: House) -> None:
    person = approving(house.entra)
    tokens = house.program(person)
    outcomes = await crowd(50, tokens.get_silent, "User.Read")
    assert {type(outcome) for outcome in outcomes} == {AccountRequired}
    assert (person.prompts, house.entra.count("token"), house.entra.count(CODE)) == ([], 0, 0)


async def test_a_refusal_that_needs_a_person_is_remembered_for_a_minute(house: House) -> None:
    tokens, _ = await signed_in(house)
    house.entra.require_interaction(ANN, scope="Mail.Read", error=EntraError(50076, claims='{"access_token":{}}'))
    for _ in range(3):
        outcomes = await crowd(50, tokens.get_silent, "Mail.Read")
        assert {type(outcome) for outcome in outcomes} == {InteractionRequired}
        assert outcomes[0].classification is Classification.BASIC_ACTION
        assert outcomes[0].claims == '{"access_token":{}}'
        house.clock.advance(20)
    assert house.entra.count(REFRESH) == 1
    with pytest.raises(InteractionRequired):
        await tokens.get_silent("Mail.Read")
    assert house.entra.count(REFRESH) == 2
    # A sign-in satisfies it, and is asked for with these claims.
    one_token(await crowd(50, tokens.get, "Mail.Read"))
    assert house.entra.count(CODE) == 2
    sent = [record.claims for record in house.entra.requests if record.kind == CODE]
    assert [json.loads(text or "null") for text in sent] == [None, {"access_token": {}}]
    await still_works(tokens, house.entra)


async def test_an_account_is_named_by_itself_or_by_its_id(house: House) -> None:
    tokens, ann = await signed_in(house)
    assert ann.account is not None
    by_account = await tokens.get("Mail.Read", account=ann.account)
    by_id = await tokens.get("Mail.Read", account=ann.account.home_account_id)
    assert by_account.value == by_id.value
    assert house.entra.count(REFRESH) == 1


async def test_two_accounts_are_kept_apart_and_both_refreshed(house: House) -> None:
    names = iter([ANN, BEN])
    person = Person(lambda prompt: house.entra.approve_device_code(prompt.user_code, next(names)))
    tokens, ann = await signed_in(house, person)
    ben = await tokens.sign_in("User.Read")
    assert ann.account is not None
    assert ben.account is not None
    assert {account.username for account in await tokens.accounts()} == {ANN, BEN}
    with pytest.raises(AccountRequired) as caught:
        await tokens.get("User.Read")
    assert set(caught.value.candidates) == {ann.account, ben.account}
    async with anyio.create_task_group() as group:
        for_ann = [Caller(group, tokens.get, "Mail.Read", account=ann.account) for _ in range(50)]
        for_ben = [Caller(group, tokens.get, "Mail.Read", account=ben.account) for _ in range(50)]
        by_hint = [Caller(group, tokens.get, "Mail.Read", login_hint=BEN) for _ in range(50)]
    assert one_token([caller.outcome for caller in for_ann]).account == ann.account
    assert one_token([caller.outcome for caller in for_ben]).account == ben.account
    assert {caller.token.account for caller in by_hint} == {ben.account}
    assert all(record.status == 200 for record in house.entra.requests)
    assert len(person.prompts) == 2


# -- refresh tokens that work once -----------------------------------------------------------------------------------


async def test_fifty_whose_token_was_rejected_make_one_request_and_the_session_lives_on(house: House) -> None:
    tokens, old = await signed_in(house)
    assert one_token(await crowd(50, tokens.get, "User.Read", rejected=old)).value != old.value
    assert house.entra.count(REFRESH) == 1
    await still_works(tokens, house.entra)


async def test_ten_scopes_cold_at_once_are_ten_requests_one_after_another(house: House) -> None:
    tokens, _ = await signed_in(house)
    with house.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get, f"Scope.{number}") for number in range(10) for _ in range(10)]
            for number in range(1, 11):
                await arrived(gate)
                await settle()
                assert (gate.waiting, house.entra.count(REFRESH)) == (1, number)
                gate.release(1)
    assert len({caller.token.value for caller in callers}) == 10
    assert house.entra.count(REFRESH) == 10
    await still_works(tokens, house.entra)


async def test_a_refresh_token_comes_home_although_every_caller_has_left(house: House) -> None:
    tokens, _ = await signed_in(house)
    with house.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get, "Mail.Read") for _ in range(20)]
            await arrived(gate)
            for caller in callers:
                caller.scope.cancel()
        assert all(caller.over and caller.outcome is None for caller in callers)
    await landed(tokens)
    one_token(await crowd(20, tokens.get, "Mail.Read"))
    assert house.entra.count(REFRESH) == 1, "the silent flight went on and warmed the cache"
    await still_works(tokens, house.entra)


async def test_a_refresh_token_comes_home_although_the_flight_was_given_up(house: House) -> None:
    tokens, _ = await signed_in(house, acquire_timeout=0.5)
    with house.entra.hold(REFRESH) as gate:
        outcomes = await crowd(20, tokens.get, "Mail.Read")
        assert {(type(outcome), outcome.code) for outcome in outcomes} == {(AuthorityUnavailable, "timeout")}
        assert gate.waiting == 1
    await until(lambda: tokens.stats().tokens == 2 or tokens.stats().acquired == 2)
    await still_works(tokens, house.entra)


async def test_a_refresh_token_comes_home_although_the_manager_was_closed(house: House) -> None:
    """A second manager on the same store goes on where the first was closed in flight."""
    store, app = MemoryStore(), house.entra.add_application(public=True)
    tokens, _ = await signed_in(house, acquire_timeout=0.5, store=store, app=app)
    with house.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            Caller(group, tokens.get, "Mail.Read")
            await arrived(gate)
            await tokens.aclose()
    await until(lambda: tokens.stats().acquired == 2)
    successor = house.program(app=app, store=store)
    await still_works(successor, house.entra)


@pytest.mark.parametrize("fault", [{"reset": True}, {"garbage": True}, {"status": 503}], ids=str)
async def test_what_goes_wrong_before_the_authority_has_rotated_costs_no_sign_in(
    fault: dict[str, Any], house: House
) -> None:
    tokens, _ = await signed_in(house)
    house.entra.fault(REFRESH, **fault)
    with pytest.raises(AuthorityUnavailable):
        await tokens.get_silent("Mail.Read")
    house.entra.clear_faults()
    await still_works(tokens, house.entra)
    assert house.entra.count(CODE) == 1


# -- loops that end, refresh tokens that do not ----------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("stale", [True, False], ids=["stale hit", "cold caller who leaves"])
def test_a_loop_that_ends_while_the_authority_holds_the_answer_saves_the_refresh_token(
    run: Any, stale: bool, house: House
) -> None:
    tokens, old = run(signed_in, house)
    if stale:
        house.clock.advance(3400)
    gate = house.entra.hold(REFRESH)

    async def leave_in_flight() -> None:
        if stale:
            assert (await tokens.get("User.Read")).value == old.value
        else:
            with anyio.move_on_after(0):
                await tokens.get("Mail.Read")
        await arrived(gate)
        # The loop ends now, and cancels its tasks; the answer comes while it waits for them.
        threading.Timer(0.05, gate.release).start()

    run(leave_in_flight)
    assert house.entra.count(REFRESH) == 1
    assert house.entra.requests[-1].status == 200, "the loop did not end before its flight had its answer"
    assert tokens.stats().acquired == 2
    scope = "User.Read" if stale else "Mail.Read"
    assert run(tokens.get_silent, scope).value != old.value
    assert house.entra.count(REFRESH) == 1
    run(still_works, tokens, house.entra)


@pytest.mark.parametrize("run", RUNNERS)
def test_a_loop_that_ends_in_a_queue_of_refreshes_loses_none_that_left(run: Any, house: House) -> None:
    tokens, _ = run(signed_in, house)
    gate = house.entra.hold(REFRESH)

    async def leave_in_flight() -> None:
        for number in range(10):
            with anyio.move_on_after(0):
                await tokens.get(f"Scope.{number}")
        await arrived(gate)
        threading.Timer(0.05, gate.release).start()

    run(leave_in_flight)
    assert tokens.stats().flights == 0
    assert {record.status for record in house.entra.requests} == {200}
    run(still_works, tokens, house.entra)


def test_twenty_loops_one_after_another_keep_one_session(house: House) -> None:
    tokens, _ = run_asyncio(signed_in, house)
    for number in range(1, 21):
        house.clock.advance(3600)
        assert isinstance(RUNNERS[number % 3](tokens.get_silent, "User.Read"), Token)
        assert house.entra.count(REFRESH) == number
    assert house.entra.count(CODE) == 1


# -- sign-out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", [True, False])
async def test_an_account_that_signs_out_while_a_refresh_is_aloft_does_not_come_back(stale: bool, house: House) -> None:
    tokens, token = await signed_in(house)
    assert token.account is not None
    scope = "User.Read" if stale else "Mail.Read"
    if stale:
        house.clock.advance(3400)
    with house.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get_silent, scope) for _ in range(20)]
            await arrived(gate)
            await tokens.sign_out(token.account)
            assert await tokens.accounts() == ()
            gate.release()
    await landed(tokens)
    if stale:
        one_token([token, *(caller.outcome for caller in callers)])
    else:
        assert {type(caller.outcome) for caller in callers} <= {InteractionRequired, AccountRequired}
    assert await tokens.accounts() == ()
    assert tokens.stats().tokens == 0
    for options in ({}, {"account": token.account}):
        with pytest.raises(InteractionRequired):
            await tokens.get_silent(scope, **options)
    assert house.entra.count(REFRESH) == 1


async def test_who_signs_out_and_in_again_has_a_new_session(house: House) -> None:
    tokens, token = await signed_in(house)
    assert token.account is not None
    await tokens.sign_out(token.account.home_account_id)
    again = one_token(await crowd(20, tokens.get, "User.Read"))
    assert again.value != token.value
    assert house.entra.count(CODE) == 2
    await still_works(tokens, house.entra)


# -- sign-ins that come to nothing -----------------------------------------------------------------------------------


async def test_a_sign_in_ends_at_once_when_all_have_left_and_a_newcomer_gets_a_new_code(house: House) -> None:
    person = Person(patient=True)
    tokens = house.program(person)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(20)]
        await until(lambda: person.waits == 1)
        person.let_poll()
        await until(lambda: person.waits == 2)
        assert house.entra.count(POLL) == 1
        for caller in callers[1:]:
            caller.scope.cancel()
        await settle()
        assert tokens.stats().flights == 1
        callers[0].scope.cancel()
    assert tokens.stats().flights == 0
    person.let_poll()
    await settle()
    assert (house.entra.count(POLL), person.waits) == (1, 2)
    async with anyio.create_task_group() as group:
        newcomer = Caller(group, tokens.get, "User.Read")
        await until(lambda: person.waits == 3)
        first, second = person.prompts
        assert first.user_code != second.user_code
        house.entra.approve_device_code(second.user_code, ANN)
        person.let_poll()
    assert newcomer.token.account is not None
    assert (house.entra.count(POLL), house.entra.count(CODE)) == (2, 2)


async def test_a_sign_in_whose_poll_is_in_the_air_ends_at_once_too(house: House) -> None:
    house.entra.configure(device_code_interval=0)
    person = Person()
    tokens = house.program(person)
    with house.entra.hold(POLL) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get, "User.Read") for _ in range(20)]
            await arrived(gate)
            for caller in callers:
                caller.scope.cancel()
        assert tokens.stats().flights == 0
    await until(lambda: house.entra.requests[-1].status == 400)
    await settle()
    assert house.entra.count(POLL) == 1
    assert house.entra.count(CODE) == 1


async def test_a_code_that_is_declined_is_a_sign_in_error_for_all(house: House) -> None:
    person = Person(lambda prompt: house.entra.deny_device_code(prompt.user_code))
    tokens = house.program(person)
    outcomes = await crowd(50, tokens.get, "User.Read")
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(SignInError, "authorization_declined")}
    assert (len(person.prompts), house.entra.count(POLL)) == (1, 1)
    assert await tokens.accounts() == ()


async def test_a_code_that_expired_is_a_sign_in_error_for_all_and_the_next_call_gets_another(house: House) -> None:
    person = Person(patient=True)
    tokens = house.program(person)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(50)]
        await until(lambda: person.waits == 1)
        house.clock.advance(901)
        person.let_poll()
    outcomes = [caller.outcome for caller in callers]
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(SignInError, "expired_token")}
    assert (len(person.prompts), house.entra.count(POLL)) == (1, 1)
    house.entra.configure(auto_approve=ANN)
    async with anyio.create_task_group() as group:
        again = Caller(group, tokens.get, "User.Read")
        await until(lambda: person.waits == 2)
        person.let_poll()
    assert again.token.account is not None


async def test_a_code_ends_by_our_own_clock_too(house: House) -> None:
    house.entra.configure(device_code_expires_in=1)
    person = Person(patient=True)
    tokens = house.program(person)
    with pytest.raises(SignInError) as caught:
        await tokens.get("User.Read")
    assert caught.value.code == "expired_token"
    assert (person.waits, house.entra.count(POLL)) == (1, 0)


async def test_an_on_code_that_fails_is_a_sign_in_error(house: House) -> None:
    def fail(_prompt: object) -> None:
        raise ValueError("no terminal")

    tokens = house.program(Person(fail))
    outcomes = await crowd(50, tokens.get, "User.Read")
    assert {type(outcome) for outcome in outcomes} == {SignInError}
    assert {type(outcome.__cause__) for outcome in outcomes} == {ValueError}
    assert (house.entra.count(CODE), house.entra.count(POLL)) == (1, 0)


async def test_an_authority_that_is_down_is_no_reason_to_ask_a_person(house: House) -> None:
    person = approving(house.entra)
    tokens, _ = await signed_in(house, person)
    house.entra.fault(REFRESH, status=503)
    outcomes = await crowd(50, tokens.get, "Mail.Read")
    assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
    assert (len(person.prompts), house.entra.count(REFRESH)) == (1, 3)


async def test_a_poll_that_fails_is_made_again(house: House) -> None:
    person = approving(house.entra)
    tokens = house.program(person)
    house.entra.fault(POLL, times=2, reset=True)
    assert (await tokens.get("User.Read")).account is not None
    assert (house.entra.count(POLL), house.entra.count(CODE)) == (3, 1)


async def test_revoked_refresh_tokens_lead_to_one_new_sign_in(house: House) -> None:
    person = approving(house.entra)
    tokens, old = await signed_in(house, person)
    house.entra.revoke_refresh_tokens(ANN)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, f"Scope.{number % 5}") for number in range(50)]
    assert len({caller.token.value for caller in callers}) == 5
    assert len(person.prompts) == 2
    assert await tokens.accounts() == (old.account,)
    await still_works(tokens, house.entra)


def test_nothing_is_left_on_a_loop_that_a_sign_in_died_with(house: House) -> None:
    person = Person(patient=True)
    tokens = house.program(person)

    async def begin() -> None:
        task = asyncio.ensure_future(tokens.get("User.Read"))
        await until(lambda: person.waits == 1)
        assert not task.done()

    asyncio.run(begin())
    assert tokens.stats().flights == 0
    person = approving(house.entra)
    later = house.program(person)
    assert asyncio.run(later.get("User.Read")).account is not None
