"""A refresh token is sent once, and its successor is saved, whatever becomes of those who asked.

The authority rotates strictly (unless a test says otherwise): a refresh token that comes a second time ends all that
descend from its sign-in. So each session that goes on working shows that none was lost, and none sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomsal import (
    AccountRequired,
    AuthorityError,
    AuthorityUnavailable,
    InteractionRequired,
    MemoryStore,
    Throttled,
    Token,
    TokenError,
)
from aiomsal._spawn import here
from aiomsal.testing import EntraError, FakeClock, FakeEntra

from .refresh_support import (
    CODE,
    REFRESH,
    Ahead,
    Room,
    SharedStore,
    SignedIn,
    families,
    revoked,
    signed_in,
    when_the_loop_ends,
)
from .support import (
    BEN,
    PATIENCE,
    Caller,
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
    from collections.abc import Iterator

    from aiomsal.testing import Gate

    from .support import House

RUNNERS = [run_asyncio, run_uvloop, run_trio]
KINDS = ["program", "web application"]
Call = Callable[[], Awaitable[Any]]
on_all_backends = pytest.mark.anyio


@pytest.fixture
def room(fake_entra: FakeEntra, fake_clock: FakeClock) -> Iterator[Room]:
    """FakeEntra within the process, its users, and managers at its doors."""
    yield Room(fake_entra, fake_clock)
    fake_entra.close()


@pytest.fixture
def hasty_room(fake_entra: FakeEntra, fake_clock: FakeClock) -> Iterator[Room]:
    """The same with an HTTP client that does not wait for long."""
    yield Room(fake_entra, fake_clock, timeout=0.05)
    fake_entra.close()


@pytest.fixture(params=["room", "house"], ids=["in process", "https"])
def place(request: pytest.FixtureRequest) -> House:
    return request.getfixturevalue(request.param)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, even where the tests run in the background of a shell that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def at_once(*calls: Callable[[], list[Any]]) -> list[Any]:
    """What calls come to, all together, that are made in threads of their own."""
    with ThreadPoolExecutor(len(calls)) as threads:
        outcomes = [threads.submit(call) for call in calls]
        return [each for outcome in outcomes for each in outcome.result(PATIENCE)]


# -- many at once ----------------------------------------------------------------------------------------------------


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_fifty_whose_token_was_rejected_make_one_request(kind: str, place: House) -> None:
    ann = await signed_in(place, kind)
    old = ann.token
    for number in range(1, 4):
        new = one_token(await crowd(50, ann.get, "User.Read", rejected=old))
        assert new.value != old.value
        assert place.entra.count(REFRESH) == number
        old = new
    await ann.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_that_was_rejected_is_not_taken_from_the_store_and_its_successor_is(
    kind: str, room: Room
) -> None:
    ann = await signed_in(room, kind, store=SharedStore())
    beside = ann.beside()
    old = one_token([await ann.get("Mail.Read"), *await crowd(5, beside.get, "Mail.Read")])
    assert room.entra.count(REFRESH) == 1
    async with anyio.create_task_group() as group:
        callers = [Caller(group, one.get, "Mail.Read", rejected=old) for one in (ann, beside) for _ in range(50)]
    assert one_token([caller.outcome for caller in callers]).value != old.value
    assert room.entra.count(REFRESH) == 2
    await ann.still_works()
    await beside.still_works()


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_on_each_of_six_loops_whose_token_was_rejected_make_one_request(kind: str, room: Room) -> None:
    ann = run_asyncio(signed_in, room, kind)
    together = threading.Barrier(6)

    async def callers() -> list[Any]:
        together.wait(PATIENCE)
        return await crowd(50, ann.get, "User.Read", rejected=ann.token)

    outcomes = at_once(*(functools.partial(run, callers) for run in RUNNERS * 2))
    assert one_token(outcomes).value != ann.token.value
    assert (room.entra.count(REFRESH), len(room.wire.sent)) == (1, 1)
    run_asyncio(ann.still_works)


@on_all_backends
async def test_ten_tokens_rejected_at_once_are_ten_requests(room: Room) -> None:
    ann = await signed_in(room)
    old = {scope: await ann.get(scope) for scope in (f"Scope.{number}" for number in range(10))}
    async with anyio.create_task_group() as group:
        callers = [Caller(group, ann.get, scope, rejected=old[scope]) for scope in old for _ in range(5)]
    assert len({caller.token.value for caller in callers} - {token.value for token in old.values()}) == 10
    assert (len(set(room.wire.sent)), room.entra.count(REFRESH), room.wire.most) == (20, 20, 1)
    await ann.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_ten_scopes_cold_at_once_are_ten_requests_one_after_another(kind: str, place: House) -> None:
    ann = await signed_in(place, kind)
    with place.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get, f"Scope.{number}") for number in range(10) for _ in range(5)]
            for number in range(1, 11):
                await arrived(gate)
                await settle()
                assert (gate.waiting, place.entra.count(REFRESH)) == (1, number)
                gate.release(1)
    assert len({caller.token.value for caller in callers}) == 10
    assert place.entra.count(REFRESH) == 10
    await ann.still_works()


@pytest.mark.parametrize("kind", KINDS)
def test_ten_scopes_cold_at_once_on_six_loops_are_ten_requests_one_after_another(kind: str, room: Room) -> None:
    ann = run_asyncio(signed_in, room, kind)
    together = threading.Barrier(6)

    async def callers() -> list[str]:
        together.wait(PATIENCE)
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get, f"Scope.{number}") for number in range(10) for _ in range(2)]
        return [caller.token.value for caller in callers]

    values = at_once(*(functools.partial(run, callers) for run in RUNNERS * 2))
    assert len(set(values)) == 10
    assert (len(set(room.wire.sent)), room.entra.count(REFRESH), room.wire.most) == (10, 10, 1)
    run_asyncio(ann.still_works)


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stale_token_stands_in_no_queue_for_the_refresh_token(kind: str, room: Room) -> None:
    """It works for a while: whoever reads it half a minute later may find that it is its turn."""
    ann = await signed_in(room, kind)
    room.clock.advance(3400)
    async with anyio.create_task_group() as group:
        with room.entra.hold(REFRESH) as gate:
            cold = Caller(group, ann.get, "Mail.Read")
            await arrived(gate)
            one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
            await settle()
            assert ann.tokens.stats().flights == 1
    assert isinstance(cold.outcome, Token)
    one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
    assert (room.entra.count(REFRESH), ann.tokens.stats().refresh_failed) == (1, 0)
    room.clock.advance(31)
    one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
    await landed(ann.tokens)
    assert room.entra.count(REFRESH) == 2
    await ann.still_works()


def one_in_ten_is_unavailable(entra: FakeEntra) -> None:
    """Each tenth refresh is answered 503, and nothing done for it."""
    numbers = iter(range(1, 100_000))
    entra.fault(REFRESH, status=503, match=lambda _: next(numbers) % 10 == 0)


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_ten_scopes_at_once_get_through_where_one_request_in_ten_fails(kind: str, room: Room) -> None:
    ann = await signed_in(room, kind)
    one_in_ten_is_unavailable(room.entra)
    for _ in range(10):
        room.clock.advance(3600)  # all tokens have ended
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get_silent, f"Scope.{number}") for number in range(10) for _ in range(3)]
        assert len({caller.token.value for caller in callers}) == 10
    # A hundred that succeed and eleven that do not: a refresh token is sent again where it has not been used up.
    assert (room.entra.count(REFRESH), len(set(room.wire.sent)), room.wire.most) == (111, 100, 1)
    assert (revoked(room.entra), len(families(room.entra))) == (0, 1)


@pytest.mark.parametrize("failing", [False, True], ids=["", "one in ten fails"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("new_store", "requests"), [(MemoryStore, 20), (SharedStore, 10)])
def test_two_managers_on_one_store_send_no_refresh_token_twice(
    new_store: Any, requests: int, kind: str, failing: bool, room: Room
) -> None:
    """A store that keeps tokens gives the second manager what the first has brought."""
    store = new_store()
    ann = run_asyncio(functools.partial(signed_in, room, kind, store=store))
    beside = ann.beside()
    together = threading.Barrier(4)
    if failing:
        one_in_ten_is_unavailable(room.entra)

    async def callers(one: SignedIn) -> list[str]:
        together.wait(PATIENCE)
        async with anyio.create_task_group() as group:
            callers = [Caller(group, one.get_silent, f"Scope.{number}") for number in range(10) for _ in range(2)]
        return [caller.token.value for caller in callers]

    ends = [(run, one) for run in (run_asyncio, run_trio) for one in (ann, beside)]
    values = at_once(*(functools.partial(run, callers, one) for run, one in ends))
    assert len(set(values)) == requests
    failed = sum(record.status == 503 for record in room.entra.requests)
    assert failed == ((requests + failed) // 10 if failing else 0)
    assert (room.entra.count(REFRESH), len(set(room.wire.sent)), room.wire.most) == (requests + failed, requests, 1)
    room.entra.clear_faults()
    run_asyncio(ann.still_works)
    run_asyncio(beside.still_works)


# -- everybody leaves ------------------------------------------------------------------------------------------------


async def all_are_cancelled(call: Call, in_the_air: Call) -> list[Any]:
    tasks = [asyncio.ensure_future(call()) for _ in range(50)]
    await in_the_air()
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def the_group_fails(call: Call, in_the_air: Call) -> list[Any]:
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call()) for _ in range(50)]
            await in_the_air()
            raise ValueError("a fault of the program's own")
    return await asyncio.gather(*tasks, return_exceptions=True)


async def their_time_is_up(limited: Callable[[Call], Awaitable[Any]], call: Call, in_the_air: Call) -> list[Any]:
    loop = Ahead()
    tasks = [asyncio.ensure_future(limited(call)) for _ in range(50)]
    await in_the_air()
    loop.by(6)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def by_wait_for(call: Call) -> Any:
    return await asyncio.wait_for(call(), 5)


async def by_timeout(call: Call) -> Any:
    async with asyncio.timeout(5):
        return await call()


async def by_fail_after(call: Call) -> Any:
    with anyio.fail_after(5):
        return await call()


WAYS_TO_LEAVE: dict[str, Any] = {
    "task.cancel": all_are_cancelled,
    "TaskGroup": the_group_fails,
    "wait_for": functools.partial(their_time_is_up, by_wait_for),
    "timeout": functools.partial(their_time_is_up, by_timeout),
    "fail_after": functools.partial(their_time_is_up, by_fail_after),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leave", WAYS_TO_LEAVE.values(), ids=WAYS_TO_LEAVE)
async def test_a_refresh_token_comes_home_although_all_who_waited_have_left(leave: Any, kind: str, room: Room) -> None:
    ann = await signed_in(room, kind)
    with room.entra.hold(REFRESH) as gate:
        outcomes = await leave(functools.partial(ann.get, "User.Read", rejected=ann.token), lambda: arrived(gate))
        assert {type(outcome) for outcome in outcomes} <= {asyncio.CancelledError, TimeoutError}
        assert (len(outcomes), gate.waiting) == (50, 1)
    await landed(ann.tokens)
    new = one_token(await crowd(50, ann.get, "User.Read", rejected=ann.token))
    assert new.value != ann.token.value
    assert room.entra.count(REFRESH) == 1, "the silent flight went on and warmed the cache"
    await ann.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refresh_token_comes_home_although_all_scopes_were_cancelled(kind: str, place: House) -> None:
    ann = await signed_in(place, kind)
    with place.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get, "Mail.Read") for _ in range(50)]
            await arrived(gate)
            group.cancel_scope.cancel()
        assert {caller.outcome for caller in callers} == {None}
        assert gate.waiting == 1
    await landed(ann.tokens)
    one_token(await crowd(50, ann.get, "Mail.Read"))
    assert place.entra.count(REFRESH) == 1
    await ann.still_works()


@on_all_backends
async def test_silent_flights_take_their_turns_although_nobody_waits_for_them(room: Room) -> None:
    ann = await signed_in(room)
    with room.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get, f"Scope.{number}") for number in range(10)]
            await arrived(gate)
            group.cancel_scope.cancel()
        assert {caller.outcome for caller in callers} == {None}
    await landed(ann.tokens)
    for number in range(10):
        assert isinstance(await ann.get(f"Scope.{number}"), Token)
    assert (room.entra.count(REFRESH), len(set(room.wire.sent)), room.wire.most) == (10, 10, 1)
    await ann.still_works()


@on_all_backends
async def test_a_refresh_token_comes_home_although_its_flight_was_given_up(room: Room) -> None:
    ann = await signed_in(room, acquire_timeout=0.2)
    with room.entra.hold(REFRESH) as gate:
        outcomes = await crowd(20, ann.get_silent, "Mail.Read")
        assert {(type(outcome), outcome.code) for outcome in outcomes} == {(AuthorityUnavailable, "timeout")}
        assert gate.waiting == 1
    await until(lambda: ann.tokens.stats().acquired == 2)
    await ann.still_works()
    assert room.entra.count(REFRESH) == 2


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("new_store", [MemoryStore, SharedStore])
async def test_a_refresh_token_comes_home_although_its_manager_was_dropped(
    new_store: Any, kind: str, room: Room
) -> None:
    ann = await signed_in(room, kind, store=new_store())
    successor = ann.beside()
    with room.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            Caller(group, ann.get, "Mail.Read")
            await arrived(gate)
            group.cancel_scope.cancel()
        del ann
        gc.collect()
        assert gate.waiting == 1
    await successor.still_works()
    assert room.entra.count(REFRESH) == 2


# -- loops that end --------------------------------------------------------------------------------------------------


async def returns() -> None:
    pass


async def fails() -> None:
    raise ValueError("a fault of the program's own")


async def exits() -> None:
    raise SystemExit


async def is_interrupted() -> None:
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()


async def is_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


ENDS: list[Any] = [
    *[
        (run, end, raised)
        for run in RUNNERS
        for end, raised in ((returns, ()), (fails, ValueError), (exits, SystemExit))
    ],
    *[(run, is_interrupted, KeyboardInterrupt) for run in RUNNERS],
    *[(run, is_cancelled, asyncio.CancelledError) for run in (run_asyncio, run_uvloop)],
]


def run_to_its_end(run: Any, function: Any, raised: Any) -> None:
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        run(function)


def has_its_refresh(room: House, ann: SignedIn, run: Any) -> None:
    """The one request was answered and its answer kept: the next run needs no other, and the one after works."""
    assert room.entra.count(REFRESH) == 1
    assert room.entra.requests[-1].status == 200
    assert (ann.tokens.stats().flights, ann.tokens.stats().acquired) == (0, 2)
    assert run(ann.get_silent, "User.Read").value != ann.token.value
    assert room.entra.count(REFRESH) == 1
    run(ann.still_works)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("run", "end", "raised"), ENDS)
def test_a_loop_that_ends_after_a_stale_hit_saves_the_refresh_token(
    run: Any, end: Any, raised: Any, kind: str, room: Room
) -> None:
    ann = run(signed_in, room, kind)
    room.clock.advance(3400)
    gate = room.entra.hold(REFRESH)

    async def program() -> None:
        assert (await ann.get("User.Read")).value == ann.token.value
        await arrived(gate)
        await when_the_loop_ends(gate.release)
        await end()

    run_to_its_end(run, program, raised)
    has_its_refresh(room, ann, run)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("run", RUNNERS)
def test_a_program_that_is_interrupted_while_it_waits_saves_the_refresh_token(run: Any, place: House) -> None:
    ann = run(signed_in, place)
    gate = place.entra.hold(REFRESH)

    async def interrupt() -> None:
        await arrived(gate)
        signal.raise_signal(signal.SIGINT)

    async def program() -> None:
        await when_the_loop_ends(gate.release)
        here().detach(interrupt)
        await ann.get("User.Read", rejected=ann.token)

    run_to_its_end(run, program, KeyboardInterrupt)
    has_its_refresh(place, ann, run)


@pytest.mark.parametrize("run", RUNNERS)
def test_a_loop_that_ends_while_the_answer_takes_its_time_saves_the_refresh_token(run: Any, place: House) -> None:
    """No gate, but a real delay: what a program sees that reads a stale token and ends."""
    ann = run(signed_in, place)
    place.clock.advance(3400)
    place.entra.fault(REFRESH, latency=0.05)

    async def program() -> None:
        assert (await ann.get("User.Read")).value == ann.token.value
        await until(lambda: place.entra.count(REFRESH) == 1)

    run(program)
    place.entra.clear_faults()
    has_its_refresh(place, ann, run)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_ends_while_the_store_writes_saves_the_refresh_token(kind: str, run: Any, room: Room) -> None:
    store = SharedStore()
    ann = run(functools.partial(signed_in, room, kind, store=store))
    room.clock.advance(3400)

    async def program() -> None:
        writing, write = store.hold("set", "session")
        assert (await ann.get("User.Read")).value == ann.token.value
        await writing.wait()
        await when_the_loop_ends(write.set)

    run(program)
    assert (room.entra.count(REFRESH), room.entra.requests[-1].status) == (1, 200)
    run(ann.still_works)
    run(ann.beside().still_works)
    assert room.entra.count(REFRESH) == 3


@pytest.mark.parametrize("run", RUNNERS)
def test_a_loop_that_ends_in_a_queue_of_refreshes_sends_those_no_more_that_had_no_turn(run: Any, room: Room) -> None:
    ann = run(signed_in, room)
    gate = room.entra.hold(REFRESH)

    async def program() -> None:
        async with anyio.create_task_group() as group:
            for number in range(10):
                Caller(group, ann.get, f"Scope.{number}")
            await arrived(gate)
            await when_the_loop_ends(gate.release)
            group.cancel_scope.cancel()

    run(program)
    assert ann.tokens.stats().flights == 0
    assert (room.entra.count(REFRESH), room.entra.requests[-1].status) == (1, 200)
    run(ann.still_works)


def test_thirty_loops_one_after_another_lose_no_refresh_token(room: Room) -> None:
    """Each ends with the refresh that it began still in the air."""
    ann = run_asyncio(signed_in, room)

    async def program() -> None:
        gate = room.entra.hold(REFRESH)
        token = await ann.get_silent("User.Read")
        assert token.expires_at == room.clock() + 200
        await arrived(gate)
        await when_the_loop_ends(gate.release)

    for number in range(1, 31):
        room.clock.advance(3400)
        RUNNERS[number % 3](program)
        assert (room.entra.count(REFRESH), len(set(room.wire.sent))) == (number, number)
    run_trio(ann.still_works)


# -- loops that stop, and end without a word -------------------------------------------------------------------------


NEW_LOOPS = [asyncio.new_event_loop, new_uvloop]


def in_the_air(
    loop: asyncio.AbstractEventLoop, room: Room, kind: str = "program", rotation: str = "strict"
) -> tuple[SignedIn, Any]:
    """Ann, whose stale token is being refreshed on a loop that stands still by now; and the gate of that request."""
    ann = loop.run_until_complete(signed_in(room, kind, rotation=rotation))
    room.clock.advance(3400)
    gate = room.entra.hold(REFRESH)
    assert loop.run_until_complete(ann.get("User.Read")).value == ann.token.value
    loop.run_until_complete(arrived(gate))
    return ann, gate


@pytest.mark.parametrize("new_loop", NEW_LOOPS)
def test_a_loop_that_stands_still_while_the_answer_comes_saves_it_when_it_goes_on(new_loop: Any, room: Room) -> None:
    with contextlib.closing(new_loop()) as loop:
        ann, gate = in_the_air(loop, room)
        gate.release()
        run_asyncio(until, lambda: room.entra.requests[-1].status == 200)
        loop.run_until_complete(landed(ann.tokens))
        has_its_refresh(room, ann, lambda function, *args: loop.run_until_complete(function(*args)))


@pytest.mark.parametrize("new_loop", NEW_LOOPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "in the air"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "still"])
def test_a_loop_that_was_left_in_flight_leaves_its_refresh_token_to_the_next(
    closed: bool, answered: bool, kind: str, new_loop: Any, room: Room
) -> None:
    """Nobody runs the loop on which the answer would be saved: whoever asks next waits for it, and goes on from it."""
    loop = new_loop()
    ann, gate = in_the_air(loop, room, kind)
    if closed:
        loop.close()
    if answered:
        gate.release()
        run_asyncio(until, lambda: room.entra.requests[-1].status == 200)

    async def next_one() -> None:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, ann.get_silent, scope) for scope in ("Mail.Read", "Files.Read") for _ in range(5)]
            await settle()
            gate.release()
        assert len({caller.token.value for caller in callers}) == 2

    run_asyncio(next_one)
    assert (room.entra.count(REFRESH), len(set(room.wire.sent)), room.wire.most) == (3, 3, 1)
    if not closed:
        loop.run_until_complete(landed(ann.tokens))
        loop.close()
    run_trio(ann.still_works)


@pytest.mark.parametrize("trouble", [{"status": 503}, {"reset": True}, {"error": EntraError(50076)}], ids=str)
def test_what_a_dead_loop_left_is_not_lost_to_whoever_fails_to_go_on_from_it(trouble: Any, room: Room) -> None:
    loop = asyncio.new_event_loop()
    ann, gate = in_the_air(loop, room)
    loop.close()
    gate.release()
    run_asyncio(until, lambda: room.entra.requests[-1].status == 200)

    async def fails() -> None:
        with pytest.raises(TokenError):
            await ann.get_silent("Mail.Read")

    room.entra.fault(REFRESH, **trouble)
    run_asyncio(fails)
    room.entra.clear_faults()
    run_trio(ann.still_works)
    sent = room.wire.sent
    assert sent[0] not in sent[1:]


@pytest.mark.parametrize("run", RUNNERS)
def test_whoever_waits_on_another_loop_is_not_told_that_the_flying_one_is_gone(run: Any, room: Room) -> None:
    loop = asyncio.new_event_loop()
    ann, gate = in_the_air(loop, room)

    async def waits() -> Token:
        async with anyio.create_task_group() as group:
            caller = Caller(group, ann.get_silent, "User.Read", rejected=ann.token)
            await settle()
            loop.close()
            gc.collect()
            gate.release()
        return caller.token

    assert run(waits).value != ann.token.value
    run(ann.still_works)


@pytest.mark.parametrize("rotation", ["on", "strict"])
def test_what_is_left_of_a_dead_loop_may_be_collected_at_any_moment(
    rotation: str, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """By code that holds the lock, too, which is taken for a few lookups and is not re-entrant."""
    loop = asyncio.new_event_loop()
    ann, gate = in_the_air(loop, room, rotation=rotation)
    (flight,) = (weakref.ref(task) for task in asyncio.all_tasks(loop))
    gc.disable()
    try:
        loop.close()
        gate.release()
        run_asyncio(until, lambda: room.entra.requests[-1].status == 200)
        assert ann.tokens.stats().flights == 1
        with ann.tokens._flights.guard():
            ann.tokens._flights._aloft.clear()  # as whoever asks for the same does when the loop is found dead
            gc.collect()
        assert flight() is None
    finally:
        gc.enable()
    assert ann.tokens.stats().refresh_failed == 0
    assert "refresh failed" not in caplog.text
    run_asyncio(ann.still_works)


# -- while somebody comes or goes ------------------------------------------------------------------------------------


async def answered_last(ann: SignedIn, _store: SharedStore, change: Call) -> Any:
    """The request is in the air, the accounts change, the answer comes."""
    with ann.entra.hold(REFRESH) as gate:
        async with anyio.create_task_group() as group:
            caller = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
            await arrived(gate)
            await change()
            gate.release()
    return caller.outcome


async def saved_last(ann: SignedIn, store: SharedStore, change: Call) -> Any:
    """The answer has come and is about to be saved, the accounts change, it is saved."""
    writing, write = store.hold("set", "session")
    async with anyio.create_task_group() as group:
        caller = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
        await writing.wait()
        await change()
        write.set()
    return caller.outcome


async def recorded_last(ann: SignedIn, store: SharedStore, change: Call) -> Any:
    """The refresh token has been saved and the token is about to be recorded, the accounts change, it is recorded."""
    writing, write = store.hold("set", "token")
    async with anyio.create_task_group() as group:
        caller = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
        await writing.wait()
        await change()
        write.set()
    return caller.outcome


async def changed_last(ann: SignedIn, store: SharedStore, change: Call) -> Any:
    """The request is in the air, the accounts are about to change, the answer comes and is saved, they change."""
    async with anyio.create_task_group() as group:
        with ann.entra.hold(REFRESH) as gate:
            caller = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
            await arrived(gate)
            parked = [store.hold(operation, "session") for operation in ("set", "delete")]
            changing = Caller(group, change)
            await until(lambda: any(writing.is_set() for writing, _ in parked))
            store.let_all_pass()
        await until(lambda: caller.over)
        assert not changing.over
        for _, write in parked:
            write.set()
    assert not isinstance(changing.outcome, Exception), repr(changing.outcome)
    return caller.outcome


ORDERS = [answered_last, saved_last, recorded_last, changed_last]


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
async def test_an_account_that_signs_out_meanwhile_does_not_come_back(order: Any, kind: str, room: Room) -> None:
    store = SharedStore()
    ann = await signed_in(room, kind, store=store)
    beside = ann.beside()
    outcome = await order(ann, store, lambda: ann.tokens.sign_out(ann.account))
    assert isinstance(outcome, Token if order is changed_last else InteractionRequired), repr(outcome)
    await landed(ann.tokens)
    assert ann.tokens.stats().tokens == 0
    for one in (ann, beside):
        for scope in ("User.Read", "Mail.Read", "Files.Read"):
            with pytest.raises(InteractionRequired):
                await one.get_silent(scope, account=ann.account)
    assert room.entra.count(REFRESH) == 1
    await ann.sign_in()
    await ann.still_works()
    await beside.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
async def test_whoever_signs_in_again_meanwhile_keeps_the_refresh_token_of_that_sign_in(
    order: Any, kind: str, room: Room
) -> None:
    """The older one may lack what the newer sign-in was asked for: multifactor authentication, say."""
    store = SharedStore()
    ann = await signed_in(room, kind, store=store)
    outcome = await order(ann, store, ann.sign_in)
    assert isinstance(outcome, Token), repr(outcome)
    await ann.still_works()
    await ann.beside().still_works()
    assert room.sign_ins_sent() == [0, 1, 1]


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
async def test_whoever_signs_out_and_in_again_meanwhile_keeps_the_refresh_token_of_that_sign_in(
    order: Any, kind: str, room: Room
) -> None:
    store = SharedStore()
    ann = await signed_in(room, kind, store=store)

    async def out_and_in() -> None:
        await ann.tokens.sign_out(ann.account)
        await ann.sign_in()

    outcome = await order(ann, store, out_and_in)
    assert isinstance(outcome, Token), repr(outcome)
    await ann.still_works()
    await ann.beside().still_works()
    assert room.sign_ins_sent() == [0, 1, 1]


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_asks_after_a_sign_out_goes_along_with_no_refresh_from_before(kind: str, room: Room) -> None:
    ann = await signed_in(room, kind)
    async with anyio.create_task_group() as group:
        with room.entra.hold(REFRESH) as gate:
            before = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
            await arrived(gate)
            await ann.tokens.sign_out(ann.account)
            with pytest.raises(AccountRequired):
                await ann.get_silent("Mail.Read", account=ann.account)
            await ann.sign_in()
            after = Caller(group, ann.get_silent, "Mail.Read", account=ann.account)
            await settle()
    assert isinstance(before.outcome, Token)
    assert before.token.value != after.token.value
    assert (await ann.get_silent("Mail.Read", account=ann.account)).value == after.token.value
    assert room.sign_ins_sent() == [0, 1]
    await ann.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
async def test_another_who_signs_in_meanwhile_costs_nobody_a_refresh_token(order: Any, kind: str, room: Room) -> None:
    store = SharedStore()
    ann = await signed_in(room, kind, store=store)
    bens: list[Token] = []

    async def ben_signs_in() -> None:
        bens.append(await ann.sign_in(BEN))

    assert isinstance(await order(ann, store, ben_signs_in), Token)
    for account in (ann.account, bens[0].account):
        await ann.still_works(account=account)
        await ann.beside().still_works(account=account)
    assert room.sign_ins_sent() == [0, 0, 0, 1, 1]
    assert len(set(room.wire.sent)) == 5


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
async def test_another_who_signs_out_meanwhile_costs_nobody_a_refresh_token(order: Any, kind: str, room: Room) -> None:
    store = SharedStore()
    ann = await signed_in(room, kind, store=store)
    ben = (await ann.sign_in(BEN)).account
    assert ben is not None
    assert isinstance(await order(ann, store, lambda: ann.tokens.sign_out(ben)), Token)
    for one in (ann, ann.beside()):
        await one.still_works(account=ann.account)
        with pytest.raises(InteractionRequired):
            await one.get_silent("User.Read", account=ben)
    assert room.sign_ins_sent() == [0, 0, 0]
    assert len(set(room.wire.sent)) == 3


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refresh_that_is_done_while_a_sign_in_is_in_the_air_gives_way_to_it(kind: str, room: Room) -> None:
    ann = await signed_in(room, kind)
    async with anyio.create_task_group() as group:
        with room.entra.hold("token.device_code" if kind == "program" else "token.authorization_code") as gate:
            again = Caller(group, ann.sign_in)
            await arrived(gate)
            assert (await ann.get_silent("Mail.Read", account=ann.account)).account == ann.account
    assert again.token.account == ann.account
    await ann.still_works()
    assert room.sign_ins_sent() == [0, 1]


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_signs_out_between_two_attempts_is_not_asked_for_again(kind: str, room: Room) -> None:
    ann = await signed_in(room, kind)
    room.entra.fault(REFRESH, times=1, status=503)
    room.while_it_backs_off = lambda: ann.tokens.sign_out(ann.account)
    with pytest.raises(InteractionRequired):
        await ann.get_silent("Mail.Read", account=ann.account)
    assert room.entra.count(REFRESH) == 1
    assert ann.tokens.stats().tokens == 0


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_signs_in_between_two_attempts_is_asked_for_by_the_new_refresh_token(
    kind: str, room: Room
) -> None:
    ann = await signed_in(room, kind)
    room.entra.fault(REFRESH, times=1, status=503)
    room.while_it_backs_off = ann.sign_in
    assert (await ann.get_silent("Mail.Read", account=ann.account)).account == ann.account
    await ann.still_works()
    assert room.sign_ins_sent() == [0, 1, 1]


# -- answers that get lost -------------------------------------------------------------------------------------------


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [1, 2])
async def test_where_the_old_refresh_token_works_on_a_lost_answer_is_asked_for_again(
    lost: int, kind: str, place: House
) -> None:
    """As Entra rotates: the refresh token that the answer brought is lost, and nobody notices."""
    ann = await signed_in(place, kind, rotation="on")
    place.entra.fault(REFRESH, times=lost, lost=True)
    one_token(await crowd(50, ann.get_silent, "Mail.Read"))
    assert place.entra.count(REFRESH) == lost + 1
    await ann.still_works()


@on_all_backends
async def test_where_the_old_refresh_token_works_on_three_lost_answers_are_an_outage(place: House) -> None:
    ann = await signed_in(place, rotation="on")
    place.entra.fault(REFRESH, times=3, lost=True)
    assert {type(outcome) for outcome in await crowd(50, ann.get, "Mail.Read")} == {AuthorityUnavailable}
    assert place.entra.count(REFRESH) == 3
    await ann.still_works()


@on_all_backends
@pytest.mark.parametrize("kind", KINDS)
async def test_where_a_refresh_token_works_once_a_lost_answer_needs_a_person(kind: str, place: House) -> None:
    """Its successor is gone: the old one comes again, to no avail, and is then left alone for a minute."""
    ann = await signed_in(place, kind)
    place.entra.fault(REFRESH, times=1, lost=True)
    for requests in (2, 2, 2, 3):
        outcomes = await crowd(50, ann.get_silent, "Mail.Read")
        assert {type(outcome) for outcome in outcomes} == {InteractionRequired}
        assert place.entra.count(REFRESH) == requests
        place.clock.advance(20)
    await ann.sign_in()
    assert (await ann.get_silent("Mail.Read")).account == ann.account
    assert (place.entra.count(REFRESH), revoked(place.entra), len(families(place.entra))) == (4, 1, 2)


@on_all_backends
async def test_where_a_refresh_token_works_once_a_lost_answer_leads_to_one_sign_in(room: Room) -> None:
    ann = await signed_in(room)
    room.entra.fault(REFRESH, times=1, lost=True)
    new = one_token(await crowd(50, ann.get, "User.Read", rejected=ann.token))
    assert new.value != ann.token.value
    assert (room.entra.count(REFRESH), room.entra.count(CODE), revoked(room.entra)) == (2, 2, 1)
    assert isinstance(await ann.get("Mail.Read"), Token)
    assert (room.entra.count(REFRESH), room.entra.count(CODE), revoked(room.entra)) == (3, 2, 1)


@on_all_backends
async def test_of_ten_scopes_whose_refresh_token_was_lost_one_asks_the_person(room: Room) -> None:
    ann = await signed_in(room)
    room.entra.fault(REFRESH, times=1, lost=True)
    async with anyio.create_task_group() as group:
        with room.entra.hold(CODE):
            callers = [Caller(group, ann.get, f"Scope.{number}") for number in range(10) for _ in range(5)]
            await until(lambda: sum(record.error == "invalid_grant" for record in room.entra.requests) == 10)
    assert len({caller.token.value for caller in callers}) == 10
    # One that was lost; ten that were refused; nine with the new refresh token, beside the new sign-in's own token.
    assert (room.entra.count(REFRESH), room.entra.count(CODE)) == (20, 2)
    assert (len(set(room.wire.sent)), revoked(room.entra), len(families(room.entra))) == (10, 1, 2)


@on_all_backends
async def test_a_stale_token_outlives_the_lost_refresh_token_to_its_end(room: Room) -> None:
    ann = await signed_in(room)
    room.clock.advance(3400)
    room.entra.fault(REFRESH, times=1, lost=True)
    for requests in (2, 3):  # the first time the answer is lost, and then the old refresh token refused
        one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
        await landed(ann.tokens)
        assert room.entra.count(REFRESH) == requests
        room.clock.advance(61)
    room.clock.set(ann.token.expires_at)
    assert {type(outcome) for outcome in await crowd(50, ann.get_silent, "User.Read")} == {InteractionRequired}
    assert (room.entra.count(REFRESH), revoked(room.entra)) == (4, 1)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize(("rotation", "outcome"), [("on", Token), ("strict", InteractionRequired)])
def test_an_answer_lost_while_the_loop_ends_is_asked_for_again_by_the_next(
    rotation: str, outcome: Any, run: Any, room: Room
) -> None:
    ann = run(functools.partial(signed_in, room, rotation=rotation))
    room.clock.advance(3400)
    room.entra.fault(REFRESH, times=1, lost=True)
    gate = room.entra.hold(REFRESH)

    async def program() -> None:
        assert (await ann.get("User.Read")).value == ann.token.value
        await arrived(gate)
        await when_the_loop_ends(gate.release)

    run(program)
    assert room.entra.count(REFRESH) == 1, "whoever was told to stop does not try again"
    (got,) = run(crowd, 1, ann.get_silent, "Mail.Read")
    assert isinstance(got, outcome), repr(got)
    assert (room.entra.count(REFRESH), revoked(room.entra)) == (2, rotation == "strict")


# -- answers that are none -------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], Any, int]] = [
    ({"status": 503}, AuthorityUnavailable, 3),
    ({"status": 500}, AuthorityUnavailable, 3),
    ({"status": 429, "retry_after": 1}, Throttled, 3),
    ({"reset": True}, AuthorityUnavailable, 3),
    ({"hang": True}, AuthorityUnavailable, 3),
    ({"garbage": True}, AuthorityUnavailable, 1),
    ({"error": EntraError(500011)}, AuthorityError, 1),
    ({"error": EntraError(50076)}, InteractionRequired, 1),
]


@on_all_backends
@pytest.mark.parametrize(("fault", "error", "requests"), FAULTS, ids=str)
async def test_a_refresh_that_fails_leaves_the_refresh_token_in_place(
    fault: dict[str, Any], error: Any, requests: int, hasty_room: Room
) -> None:
    room, ann = hasty_room, await signed_in(hasty_room)
    room.entra.fault(REFRESH, **fault)
    outcomes = await crowd(50, ann.get_silent, "User.Read", rejected=ann.token)
    assert {type(outcome) for outcome in outcomes} == {error}
    assert (room.entra.count(REFRESH), len(set(room.wire.sent))) == (requests, 1)
    room.entra.clear_faults()
    room.pass_the_time(61)  # until the refusal is forgotten
    await ann.still_works()
    assert len(set(room.wire.sent)) == 1, "the same was there still"
    await ann.still_works()
    assert len(set(room.wire.sent)) == 2


@on_all_backends
@pytest.mark.parametrize(("fault", "error", "requests"), FAULTS, ids=str)
async def test_a_stale_refresh_that_fails_leaves_the_refresh_token_and_the_token_in_place(
    fault: dict[str, Any], error: Any, requests: int, hasty_room: Room
) -> None:
    del error  # nobody gets it
    room, ann = hasty_room, await signed_in(hasty_room)
    room.clock.advance(3400)
    room.entra.fault(REFRESH, **fault)
    one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
    await landed(ann.tokens)
    assert (room.entra.count(REFRESH), ann.tokens.stats().refresh_failed) == (requests, 1)
    room.entra.clear_faults()
    room.pass_the_time(61)
    one_token([ann.token, *await crowd(50, ann.get, "User.Read")])
    await landed(ann.tokens)
    assert room.entra.count(REFRESH) == requests + 1
    assert len(set(room.wire.sent)) == 1
    await ann.still_works()


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"garbage": True}], ids=str)
def test_a_refresh_that_fails_while_the_loop_ends_leaves_the_refresh_token_in_place(
    fault: dict[str, Any], run: Any, room: Room
) -> None:
    ann = run(signed_in, room)
    room.entra.fault(REFRESH, times=1, **fault)
    gate = room.entra.hold(REFRESH)

    async def program() -> None:
        async with anyio.create_task_group() as group:
            Caller(group, ann.get, "Mail.Read")
            await arrived(gate)
            await when_the_loop_ends(gate.release)
            group.cancel_scope.cancel()

    run(program)
    assert room.entra.count(REFRESH) == 1, "whoever was told to stop does not try again"
    run(ann.still_works)
    assert len(set(room.wire.sent)) == 1


# -- any order -------------------------------------------------------------------------------------------------------

SCOPES = ["User.Read", "Mail.Read", "Files.Read"]
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["get", "get silently", "reject"]), st.integers(0, len(SCOPES) - 1)),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["answer", "sign in", "sign out"]), st.none()),
    st.tuples(st.just("fail"), st.sampled_from([{"status": 503}, {"reset": True}, {"garbage": True}])),
    st.tuples(st.just("advance"), st.sampled_from([61.0, 3400.0, 3600.0])),
)
LIVES = st.lists(st.tuples(st.sampled_from(RUNNERS), st.lists(ACTIONS, max_size=15)), max_size=3)


class World:
    """Ann at one manager, on one event loop after another, and an authority that answers when it is told to."""

    def __init__(self, room: Room, ann: SignedIn) -> None:
        self.room = room
        self.ann = ann
        self.callers: list[Caller] = []
        self.last: dict[str, Token] = {"User.Read": ann.token}
        self.signed_out = False
        """Whether nobody can have signed in since she signed out."""

    async def live(self, actions: list[tuple[str, Any]]) -> None:
        """The life of one loop; it ends with whatever is in the air then."""
        self.room.entra.clear_faults()
        gate = self.room.entra.hold(REFRESH)
        await when_the_loop_ends(gate.release)
        async with anyio.create_task_group() as group:
            for action, what in actions:
                await self.do(group, gate, action, what)
                await settle()
                await until(lambda: gate.waiting or self.ann.tokens.stats().flights == 0)
                self.check()
            group.cancel_scope.cancel()
        self.callers.clear()

    async def do(self, group: Any, gate: Gate, action: str, what: Any) -> None:
        if action in ("get", "get silently", "reject"):
            scope = SCOPES[what]
            options = {"rejected": self.last[scope]} if action == "reject" and scope in self.last else {}
            call = self.ann.get_silent if action == "get silently" else self.ann.get
            self.callers.append(Caller(group, call, scope, **options))
            self.signed_out &= action == "get silently"  # any other may have her sign in
        elif action == "leave" and self.callers:
            self.callers[what % len(self.callers)].scope.cancel()
        elif action == "answer":
            gate.release(1)
        elif action == "fail":
            self.room.entra.fault(REFRESH, times=1, **what)
        elif action == "advance":
            self.room.pass_the_time(what)
        elif action == "sign in":
            await self.ann.sign_in()
            self.signed_out = False
        elif action == "sign out":
            await self.ann.tokens.sign_out(self.ann.account)
            self.signed_out = all(caller.over for caller in self.callers)

    def check(self) -> None:
        assert revoked(self.room.entra) == 0, "a refresh token came twice"
        assert self.room.wire.most <= 1, "two refreshes of one session were in the air at once"
        for caller in self.callers:
            outcome = caller.outcome
            if isinstance(outcome, Token):
                (scope,) = set(outcome.scopes) & set(SCOPES)
                self.last[scope] = outcome
            else:
                assert isinstance(outcome, AuthorityUnavailable | InteractionRequired | None), repr(outcome)
        self.callers = [caller for caller in self.callers if not caller.over]

    async def end(self) -> None:
        """Whatever happened: a session that is there works, and one that is not does not come back."""
        await landed(self.ann.tokens)
        self.check()
        self.room.entra.clear_faults()
        self.room.pass_the_time(3600)
        if self.signed_out:
            with pytest.raises(InteractionRequired):
                await self.ann.get_silent("User.Read")
            await self.ann.sign_in()
        try:
            await self.ann.get_silent("User.Read")
        except AccountRequired:
            await self.ann.sign_in()
        await self.ann.still_works()
        assert self.room.sign_ins_sent()[-1] == len(families(self.room.entra)) - 1, "a refresh undid a sign-in"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(lives=LIVES)
def test_whatever_happens_no_refresh_token_is_sent_twice_or_lost(kind: str, lives: Any) -> None:
    with FakeEntra() as entra:
        room = Room(entra, FakeClock())
        world = World(room, run_asyncio(signed_in, room, kind))
        for run, actions in lives:
            run(world.live, actions)
        run_asyncio(world.end)
