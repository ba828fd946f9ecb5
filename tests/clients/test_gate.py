"""Patience, retries and the breaker, by a clock that only sleeping moves."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from aiomsal import AuthorityError, AuthorityUnavailable, InteractionRequired, InvalidClient, Throttled
from aiomsal._client import Attempt
from aiomsal.clients._gate import (
    FIRST_BACKOFF,
    FIRST_PROBE,
    LONGEST_BACKOFF,
    LONGEST_PROBE,
    PROBE_TAKES,
    STRIKES,
    UNASKED_PAUSE,
    Gate,
)

from .helpers import Waits, first

pytestmark = pytest.mark.anyio


def gate(waits: Waits, random: float = 1.0) -> Gate:
    return Gate("login.example", clock=waits.clock, sleep=waits.sleep, random=lambda: random)


def again(number: int, failure: Any, deadline: float = math.inf) -> Attempt:
    return Attempt(number, failure, deadline)


async def test_the_first_attempt_waits_for_nothing() -> None:
    waits = Waits()
    await gate(waits).admit(first())
    assert waits.slept == []


async def test_back_off_doubles_and_is_drawn_from_all_of_it() -> None:
    waits = Waits()
    failure = AuthorityUnavailable("down", status=500)
    await gate(waits).admit(again(1, failure))
    await gate(waits).admit(again(2, failure))
    await gate(waits, random=0.25).admit(again(2, failure))
    assert waits.slept == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, FIRST_BACKOFF / 2]
    assert max(waits.slept) < LONGEST_BACKOFF


async def test_the_third_failure_is_the_last() -> None:
    waits = Waits()
    failure = AuthorityUnavailable("down", status=500)
    with pytest.raises(AuthorityUnavailable) as caught:
        await gate(waits).admit(again(3, failure))
    assert caught.value is failure
    assert waits.slept == []


@pytest.mark.parametrize(
    "failure",
    [
        InvalidClient("no"),
        AuthorityError("no"),
        InteractionRequired("no"),
        *[AuthorityUnavailable("no", status=status) for status in (200, 302, 400, 404, 407, 409, 499)],
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'status', '')}",
)
async def test_what_another_attempt_would_not_mend_is_raised_at_once(failure: Exception) -> None:
    waits = Waits()
    with pytest.raises(type(failure)) as caught:
        await gate(waits).admit(again(1, failure))
    assert caught.value is failure
    assert waits.slept == []


@pytest.mark.parametrize(
    "failure",
    [Throttled("no"), *[AuthorityUnavailable("no", status=status) for status in (None, 408, 500, 503, 599)]],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'status', '')}",
)
async def test_what_may_pass_is_given_another_attempt(failure: Any) -> None:
    waits = Waits()
    await gate(waits).admit(again(1, failure))
    assert waits.slept == [FIRST_BACKOFF]


async def test_a_back_off_beyond_the_deadline_is_not_begun() -> None:
    waits = Waits()
    failure = AuthorityUnavailable("down")
    with pytest.raises(AuthorityUnavailable) as caught:
        await gate(waits).admit(again(1, failure, anyio.current_time() + FIRST_BACKOFF / 2))
    assert caught.value is failure
    assert waits.slept == []


async def test_retry_after_holds_back_every_request_of_the_client() -> None:
    waits = Waits()
    one = gate(waits)
    one.note(429, 20.0)
    await one.admit(first())
    assert 20.0 <= sum(waits.slept) <= 21.0, "as long as was asked for, and a little more, each another little"
    await one.admit(first())
    assert len(waits.slept) == 1


async def test_patience_that_grows_while_one_waits_is_kept() -> None:
    waits = Waits()
    one = gate(waits, random=0.0)
    one.note(429, 20.0)
    plain = waits.sleep

    async def asked_for_more(seconds: float) -> None:
        waits.sleep = plain  # type: ignore[method-assign]
        await plain(seconds)
        one.note(429, 5.0)

    one._sleep = lambda seconds: asked_for_more(seconds) if len(waits.slept) == 0 else plain(seconds)
    await one.admit(first())
    assert waits.slept == [20.0, 5.0]


async def test_less_patience_does_not_shorten_more() -> None:
    waits = Waits()
    one = gate(waits, random=0.0)
    one.note(429, 20.0)
    one.note(429, 1.0)
    await one.admit(first())
    assert waits.slept == [20.0]


async def test_patience_beyond_the_deadline_is_throttled_at_once() -> None:
    waits = Waits()
    one = gate(waits)
    one.note(429, 20.0)
    with pytest.raises(Throttled, match="asks for patience") as caught:
        await one.admit(first(anyio.current_time() + 19.0))
    assert caught.value.retry_after == 20.0
    assert waits.slept == []


async def test_a_429_that_names_no_time_gets_some() -> None:
    waits = Waits()
    one = gate(waits, random=0.0)
    one.note(429, None)
    await one.admit(first())
    assert waits.slept == [UNASKED_PAUSE]


@pytest.mark.parametrize(("status", "retry_after"), [(500, None), (503, None), (200, 30.0), (400, 30.0)])
async def test_what_may_be_one_user_s_leaves_no_mark(status: int, retry_after: float | None) -> None:
    waits = Waits()
    one = gate(waits)
    for _ in range(2 * STRIKES):
        one.note(status, retry_after)
    await one.admit(first())
    assert waits.slept == []


async def test_a_503_with_retry_after_is_the_host_s() -> None:
    waits = Waits()
    one = gate(waits, random=0.0)
    one.note(503, 7.0)
    await one.admit(first())
    assert waits.slept == [7.0]


def opened(waits: Waits) -> Gate:
    one = gate(waits)
    for _ in range(STRIKES):
        one.note(None, reason="nobody there")
    return one


async def is_admitted(one: Gate) -> bool:
    try:
        await one.admit(first())
    except AuthorityUnavailable:
        return False
    return True


async def test_the_breaker_says_since_when_until_when_and_why() -> None:
    waits = Waits()
    with pytest.raises(AuthorityUnavailable, match=r"5 times in a row, and is left alone for 5\.0 s.*nobody there"):
        await opened(waits).admit(first())
    assert waits.slept == []


async def test_the_breaker_stays_closed_while_somebody_answers_between() -> None:
    one = gate(Waits())
    for _ in range(10):
        for _ in range(STRIKES - 1):
            one.note(None)
        one.note(500)
    assert await is_admitted(one)


async def test_an_open_breaker_ends_the_retries_with_the_failure_itself() -> None:
    failure = AuthorityUnavailable("the fifth")
    with pytest.raises(AuthorityUnavailable) as caught:
        await opened(Waits()).admit(again(1, failure))
    assert caught.value is failure


async def test_one_probe_passes_and_its_success_closes_the_breaker() -> None:
    waits = Waits()
    one = opened(waits)
    waits.now += FIRST_PROBE
    assert [await is_admitted(one) for _ in range(3)] == [True, False, False]
    one.note(200)
    assert [await is_admitted(one) for _ in range(3)] == [True, True, True]


async def test_a_probe_that_finds_nobody_doubles_the_pause_up_to_a_bound() -> None:
    waits = Waits()
    one = opened(waits)
    pauses = []
    for _ in range(6):
        before = waits.now
        while not await is_admitted(one):
            waits.now += FIRST_PROBE
        pauses.append(waits.now - before)
        one.note(None)
    assert pauses == [FIRST_PROBE, 10.0, 20.0, 40.0, LONGEST_PROBE, LONGEST_PROBE]


async def test_a_probe_that_was_never_heard_of_is_replaced() -> None:
    waits = Waits()
    one = opened(waits)
    waits.now += FIRST_PROBE
    assert await is_admitted(one)
    waits.now += PROBE_TAKES - 1
    assert not await is_admitted(one)
    waits.now += 1
    assert await is_admitted(one)


async def test_failures_that_come_late_do_not_put_off_the_probe() -> None:
    waits = Waits()
    one = opened(waits)
    waits.now += FIRST_PROBE - 1
    for _ in range(100):
        one.note(None)
    waits.now += 1
    assert await is_admitted(one)


async def test_who_waits_for_a_retry_after_does_not_use_up_the_probe() -> None:
    waits = Waits()
    one = gate(waits, random=0.0)
    one.note(429, 30.0)
    for _ in range(STRIKES):
        one.note(None)
    waits.now += FIRST_PROBE
    await one.admit(first())
    assert waits.slept == [30.0 - FIRST_PROBE]
