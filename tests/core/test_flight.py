"""Flights: one acquisition for all who ask, whoever comes, leaves, fails or dies."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import os
import random
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from concurrent.futures import wait
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest

from aiomsal import _flight
from aiomsal._errors import AuthorityError, AuthorityUnavailable, FlightAborted, Throttled, copy_of
from aiomsal._flight import ROUNDS, Flights, NothingCame

from .support import LOOPS, Authority, Caller, HandMadeLoop, Parked, eventually, loop_in_thread, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def nothing() -> None:
    return None


# -- one for all -----------------------------------------------------------------------------------------------------


async def test_a_hundred_cold_callers_share_one_acquisition() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire)) for _ in range(100)]
        await settle()
        assert len(authority.asked) == len(flights) == 1
        authority.last.land("token")
    assert [caller.value for caller in callers] == ["token"] * 100
    assert len(authority.asked) == 1
    assert len(flights) == 0


async def test_two_keys_are_two_flights() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        callers = []
        for key in ("one", "two"):
            callers.append(Caller(group, partial(flights.join, key, authority.acquire)))
            await settle()
        assert len(flights) == 2
        authority.asked[1].land("second")
        await settle()
        assert [caller.outcome for caller in callers] == ["waiting", "value"]
        authority.asked[0].land("first")
    assert [caller.value for caller in callers] == ["first", "second"]


async def leave_by_task_cancel(join: Callable[[], Awaitable[Any]]) -> None:
    task = asyncio.ensure_future(join())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_wait_for(join: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(join(), 0.05)


async def leave_by_asyncio_timeout(join: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await join()


async def leave_by_anyio_scope(join: Callable[[], Awaitable[Any]]) -> None:
    with anyio.move_on_after(0.05) as scope:
        await join()
    assert scope.cancelled_caught


WAYS = [leave_by_task_cancel, leave_by_wait_for, leave_by_asyncio_timeout, leave_by_anyio_scope]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("owned", [False, True], ids=["silent", "owned"])
async def test_a_cancelled_leader_leaves_the_flight_to_the_others(way: Any, owned: bool, backend: str) -> None:
    if backend == "trio" and way is not leave_by_anyio_scope:
        pytest.skip("asyncio's own")
    flights, authority = Flights[str](), Authority()

    def join() -> Awaitable[str]:
        return flights.join("key", authority.acquire, owned=owned)

    followers: list[Caller] = []

    async def follow() -> None:
        while not len(flights):
            await anyio.lowlevel.checkpoint()
        followers.extend(Caller(group, join) for _ in range(3))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await way(join)
        await settle()
        assert [follower.outcome for follower in followers] == ["waiting"] * 3
        assert len(authority.asked) == len(flights) == 1
        assert not authority.last.cancelled
        authority.last.land("token")
    assert [follower.value for follower in followers] == ["token"] * 3
    assert len(authority.asked) == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_silent_flight_that_all_have_left_goes_on(way: Any, backend: str) -> None:
    if backend == "trio" and way is not leave_by_anyio_scope:
        pytest.skip("asyncio's own")
    flights, authority = Flights[str](), Authority()
    await way(lambda: flights.join("key", authority.acquire))
    await settle()
    assert len(flights) == 1
    assert not authority.last.over
    async with anyio.create_task_group() as group:
        newcomer = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        authority.last.land("token")
    assert newcomer.value == "token"
    assert len(authority.asked) == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_owned_flight_that_all_have_left_is_aborted_and_a_newcomer_gets_a_new_one(
    way: Any, backend: str
) -> None:
    if backend == "trio" and way is not leave_by_anyio_scope:
        pytest.skip("asyncio's own")
    flights, authority = Flights[str](), Authority()
    await way(lambda: flights.join("key", authority.acquire, owned=True))
    assert len(flights) == 0
    async with anyio.create_task_group() as group:
        newcomer = Caller(group, lambda: flights.join("key", authority.acquire, owned=True))
        await settle()
        assert [parked.cancelled for parked in authority.asked] == [True, False]
        assert len(flights) == 1
        authority.last.land("new")
    assert newcomer.value == "new"


# -- every order -----------------------------------------------------------------------------------------------------

EVENTS = ("come 0", "come 1", "leave 0", "leave 1", "land", "fail")


def orders() -> Iterator[tuple[str, ...]]:
    """Every order of up to all of these events in which nobody leaves before coming, and what ends is aloft."""
    for length in range(1, len(EVENTS) + 1):
        for order in itertools.permutations(EVENTS, length):
            place = {event: i for i, event in enumerate(order)}
            if all(
                f"leave {i}" not in place or place.get(f"come {i}", len(order)) < place[f"leave {i}"] for i in (0, 1)
            ):
                yield order


class Model:
    """What must have happened after a sequence of events: two callers, one key."""

    def __init__(self, *, owned: bool) -> None:
        self.owned = owned
        self.asked = 0
        self.aborted: set[int] = set()
        self.aloft = False
        self.published: str | None = None
        self.aboard: set[int] = set()
        self.outcomes: dict[int, tuple[str, str | None]] = {}

    def possible(self, event: str) -> bool:
        return event.startswith(("come", "leave")) or self.aloft

    def happen(self, event: str) -> None:
        if event.startswith("come"):
            who = int(event[-1])
            if self.published is not None and not self.aloft:
                self.outcomes[who] = ("value", self.published)
                return
            if not self.aloft:
                self.asked += 1
                self.aloft = True
            self.aboard.add(who)
            self.outcomes[who] = ("waiting", None)
        elif event.startswith("leave"):
            who = int(event[-1])
            if who not in self.aboard:
                return
            self.aboard.remove(who)
            self.outcomes[who] = ("left", None)
            if self.owned and not self.aboard:
                self.aloft = False
                self.aborted.add(self.asked)
        else:
            self.aloft = False
            kind, word = ("value", f"token {self.asked}") if event == "land" else ("error", f"error {self.asked}")
            for who in self.aboard:
                self.outcomes[who] = (kind, word)
            self.aboard = set()
            if event == "land":
                self.published = word


TRIED_SILENT, TRIED_OWNED = 156, 116


@pytest.mark.parametrize("owned", [False, True], ids=["silent", "owned"])
async def test_every_order_of_come_leave_land_and_fail_ends_as_it_must(owned: bool) -> None:
    tried = 0
    for order in orders():
        model = Model(owned=owned)
        flights, authority = Flights[str](), Authority()
        published: list[str] = []

        async def acquire(authority: Authority = authority, published: list[str] = published) -> str:
            result: str = await authority.acquire()
            published.append(result)
            return result

        join = partial(
            flights.join,
            "key",
            acquire,
            look=lambda published=published: published[0] if published else None,
            owned=owned,
        )
        callers: dict[int, Caller] = {}
        async with anyio.create_task_group() as group:
            for event in order:
                if not model.possible(event):
                    break
                model.happen(event)
                match event.split():
                    case ["come", who]:
                        callers[int(who)] = Caller(group, join)
                    case ["leave", who]:
                        callers[int(who)].leave()
                    case ["land"]:
                        authority.last.land(f"token {len(authority.asked)}")
                    case _:
                        authority.last.fail(AuthorityError(f"error {len(authority.asked)}"))
                await settle(8)
                outcomes = {
                    who: (caller.outcome, str(caller.error) if caller.error else caller.value)
                    for who, caller in callers.items()
                }
                assert outcomes == model.outcomes, order
                assert len(flights) == model.aloft, order
                assert len(authority.asked) == model.asked, order
                aborted = {i for i, parked in enumerate(authority.asked, 1) if parked.cancelled}
                assert aborted == model.aborted, order
            else:
                tried += 1
            if len(flights):
                authority.last.land("the end")
            await settle(8)
        assert len(flights) == 0
    assert tried == (TRIED_OWNED if owned else TRIED_SILENT)


# -- errors ----------------------------------------------------------------------------------------------------------


class Foreign(Exception):
    """Somebody else's."""


class WithItsOwnConstructor(Exception):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is down")
        self.port = port


class WithWordsAround(Exception):
    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is down")


class Uncopyable(Exception):
    def __new__(cls, first: object, second: object) -> Self:
        return super().__new__(cls, "only one")

    def __init__(self, first: object, second: object) -> None:
        super().__init__("only one")


ERRORS = [
    Throttled("slowly", retry_after=7.0, code="slow", error_codes=(1, 2)),
    Foreign("no"),
    WithItsOwnConstructor("host", 443),
    WithWordsAround("host"),
    OSError(104, "reset"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "garbage"),
    ExceptionGroup("several", [Foreign("one")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_each_caller_gets_a_copy_of_the_error_with_a_traceback_of_its_own(error: Exception) -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire)) for _ in range(20)]
        await settle()
        authority.last.fail(error)
    raised = [caller.error for caller in callers]
    assert len({id(each) for each in (*raised, error)}) == 21
    lengths = set()
    for each in raised:
        assert type(each) is type(error)
        assert str(each) == str(error)
        assert {**vars(each)} == {**vars(error)}
        lengths.add(len(traceback.extract_tb(each.__traceback__)))
    assert len(lengths) == 1
    where_it_came_from = "outcome" in {frame.name for frame in traceback.extract_tb(raised[-1].__traceback__)}
    assert where_it_came_from is not isinstance(error, AuthorityError)


async def test_an_error_that_cannot_be_copied_is_shared_and_its_traceback_does_not_grow() -> None:
    flights, authority = Flights[str](), Authority()
    error = Uncopyable(1, 2)
    lengths = []

    async def call() -> None:
        with pytest.raises(Uncopyable) as raised:
            await flights.join("key", authority.acquire)
        assert raised.value is error
        lengths.append(len(traceback.extract_tb(raised.value.__traceback__)))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(call)
        await settle()
        authority.last.fail(error)
    assert lengths == [lengths[0]] * 20


async def test_the_cause_of_an_error_goes_with_each_copy_and_notes_stay_apart() -> None:
    error = Foreign("no")
    error.__cause__ = cause = OSError("reset")
    error.add_note("at the beginning")
    first, second = copy_of(error), copy_of(error)
    first.add_note("of the first")
    assert first.__cause__ is second.__cause__ is cause
    assert second.__notes__ == error.__notes__ == ["at the beginning"]
    shown = copy_of(Foreign("plain"))
    assert shown.__cause__ is None
    assert not shown.__suppress_context__


async def test_after_an_error_the_next_caller_launches_anew() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        first = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        authority.last.fail(AuthorityError("no"))
        await settle()
        second = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        authority.last.land("token")
    assert (first.outcome, second.value, len(authority.asked)) == ("error", "token", 2)


class Rude(BaseException):
    """As those of test runners and signal handlers."""


async def test_a_base_exception_that_stops_nobody_is_an_error_for_those_aboard() -> None:
    asked = 0

    async def acquire() -> str:
        nonlocal asked
        asked += 1
        raise Rude

    flights = Flights[str]()
    with pytest.raises(Rude):
        await flights.join("key", acquire)
    assert asked == 1
    assert len(flights) == 0


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    why: str


async def test_an_error_that_does_not_let_itself_be_written_leaves_nobody_waiting() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire)) for _ in range(3)]
        await settle()
        authority.last.fail(Frozen("gone"))
    assert [type(caller.error) for caller in callers] == [Frozen] * 3


@pytest.mark.asyncio
async def test_a_flight_cancelled_before_its_first_step_is_lost_and_launched_anew() -> None:
    flights, authority = Flights[str](), Authority()
    mine = asyncio.current_task()

    def cancel_the_others() -> None:
        for task in asyncio.all_tasks() - {mine, caller}:
            task.cancel()

    caller = asyncio.ensure_future(flights.join("key", authority.acquire))
    asyncio.get_running_loop().call_soon(cancel_the_others)  # after the launch, before the flight's first step
    await settle()
    assert len(authority.asked) == 1
    authority.last.land("token")
    assert await caller == "token"


@pytest.mark.asyncio  # on trio a cancellation is its scope's, and a foreign one is no answer but an error
async def test_a_flight_that_cancels_itself_is_not_flown_again() -> None:
    asked = 0

    async def acquire() -> str:
        nonlocal asked
        asked += 1
        raise asyncio.CancelledError

    flights = Flights[str]()
    with pytest.raises(FlightAborted, match="gave up by itself") as caught:
        await flights.join("key", acquire)
    assert caught.value.code == "cancelled"
    assert asked == 1
    assert len(flights) == 0


async def test_a_flight_whose_task_cannot_be_made_does_not_keep_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    flights, authority = Flights[str](), Authority()
    home = type(_flight.here())
    with monkeypatch.context() as patch:
        patch.setattr(home, "detach", lambda self, function, ended: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await flights.join("key", authority.acquire)
    assert len(flights) == 0
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        authority.last.land("token")
    assert caller.value == "token"


async def test_nothing_came_sends_its_passengers_on_with_their_own_acquisition() -> None:
    flights, authority = Flights[str](), Authority()

    async def in_no_hurry() -> str:
        await authority.acquire()
        raise NothingCame

    flights.launch("key", in_no_hurry, look=nothing)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire)) for _ in range(3)]
        await settle()
        authority.last.land("")
        await settle()
        assert len(authority.asked) == 2
        authority.last.land("token")
    assert [caller.value for caller in callers] == ["token"] * 3


async def test_a_caller_that_refuses_a_result_goes_along_with_another_flight() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        content = Caller(group, lambda: flights.join("key", authority.acquire))
        picky = [
            Caller(group, lambda: flights.join("key", authority.acquire, refuses=lambda result: result == "old"))
            for _ in range(3)
        ]
        await settle()
        authority.last.land("old")
        await settle()
        assert (content.value, [caller.outcome for caller in picky]) == ("old", ["waiting"] * 3)
        assert len(authority.asked) == 2
        authority.last.land("new")
    assert [caller.value for caller in picky] == ["new"] * 3


async def test_a_caller_that_refuses_everything_is_told_in_the_end() -> None:
    asked = 0

    async def acquire(word: str) -> str:
        nonlocal asked
        asked += 1
        return word

    with pytest.raises(FlightAborted, match="brought nothing new"):
        await Flights[str]().join("key", acquire, "old", refuses=lambda result: True)
    assert asked == ROUNDS


# -- the table -------------------------------------------------------------------------------------------------------


async def test_a_flight_removes_its_key_only_if_the_key_is_still_its_own() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        first = Caller(group, lambda: flights.join("key", authority.acquire, owned=True))
        await settle()
        old = flights._aloft["key"]
        first.leave()
        await settle()
        second = Caller(group, lambda: flights.join("key", authority.acquire, owned=True))
        await settle()
        flights._land(old, ("late",))
        assert (old.landed, old.result, old.error) == (True, None, None)
        assert len(flights) == 1
        old.landed = False  # as if it had never been aborted: even then the key is another's
        flights._land(old, ("late",))
        assert len(flights) == 1
        authority.last.land("token")
    assert second.value == "token"


async def test_look_closes_the_gap_between_publication_and_landing() -> None:
    flights, authority = Flights[str](), Authority()
    published: list[str] = []

    def look() -> str | None:
        return published[0] if published else None

    async with anyio.create_task_group() as group:
        first = Caller(group, lambda: flights.join("key", authority.acquire, look=look))
        await settle()
        published.append("token")
        authority.last.land("token")
        await settle()
        second = Caller(group, lambda: flights.join("key", authority.acquire, look=look))
        await settle()
        assert (first.value, second.value) == ("token", "token")
        flights.launch("key", authority.acquire, look=look)
    assert len(authority.asked) == 1
    assert len(flights) == 0


async def test_look_is_asked_under_the_lock_and_only_where_no_flight_is_aloft() -> None:
    flights, authority = Flights[str](), Authority()
    looks: list[bool] = []

    def look() -> None:
        looks.append(flights.guard().locked())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            Caller(group, lambda: flights.join("key", authority.acquire, look=look))
        await settle()
        flights.launch("key", authority.acquire, look=look)
        authority.last.land("token")
    assert looks == [True]


async def test_launch_never_suspends_and_whoever_comes_then_goes_along() -> None:
    flights, authority = Flights[str](), Authority()
    flights.launch("key", authority.acquire, look=nothing)
    flights.launch("key", authority.acquire, look=nothing)
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        authority.last.land("token")
    assert (caller.value, len(authority.asked)) == ("token", 1)


async def test_a_flight_that_lands_before_its_launch_returns_leaves_nothing(backend: str) -> None:
    async def acquire() -> str:
        return "at once"

    flights = Flights[str]()
    flights.launch("key", acquire, look=nothing, timeout=60)
    assert len(flights) == (0 if backend == "eager" else 1)
    assert await Flights[str]().join("key", acquire, timeout=60) == "at once"
    await settle()
    assert len(flights) == 0


async def test_a_flight_that_fails_before_its_launch_returns_fails_its_caller() -> None:
    async def acquire() -> str:
        raise AuthorityError("at once")

    flights = Flights[str]()
    with pytest.raises(AuthorityError, match="at once"):
        await flights.join("key", acquire, owned=True)
    assert len(flights) == 0


# -- timeouts --------------------------------------------------------------------------------------------------------


async def test_a_timeout_lets_the_passengers_go_and_cancels_and_a_late_result_changes_nothing() -> None:
    flights = Flights[str]()
    late: list[Parked] = []
    absorbed = 0

    async def acquire() -> str:
        nonlocal absorbed
        parked = Parked()
        late.append(parked)
        try:
            await parked.waiter.wait()
        except anyio.get_cancelled_exc_class():
            absorbed += 1
            with anyio.CancelScope(shield=True):
                await parked.waiter.wait()
        return "late"

    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", acquire, timeout=0.01)) for _ in range(3)]
        while callers[0].outcome == "waiting":
            await anyio.sleep(0.001)
        await settle()
        assert {type(caller.error) for caller in callers} == {AuthorityUnavailable}
        assert {caller.error.code for caller in callers if isinstance(caller.error, AuthorityUnavailable)} == {
            "timeout"
        }
        assert len(flights) == 0
        assert absorbed == 1
        newcomer = Caller(group, lambda: flights.join("key", acquire))
        await settle()
        late[0].land("late")
        await settle()
        assert newcomer.outcome == "waiting"
        assert len(flights) == 1
        late[1].land("late")
    assert newcomer.value == "late"
    assert len(late) == 2


async def test_a_flight_that_lands_takes_its_timer_with_it() -> None:
    flights, authority = Flights[str](), Authority()
    cancelled: list[str] = []
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: flights.join("key", authority.acquire, timeout=60))
        await settle()
        flight = flights._aloft["key"]
        assert flight.timer is not None
        timer = flight.timer

        class Watched:
            def cancel(self) -> None:
                cancelled.append("timer")
                timer.cancel()

        flight.timer = Watched()
        authority.last.land("token")
    await settle()
    assert caller.value == "token"
    assert cancelled == ["timer"]


async def test_a_timer_keeps_nothing_of_its_callers_context() -> None:
    class Body:
        """What a web framework keeps in a context variable."""

    flights = Flights[str]()
    request: ContextVar[Body] = ContextVar("request")

    async def acquire() -> str:
        return "token"

    async def call() -> weakref.ref[Body]:
        body = Body()
        request.set(body)
        await flights.join("key", acquire, timeout=600)
        return weakref.ref(body)

    seen: list[weakref.ref[Body]] = []

    async def run() -> None:
        seen.append(await call())

    sooner = _flight.here().call_later(300, nothing)  # asyncio drops cancelled timers when they are the next
    async with anyio.create_task_group() as group:
        group.start_soon(run)
    await settle()
    gc.collect()
    assert seen[0]() is None
    sooner.cancel()


# -- whose context, whose deadline -----------------------------------------------------------------------------------

CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


async def test_a_flight_runs_with_its_first_callers_variables_and_nobodys_deadline() -> None:
    flights, authority = Flights[str](), Authority()
    seen: list[tuple[str, float]] = []

    async def acquire() -> str:
        seen.append((CALLER.get(), anyio.current_effective_deadline()))
        CALLER.set("the flight")
        return str(await authority.acquire())

    async def call(name: str) -> None:
        CALLER.set(name)
        with anyio.move_on_after(600):
            await flights.join("key", acquire)
        assert CALLER.get() == name

    async with anyio.create_task_group() as group:
        group.start_soon(call, "first")
        await settle()
        group.start_soon(call, "second")
        await settle()
        authority.last.land("token")
    assert seen == [("first", float("inf"))]


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_close_waits_for_flights_aborts_owned_ones_and_refuses_new_ones() -> None:
    flights, silent, owned = Flights[str](), Authority(), Authority()
    async with anyio.create_task_group() as group:
        patient = Caller(group, lambda: flights.join("silent", silent.acquire))
        person = Caller(group, lambda: flights.join("owned", owned.acquire, owned=True))
        await settle()
        closing = Caller(group, lambda: flights.close(600))
        await settle()
        assert (person.outcome, patient.outcome, closing.outcome) == ("error", "waiting", "waiting")
        assert isinstance(person.error, FlightAborted)
        assert person.error.code == "closed"
        assert owned.last.cancelled
        with pytest.raises(FlightAborted, match="closed"):
            await flights.join("another", silent.acquire)
        flights.launch("another", silent.acquire, look=nothing)  # for one whose token works still
        assert len(flights) == 1
        silent.last.land("token")
    assert (patient.value, closing.outcome) == ("token", "value")
    assert len(flights) == 0
    await flights.close(600)
    assert len(silent.asked) == 1


async def test_close_aborts_what_does_not_finish_in_time() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        await flights.close(0)
        await settle()
    assert isinstance(caller.error, FlightAborted)
    assert authority.last.cancelled
    assert len(flights) == 0


async def test_a_close_that_is_cancelled_changes_nothing_for_those_aboard() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: flights.join("key", authority.acquire))
        await settle()
        closing = Caller(group, lambda: flights.close(600))
        await settle()
        closing.leave()
        await settle()
        authority.last.land("token")
    assert (caller.value, closing.outcome) == ("token", "left")


# -- nothing stays behind --------------------------------------------------------------------------------------------


async def test_dropping_everything_leaves_nothing_in_the_loop() -> None:
    class Manager:
        """Holds flights as the real one does."""

        def __init__(self) -> None:
            self.flights = Flights[str]()
            self.authority = Authority()

        async def acquire(self) -> str:
            return str(await self.authority.acquire())

        async def get(self) -> str:
            return await self.flights.join("key", self.acquire, look=self.look, timeout=600)

        def look(self) -> None:
            return None

    async def use() -> weakref.ref[Manager]:
        manager = Manager()
        async with anyio.create_task_group() as group:
            callers = [Caller(group, manager.get) for _ in range(3)]
            await settle()
            manager.authority.last.land("token")
        assert [caller.value for caller in callers] == ["token"] * 3
        async with anyio.create_task_group() as group:
            caller = Caller(group, manager.get)
            await settle()
            manager.authority.last.fail(Foreign("no"))
        assert caller.outcome == "error"
        return weakref.ref(manager)

    manager = await use()
    await settle()
    gc.collect()
    assert manager() is None


@pytest.mark.parametrize("order", ["in order", "in reverse", "shuffled"])
async def test_twenty_thousand_passengers_may_leave(order: str) -> None:
    flights, authority = Flights[str](), Authority()
    passengers = 20_000
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire, owned=True)) for _ in range(passengers)]
        await settle(5)
        flight = flights._aloft["key"]
        assert len(flight.passengers) == passengers
        leaving = list(callers)
        if order == "in reverse":
            leaving.reverse()
        elif order == "shuffled":
            random.Random(7).shuffle(leaving)
        for caller in leaving[:-1]:
            caller.leave()
        await settle(5)
        assert len(flight.passengers) == 1
        assert len(flights) == 1
        assert not authority.last.over
        leaving[-1].leave()
        await settle(5)
        assert authority.last.cancelled
    assert {caller.outcome for caller in callers} == {"left"}
    assert len(flights) == 0
    assert len(authority.asked) == 1


# -- many loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend_of_the_loops", LOOPS)
def test_four_cold_loops_make_one_acquisition_and_are_woken_at_once(
    backend_of_the_loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flight, "LOOK_ABROAD", 1000.0)  # so that only a wake-up can end a wait
    flights, authority = Flights[str](), Authority()
    together = threading.Barrier(4)

    async def join() -> str:
        together.wait(20)
        return await flights.join("key", authority.acquire)

    from contextlib import ExitStack

    with ExitStack() as stack:
        portals = [stack.enter_context(loop_in_thread(backend_of_the_loops)) for _ in range(4)]
        results = [portal.start_task_soon(join) for portal in portals]
        eventually(lambda: flights._aloft and len(flights._aloft["key"].passengers) == 4 and authority.asked)
        authority.last.land("token")
        done, _ = wait(results, 20)
        assert len(done) == 4
        assert [result.result() for result in results] == ["token"] * 4
    assert len(authority.asked) == 1


def test_loops_of_different_kinds_share_a_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flight, "LOOK_ABROAD", 1000.0)
    flights, authority = Flights[str](), Authority()
    with loop_in_thread("trio") as one, loop_in_thread("asyncio") as other:
        first = one.start_task_soon(lambda: flights.join("key", authority.acquire))
        eventually(lambda: authority.asked)
        second = other.start_task_soon(lambda: flights.join("key", authority.acquire))
        eventually(lambda: len(flights._aloft["key"].passengers) == 2)
        authority.last.fail(AuthorityError("no"))
        for result in (first, second):
            with pytest.raises(AuthorityError, match="no"):
                result.result(20)
    assert len(authority.asked) == 1


@pytest.mark.parametrize("flying", LOOPS)
@pytest.mark.parametrize("waiting", LOOPS)
def test_when_a_run_ends_the_passengers_on_other_loops_launch_anew(
    flying: str, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flight, "LOOK_ABROAD", 1000.0)  # the end of a run cancels the flight, which wakes them
    flights, authority = Flights[str](), Authority()
    with loop_in_thread(waiting) as survivor:
        with loop_in_thread(flying) as dying:
            dying.call(lambda: flights.launch("key", authority.acquire, look=nothing))
            eventually(lambda: authority.asked)
            results = [survivor.start_task_soon(lambda: flights.join("key", authority.acquire)) for _ in range(3)]
            eventually(lambda: len(flights._aloft["key"].passengers) == 3)
        eventually(lambda: len(authority.asked) == 2)
        eventually(lambda: "key" in flights._aloft and len(flights._aloft["key"].passengers) == 3)
        authority.last.land("token")
        assert [result.result(20) for result in results] == ["token"] * 3
    assert len(authority.asked) == 2
    assert authority.asked[0].cancelled


@pytest.mark.parametrize("waiting", LOOPS)
@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_when_a_loop_just_stops_the_passengers_on_other_loops_launch_anew(
    waiting: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flight, "LOOK_ABROAD", 0.01)
    flights, authority = Flights[str](), Authority()
    dying = HandMadeLoop()
    with loop_in_thread(waiting) as survivor:
        dying.call(lambda: flights.launch("key", authority.acquire, look=nothing))
        eventually(lambda: authority.asked)
        results = [survivor.start_task_soon(lambda: flights.join("key", authority.acquire)) for _ in range(3)]
        eventually(lambda: len(flights._aloft["key"].passengers) == 3)
        dying.stop()
        if end == "closed":
            dying.loop.close()
        eventually(lambda: len(authority.asked) == 2)
        eventually(lambda: "key" in flights._aloft and len(flights._aloft["key"].passengers) == 3)
        authority.last.land("token")
        assert [result.result(20) for result in results] == ["token"] * 3
    assert len(authority.asked) == 2
    dying.end()
    assert len(flights) == 0
    gc.collect()


def test_a_newcomer_forgets_the_flight_of_a_dead_loop() -> None:
    flights, authority = Flights[str](), Authority()
    dying = HandMadeLoop()
    dying.call(lambda: flights.launch("key", authority.acquire, look=nothing))
    eventually(lambda: authority.asked)
    dying.stop()
    dying.loop.close()

    async def acquire() -> str:
        return "token"

    assert asyncio.run(flights.join("key", acquire)) == "token"
    assert len(flights) == 0


def test_a_passenger_of_a_loop_that_stood_still_gets_its_token_when_it_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_flight, "LOOK_ABROAD", 0.01)
    flights, authority = Flights[str](), Authority()
    still = HandMadeLoop()
    own = still.start(lambda: flights.join("key", authority.acquire))
    eventually(lambda: authority.asked)
    still.stop()
    with loop_in_thread("asyncio") as other:
        result = other.start_task_soon(lambda: flights.join("key", authority.acquire))
        eventually(lambda: len(authority.asked) == 2)
        still.resume()
        authority.asked[0].land("old")
        authority.asked[1].land("new")
        assert result.result(20) == "new"
        assert own.result(20) == "old"
    still.end()
    assert len(flights) == 0


def test_one_run_after_another_shares_the_flights() -> None:
    flights = Flights[int]()
    asked = itertools.count(1)

    async def acquire() -> int:
        return next(asked)

    async def hang() -> int:
        next(asked)
        await anyio.sleep_forever()
        raise AssertionError

    async def leave_one_aloft() -> None:
        flights.launch("key", hang, look=nothing)
        await settle()

    assert asyncio.run(flights.join("key", acquire)) == 1
    asyncio.run(leave_one_aloft())
    assert len(flights) == 0
    assert asyncio.run(flights.join("key", acquire)) == 3
    anyio.run(leave_one_aloft, backend="trio")
    assert len(flights) == 0
    assert anyio.run(flights.join, "key", acquire, backend="trio") == 5


@pytest.mark.parametrize("owned", [False, True], ids=["silent", "owned"])
def test_a_passenger_collected_with_its_loop_does_not_wait_for_the_lock(owned: bool) -> None:
    flights, authority = Flights[str](), Authority()
    loop = asyncio.new_event_loop()
    joins = [flights.join("key", authority.acquire, owned=owned)]

    async def board() -> None:
        joins[0].send(None)
        await settle()

    loop.run_until_complete(board())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    flight = flights._aloft["key"]
    loop.close()

    def collect() -> None:
        with flights.guard():  # the collector may run in whatever holds it
            joins.pop().close()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert not flight.landed
    flight.task = None
    flights._aloft.clear()
    gc.collect()


FORK = """
    import asyncio, os, signal, sys, threading

    from aiomsal._flight import Flights
    from aiomsal.stores import MemoryStore

    flights, store = Flights(), MemoryStore()
    aloft, locked, never = threading.Event(), threading.Event(), threading.Event()

    async def fly():
        async def hang():
            async with store.lock("key"):
                aloft.set()
                await asyncio.sleep(600)

        flights.launch("key", hang, look=lambda: None)
        await asyncio.sleep(600)

    def hold():
        with flights.guard(), store._turns.guard():
            locked.set()
            never.wait()

    threading.Thread(target=lambda: asyncio.run(fly()), daemon=True).start()
    aloft.wait()
    threading.Thread(target=hold, daemon=True).start()
    locked.wait()

    async def child():
        async def acquire():
            async with store.lock("key"):
                await store.set("key", b"value")
                return "token of the child"

        assert len(flights) == 0
        return await flights.join("key", acquire, timeout=60)

    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        ok = asyncio.run(child()) == "token of the child"
        os._exit(0 if ok else 3)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_works_though_the_parent_held_the_lock_and_had_a_flight_aloft() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK)], timeout=40, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


async def test_whoever_leaves_a_flight_that_is_nobodys_leaves_no_seat_behind() -> None:
    flights, authority = Flights[str](), Authority()
    async with anyio.create_task_group() as group:
        callers = [Caller(group, lambda: flights.join("key", authority.acquire)) for _ in range(10)]
        await settle()
        assert len(flights._aloft["key"].passengers) == 10
        for caller in callers[1:]:
            caller.leave()
        await settle()
        assert len(flights._aloft["key"].passengers) == 1
        authority.last.land("token")
    assert callers[0].value == "token"
