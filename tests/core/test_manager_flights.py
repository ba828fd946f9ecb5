"""Cold callers: one acquisition, whoever leaves; rejected tokens; claims; what fails."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import AuthorityError, AuthorityUnavailable, InteractionRequired, Throttled, TokenError
from tests.core.manager_support import ALICE, SCOPE, Call, Rig, SharedStore, at_once, people, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def test_cold_callers_share_one_acquisition() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE) for _ in range(500)]
        calls += [Call(group, rig.tokens.get_silent, SCOPE), Call(group, rig.tokens.source(SCOPE).get)]
        await settle()
        rig.client.parked[0].land()
    assert {call.value for call in calls} == {"token-1"}
    assert rig.asked == 1


async def by_its_scope(call: Callable[[], Awaitable[Any]], leave: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await leave.wait()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await call()


async def by_its_task(call: Callable[[], Awaitable[Any]], leave: anyio.Event) -> None:
    task = asyncio.ensure_future(call())
    await leave.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(call: Callable[[], Awaitable[Any]], leave: anyio.Event) -> None:
    task = asyncio.ensure_future(asyncio.wait_for(call(), 0.001))
    await leave.wait()
    with pytest.raises(TimeoutError):
        await task


async def by_timeout(call: Callable[[], Awaitable[Any]], leave: anyio.Event) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as group:
            group.create_task(call())  # type: ignore[arg-type]
            await leave.wait()
            deadline.reschedule(0)


@pytest.mark.parametrize("how", [by_its_scope, by_its_task, by_wait_for, by_timeout])
@pytest.mark.parametrize("others", [0, 3])
async def test_a_cancelled_leader_leaves_the_flight_to_the_others(how: Any, others: int, backend: str) -> None:
    if backend == "trio" and how is not by_its_scope:
        return
    rig = Rig()
    leave = anyio.Event()
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as leader:
            leader.start_soon(how, lambda: rig.tokens.get(SCOPE), leave)
            acquisition = await rig.parked()
            calls = [Call(group, rig.tokens.get, SCOPE) for _ in range(others)]
            await settle()
            leave.set()
        await settle()
        assert rig.client.parked == [acquisition]
        acquisition.land()
    assert [call.value for call in calls] == ["token-1"] * others
    await settle()
    assert at_once(rig.tokens.get(SCOPE)).value == "token-1"
    assert rig.asked == 1
    assert rig.tokens.stats().flights == 0


async def test_everybody_may_leave_and_the_flight_still_warms_the_cache() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE) for _ in range(5)]
        await settle()
        for call in calls:
            call.scope.cancel()
    rig.client.parked[0].land()
    await settle()
    assert at_once(rig.tokens.get(SCOPE)).value == "token-1"
    assert rig.asked == 1


async def test_a_failure_is_for_those_aboard_and_is_not_remembered() -> None:
    rig = Rig()
    failure = AuthorityError("no", code="unauthorized_client")
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE) for _ in range(5)]
        await settle()
        rig.client.parked[0].fail(failure)
    assert {type(call.error) for call in calls} == {AuthorityError}
    assert len({id(call.error) for call in calls} | {id(failure)}) == 6
    depths = set()
    for call in calls:
        depth, traceback = 0, call.error.__traceback__
        while traceback is not None:
            depth, traceback = depth + 1, traceback.tb_next
        depths.add(depth)
    assert len(depths) == 1
    assert (await rig.hold()).value == "token-2"
    assert (rig.asked, rig.tokens.stats().failed, rig.tokens.stats().refresh_failed) == (2, 1, 0)


async def test_a_failed_attempt_is_repeated_within_the_flight_as_the_client_wants() -> None:
    rig = Rig(retries=2)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, SCOPE)
        for _ in range(2):
            (await rig.parked()).fail(AuthorityUnavailable("503"))
        (await rig.parked()).land()
    assert call.value == "token-3"
    assert rig.tokens.stats().failed == 0


async def test_callers_are_let_go_after_the_timeout_and_it_counts_as_a_failure() -> None:
    rig = Rig(acquire_timeout=0.02)
    with pytest.raises(AuthorityUnavailable, match="acquire_timeout"):
        await rig.tokens.get(SCOPE)
    await settle()
    assert rig.tokens.stats().failed == 1
    assert rig.client.parked == []
    assert (await rig.hold()).value == "token-2"


# -- rejected --------------------------------------------------------------------------------------------------------


async def test_many_rejections_of_one_token_make_one_acquisition() -> None:
    rig = Rig()
    old = await rig.hold()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE, rejected=old) for _ in range(100)]
        await settle()
        rig.client.parked[0].land()
    assert {call.value for call in calls} == {"token-2"}
    assert rig.asked == 2


async def test_a_late_rejection_of_a_token_that_was_replaced_asks_nobody() -> None:
    rig = Rig()
    old = await rig.hold()
    await rig.hold(rejected=old)
    assert at_once(rig.tokens.get(SCOPE, rejected=old)).value == "token-2"
    assert rig.asked == 2


async def test_an_authority_that_repeats_itself_is_asked_once_and_believed() -> None:
    rig = Rig()
    old = await rig.hold(landing={"value": "same"})
    rig.clock.advance(1)
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE, rejected=old) for _ in range(3)]
        (await rig.parked()).land("same")
    assert {call.value for call in calls} == {"same"}
    assert rig.asked == 2


async def test_an_authority_that_repeats_itself_in_the_same_instant_does_not_keep_anybody_for_ever() -> None:
    rig = Rig(script=lambda acquisition: acquisition.land("same"))
    old = await rig.tokens.get(SCOPE)
    with pytest.raises(TokenError, match="brought nothing new"):
        await rig.tokens.get(SCOPE, rejected=old)
    assert rig.asked == 6


async def test_a_rejection_goes_along_with_the_refresh_aloft() -> None:
    rig = Rig()
    old = await rig.hold()
    rig.clock.advance(3400)
    at_once(rig.tokens.get(SCOPE))
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, SCOPE, rejected=old)
        await settle()
        assert rig.asked == 2
        rig.client.parked[0].land()
    assert call.value == "token-2"
    assert rig.asked == 2


async def test_a_rejection_that_fails_leaves_the_token_held_to_the_others() -> None:
    rig = Rig()
    old = await rig.hold()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, SCOPE, rejected=old)
        await settle()
        assert at_once(rig.tokens.get(SCOPE)) == old
        rig.client.parked[0].fail(AuthorityUnavailable("down"))
    assert isinstance(call.error, AuthorityUnavailable)
    assert at_once(rig.tokens.get(SCOPE)) == old


async def test_one_who_rejects_a_token_does_not_get_it_from_a_flight_that_found_it_in_the_store() -> None:
    first = Rig(store=SharedStore())
    old = await first.hold(landing={"refresh_in": 3590})
    second = Rig(beside=first)
    parked, go_on = second.tokens._shelf._store.hold("get", "token")  # type: ignore[attr-defined]
    async with anyio.create_task_group() as group:
        plain = Call(group, second.tokens.get, SCOPE)
        await parked.wait()
        rejecting = Call(group, second.tokens.get, SCOPE, rejected=first.client.acquisitions[0]._outcome.token)
        await settle()
        go_on.set()
        (await second.parked()).land()
    assert plain.value == old.value
    assert rejecting.value == "token-2"


# -- claims ----------------------------------------------------------------------------------------------------------

C = '{"access_token": {"nbf": {"essential": true, "value": "1"}}}'
D = '{"access_token": {"nbf": {"essential": true, "value": "2"}}}'


async def test_a_token_for_claims_answers_them_until_rejected_and_replaces_the_plain_one() -> None:
    rig = Rig()
    plain = await rig.hold()
    challenged = await rig.hold(claims=C, rejected=plain)
    for _ in range(3):
        assert at_once(rig.tokens.get(SCOPE, claims=C)) == challenged
        assert at_once(rig.tokens.get(SCOPE, claims=C, rejected=plain)) == challenged
        assert at_once(rig.tokens.get(SCOPE)) == challenged
    assert rig.client.acquisitions[1].request.claims == C
    assert (await rig.hold(claims=C, rejected=challenged)).value == "token-3"
    assert at_once(rig.tokens.get(SCOPE)).value == "token-3"
    assert rig.asked == 3


async def test_different_claims_do_not_share() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE, claims=claims) for claims in (C, D)]
        await settle()
        for acquisition in rig.client.parked:
            acquisition.land(acquisition.request.claims)
    assert [call.value for call in calls] == [C, D]
    assert at_once(rig.tokens.get(SCOPE, claims=C)).value == C


async def test_many_challenges_make_one_acquisition() -> None:
    rig = Rig()
    plain = await rig.hold()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE, claims=C, rejected=plain) for _ in range(100)]
        await settle()
        rig.client.parked[0].land()
    assert {call.value for call in calls} == {"token-2"}
    assert rig.asked == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_a_plain_refresh_that_left_before_the_challenge_never_takes_its_token_away(fails: bool) -> None:
    rig = Rig()
    plain = await rig.hold()
    rig.clock.advance(3400)
    at_once(rig.tokens.get(SCOPE))
    refresh = await rig.parked()
    challenged = await rig.hold(claims=C, rejected=plain)
    if fails:
        refresh.fail(AuthorityUnavailable("down"))
    else:
        refresh.land()
    await settle()
    rig.clock.advance(1000)  # and it is not said to be due early either
    for _ in range(2):
        assert at_once(rig.tokens.get(SCOPE)) == at_once(rig.tokens.get(SCOPE, claims=C)) == challenged
    await settle()
    assert rig.asked == 3


# -- stale -----------------------------------------------------------------------------------------------------------


async def test_a_thousand_callers_of_a_stale_token_wait_for_nothing_and_make_one_acquisition() -> None:
    rig = Rig()
    old = await rig.hold()
    rig.clock.advance(3400)
    for _ in range(500):
        assert at_once(rig.tokens.get(SCOPE)) == old
    await settle()
    for _ in range(500):
        assert at_once(rig.tokens.get(SCOPE)) == old
    rig.clock.advance(100)  # longer than the pause: still one aloft
    for _ in range(10):
        assert at_once(rig.tokens.get(SCOPE)) == old
    await settle()
    assert rig.asked == 2
    rig.client.parked[0].land()
    await settle()
    assert at_once(rig.tokens.get(SCOPE)).value == "token-2"


FAILURES = [
    RuntimeError("secret-in-a-foreign-error"),
    AuthorityError("secret-description"),
    AuthorityUnavailable("down"),
    Throttled("later", retry_after=3.0),
    InteractionRequired("a person"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_failed_refresh_is_silent_counted_logged_and_postponed(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rig = Rig()
    old = await rig.hold()
    rig.clock.advance(3400)
    source = rig.tokens.source(SCOPE)
    assert at_once(source.get()) == old
    (await rig.parked()).fail(failure)
    await settle()
    assert (rig.tokens.stats().failed, rig.tokens.stats().refresh_failed) == (1, 1)
    mine = [record.getMessage() for record in caplog.records if record.name.startswith("aiomsal")]
    assert len(mine) == 1
    assert type(failure).__name__ in mine[0]
    assert "170 s" in mine[0]
    assert "secret" not in caplog.text
    for _ in range(10):
        rig.clock.advance(2.9)
        assert at_once(rig.tokens.get(SCOPE)) == at_once(source.get()) == old
    await settle()
    assert rig.asked == 2
    rig.clock.advance(2)  # 31 s later
    assert at_once(source.get()) == old
    await settle()
    assert rig.asked == (2 if isinstance(failure, InteractionRequired) else 3)  # that is remembered for 60 s


async def test_a_throttled_refresh_waits_as_long_as_it_was_told_if_the_token_lives_long_enough() -> None:
    rig = Rig()
    await rig.hold(landing={"refresh_in": 1000})
    rig.clock.advance(1000)
    await rig.tokens.get(SCOPE)
    (await rig.parked()).fail(Throttled("later", retry_after=500))
    await settle()
    rig.clock.advance(499)
    at_once(rig.tokens.get(SCOPE))
    await settle()
    assert rig.asked == 2
    rig.clock.advance(2)
    at_once(rig.tokens.get(SCOPE))
    await settle()
    assert rig.asked == 3


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_old_token_serves_to_its_last_usable_second_and_then_callers_get_the_error(
    failure: Exception,
) -> None:
    rig = Rig(script=lambda acquisition: acquisition.number > 1 and acquisition.fail(failure))
    old = await rig.hold()
    rig.clock.advance(3301)
    asked = 0
    while rig.clock() < old.expires_at - 30:
        assert at_once(rig.tokens.get(SCOPE)) == old
        await settle()
        rig.clock.advance(1)
        asked += 1
    assert asked == 269
    assert rig.asked <= 40  # not one a second: a pause between any two
    assert rig.tokens.stats().failed == rig.tokens.stats().refresh_failed
    with pytest.raises(type(failure)):
        await rig.tokens.get(SCOPE)


async def test_a_caller_past_the_last_usable_second_waits_for_the_refresh_aloft() -> None:
    rig = Rig()
    await rig.hold()
    rig.clock.advance(3569.5)
    at_once(rig.tokens.get(SCOPE))
    await settle()
    rig.clock.advance(1)
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, SCOPE) for _ in range(3)]
        await settle()
        assert {call.outcome for call in calls} == {None}
        rig.client.parked[0].land()
    assert {call.value for call in calls} == {"token-2"}
    assert rig.asked == 2


async def test_a_refresh_that_hangs_is_a_failure_that_is_counted_and_postponed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(acquire_timeout=0.02)
    old = await rig.hold()
    rig.clock.advance(3400)
    at_once(rig.tokens.get(SCOPE))
    await anyio.sleep(0.05)  # the timeout's own time: nothing else moves it
    await settle()
    assert (rig.tokens.stats().failed, rig.tokens.stats().refresh_failed) == (1, 1)
    assert "a refresh failed" in caplog.text
    assert at_once(rig.tokens.get(SCOPE)) == old
    await settle()
    assert rig.asked == 2


async def test_an_authority_whose_tokens_come_stale_is_not_asked_without_a_pause() -> None:
    rig = Rig(script=lambda acquisition: (acquisition.land(refresh_in=1.0), rig.clock.advance(2)))
    await rig.tokens.get(SCOPE)
    for _ in range(60):
        await rig.tokens.get(SCOPE)
        await settle()
    assert rig.asked == 2  # the first reader asks once more
    rig.clock.advance(31)
    for _ in range(10):
        at_once(rig.tokens.get(SCOPE))
        await settle()
    assert rig.asked == 3


# -- clocks ----------------------------------------------------------------------------------------------------------


async def test_tokens_that_live_for_seconds_are_used_for_most_of_their_life() -> None:
    rig = Rig(script=lambda acquisition: acquisition.land(expires_in=10.0))
    for _ in range(90):
        token = await rig.tokens.get(SCOPE)
        await settle()
        assert rig.clock() < token.expires_at - 1
        rig.clock.advance(1)
    assert 12 <= rig.asked <= 30  # refreshed after half their life, never each second


@pytest.mark.parametrize("jump", [-7200.0, -86_400.0, 7200.0, 86_400.0 * 365 * 20])
async def test_a_clock_that_jumps_makes_one_acquisition(jump: float) -> None:
    rig = Rig(script=lambda acquisition: acquisition.land())
    await rig.tokens.get(SCOPE)
    rig.clock.advance(jump)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            Call(group, rig.tokens.get, SCOPE)
    assert rig.asked == 2
    for _ in range(50):
        await rig.tokens.get(SCOPE)
        await settle()
    assert rig.asked == 2
    rig.clock.advance(-jump)
    for _ in range(50):
        await rig.tokens.get(SCOPE)
        await settle()
    assert rig.asked <= 3


@pytest.mark.parametrize("expires_in", [1e12, float("inf"), float("nan")])
async def test_an_absurd_lifetime_is_taken_for_an_hour(expires_in: float) -> None:
    rig = Rig()
    await rig.hold(landing={"expires_in": expires_in})
    rig.clock.advance(3200)
    for _ in range(20):
        at_once(rig.tokens.get(SCOPE))
    assert rig.asked == 1
    rig.clock.advance(400)
    assert (await rig.hold()).value == "token-2"


@pytest.mark.parametrize("expires_in", [0.0, -5.0, float("-inf")])
async def test_a_token_that_comes_expired_is_not_held(expires_in: float) -> None:
    rig = Rig()
    for number in (1, 2):
        await rig.hold(landing={"expires_in": expires_in})
        assert rig.asked == number


async def test_an_accounts_token_is_not_anothers() -> None:
    rig = people()
    await rig.enrol(ALICE)
    token = await rig.hold("mail", account=ALICE)
    assert token.account == ALICE
    with pytest.raises(InteractionRequired):
        await rig.tokens.get_silent("mail", account="somebody-else")
    assert rig.asked == 1
