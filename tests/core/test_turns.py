"""Turns: one after another, first come first served, on many loops, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import _turns
from aiomsal._spawn import here
from aiomsal._turns import Turns

from .support import LOOPS, Caller, HandMadeLoop, eventually, loop_in_thread, settle

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from aiomsal._spawn import Waiter


class Taker:
    """A task that takes a turn and keeps it until it is told to go."""

    def __init__(self, turns: Turns, name: object = "", log: list[object] | None = None) -> None:
        self._turns = turns
        self._name = name
        self._log = log if log is not None else []
        self._go: Waiter | None = None
        self.has = False

    async def run(self) -> None:
        async with self._turns.take("key") as mine:
            assert mine is True
            self._go = here().waiter()
            self._log.append(self._name)
            self.has = True
            try:
                await self._go.wait()
            finally:
                self.has = False

    def go(self) -> None:
        assert self._go is not None
        self._go.home.call_soon(self._go.wake)


def takers_of(group: TaskGroup, turns: Turns, number: int, log: list[object]) -> list[tuple[Taker, Caller]]:
    takers = [Taker(turns, name, log) for name in range(number)]
    return [(taker, Caller(group, taker.run)) for taker in takers]


def queue_of(turns: Turns) -> int:
    holder = turns._turns.get("key")
    return 0 if holder is None else len(holder.queue)


async def queue_up(group: TaskGroup, turns: Turns, number: int, log: list[object]) -> list[tuple[Taker, Caller]]:
    takers = []
    for name in range(number):  # one after another: trio starts tasks in any order
        taker = Taker(turns, name, log)
        takers.append((taker, Caller(group, taker.run)))
        await settle(4)
    return takers


async def test_turns_are_taken_in_the_order_of_asking_and_one_at_a_time() -> None:
    turns, log = Turns(), list[object]()
    async with anyio.create_task_group() as group:
        takers = await queue_up(group, turns, 5, log)
        for number, (taker, _) in enumerate(takers):
            await settle()
            assert [other.has for other, _ in takers].count(True) == 1
            assert taker.has
            assert queue_of(turns) == 4 - number
            taker.go()
    assert log == [0, 1, 2, 3, 4]
    assert len(turns) == 0


async def test_keys_do_not_wait_for_one_another() -> None:
    turns = Turns()
    async with turns.take("one"), turns.take("two") as mine:
        assert mine is True
        assert len(turns) == 2
    assert len(turns) == 0


async def test_without_waiting_the_body_is_told_that_it_is_not_its_turn() -> None:
    turns = Turns()
    async with turns.take("key"):
        async with turns.take("key", wait=False) as mine:
            assert mine is False
        async with turns.take("key", wait=False) as mine:  # the turn was not passed on by one who never had it
            assert mine is False
        assert len(turns) == 1
        assert queue_of(turns) == 0
    async with turns.take("key", wait=False) as mine:
        assert mine is True
    assert len(turns) == 0


async def test_an_error_in_the_body_passes_the_turn_on_and_is_raised() -> None:
    turns = Turns()
    with pytest.raises(LookupError, match="in the body"):
        async with turns.take("key"):
            raise LookupError("in the body")
    assert len(turns) == 0


@pytest.mark.parametrize("leaving", [0, 1, 2, 3])
async def test_whoever_leaves_the_queue_or_the_body_changes_nothing_for_the_others(leaving: int) -> None:
    turns, log = Turns(), list[object]()
    async with anyio.create_task_group() as group:
        takers = await queue_up(group, turns, 4, log)
        takers[leaving][1].leave()
        await settle()
        for number, (taker, _) in enumerate(takers):
            if number != leaving:
                await settle()
                assert taker.has
                taker.go()
    assert log == ([0, 1, 2, 3] if leaving == 0 else [i for i in range(4) if i != leaving])
    assert takers[leaving][1].outcome == "left"
    assert len(turns) == 0


async def test_one_cancelled_at_the_very_moment_of_being_handed_the_turn_hands_it_on() -> None:
    turns, log = Turns(), list[object]()
    async with anyio.create_task_group() as group:
        takers = await queue_up(group, turns, 3, log)
        holder = turns._turns["key"]
        with turns.guard():
            turns._pass_on("key", holder)  # the second has it now, and has not been run since
        takers[1][1].leave()
        await settle()
        assert (takers[1][1].outcome, takers[2][0].has) == ("left", True)
        takers[0][0].go()  # its turn was taken away: its end passes nothing on
        await settle()
        assert takers[2][0].has
        assert len(turns) == 1
        takers[2][0].go()
    assert len(turns) == 0
    assert log == [0, 2]


async def test_cancelled_first_and_handed_the_turn_then_it_hands_it_on_too() -> None:
    turns, log = Turns(), list[object]()
    async with anyio.create_task_group() as group:
        takers = await queue_up(group, turns, 3, log)
        takers[1][1].leave()
        holder = turns._turns["key"]
        with turns.guard():
            turns._pass_on("key", holder)
        await settle()
        assert takers[2][0].has
        takers[2][0].go()
        takers[0][0].go()
    assert len(turns) == 0


async def test_many_may_leave_in_reverse() -> None:
    turns, log = Turns(), list[object]()
    async with anyio.create_task_group() as group, turns.take("key"):
        takers = takers_of(group, turns, 2000, log)
        await settle()
        assert queue_of(turns) == 2000
        for _, caller in reversed(takers):
            caller.leave()
        await settle()
        assert queue_of(turns) == 0
    assert log == []
    assert len(turns) == 0


async def test_an_async_generator_that_has_the_turn_passes_it_on_when_closed() -> None:
    turns = Turns()

    async def generate() -> Any:
        async with turns.take("key"):
            yield 1

    generator = generate()
    assert await anext(generator) == 1
    assert len(turns) == 1
    await generator.aclose()
    assert len(turns) == 0


@pytest.mark.parametrize("backend", LOOPS)
def test_turns_exclude_across_loops(backend: str) -> None:
    turns = Turns()
    inside = 0
    most = 0
    total = 0

    async def work() -> None:
        nonlocal inside, most, total
        for _ in range(25):
            async with turns.take("key"):
                inside += 1
                most = max(most, inside)
                await anyio.lowlevel.checkpoint()
                total += 1
                inside -= 1

    threads = [threading.Thread(target=anyio.run, args=(work,), kwargs={"backend": backend}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most, total, inside) == (1, 100, 0)
    assert len(turns) == 0


@pytest.mark.parametrize("holding", LOOPS)
@pytest.mark.parametrize("waiting", LOOPS)
def test_the_end_of_a_holders_run_passes_the_turn_on(
    holding: str, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_turns, "LOOK_ABROAD", 1000.0)
    turns = Turns()
    first, second = Taker(turns), Taker(turns)
    with loop_in_thread(waiting) as survivor:
        with loop_in_thread(holding) as dying:
            dying.call(lambda: here().detach(first.run))
            eventually(lambda: first.has)
            done = survivor.start_task_soon(second.run)
            eventually(lambda: queue_of(turns) == 1)
        eventually(lambda: second.has)
        second.go()
        done.result(20)
    assert len(turns) == 0


@pytest.mark.parametrize("waiting", LOOPS)
@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_a_holder_whose_loop_just_stops_has_had_its_turn(
    waiting: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_turns, "LOOK_ABROAD", 0.01)
    turns = Turns()
    log = list[object]()
    first, others = Taker(turns), [Taker(turns, name, log) for name in range(2)]
    dying = HandMadeLoop()
    with loop_in_thread(waiting) as survivor:
        dying.call(lambda: here().detach(first.run))
        eventually(lambda: first.has)
        results = []
        for number, other in enumerate(others, 1):
            results.append(survivor.start_task_soon(other.run))
            eventually(lambda number=number: queue_of(turns) == number)
        dying.stop()
        if end == "closed":
            dying.loop.close()
        for other, result in zip(others, results, strict=True):
            eventually(lambda other=other: other.has)
            other.go()
            result.result(20)
    assert log == [0, 1]
    dying.end()
    assert len(turns) == 0
    gc.collect()


def test_a_newcomer_does_not_overtake_those_who_wait_for_a_dead_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "LOOK_ABROAD", 1000.0)  # so that only the newcomer looks
    turns = Turns()
    log = list[object]()
    first, second, third = Taker(turns), Taker(turns, 2, log), Taker(turns, 3, log)
    dying = HandMadeLoop()
    with loop_in_thread("asyncio") as survivor:
        dying.call(lambda: here().detach(first.run))
        eventually(lambda: first.has)
        results = [survivor.start_task_soon(second.run)]
        eventually(lambda: queue_of(turns) == 1)
        dying.stop()
        results.append(survivor.start_task_soon(third.run))
        eventually(lambda: second.has)
        assert not third.has
        second.go()
        eventually(lambda: third.has)
        third.go()
        for result in results:
            result.result(20)
    assert log == [2, 3]
    dying.end()
    assert len(turns) == 0


@pytest.mark.parametrize("called", ["called while it stood still", "called before it stood still"])
def test_one_who_waits_on_a_loop_that_stood_still_asks_again(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "LOOK_ABROAD", 0.01)
    turns = Turns()
    first, second, third = Taker(turns), Taker(turns), Taker(turns)
    still = HandMadeLoop()
    with loop_in_thread("asyncio") as other:
        results = [other.start_task_soon(first.run)]
        eventually(lambda: first.has)
        result = still.start(second.run)
        eventually(lambda: queue_of(turns) == 1)
        if called.startswith("called before"):

            def hand_over_and_stop() -> None:
                with turns.guard():
                    turns._pass_on("key", turns._turns["key"])
                still.loop.stop()  # before whoever has been called can run

            still.loop.call_soon_threadsafe(hand_over_and_stop)
            eventually(lambda: not still.loop.is_running())
            still._thread.join(20)
            assert not second.has
        else:
            still.stop()
        first.go()
        results.append(other.start_task_soon(third.run))
        eventually(lambda: third.has)
        still.resume()
        eventually(lambda: queue_of(turns) == 1)
        assert not second.has
        assert still.call(lambda: "not spinning") == "not spinning"
        third.go()
        eventually(lambda: second.has)
        second.go()
        result.result(20)
        for each in results:
            each.result(20)
    still.end()
    assert len(turns) == 0


def test_one_whose_loop_stands_still_when_called_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "LOOK_ABROAD", 1000.0)
    turns = Turns()
    first, second, third = Taker(turns), Taker(turns), Taker(turns)
    still = HandMadeLoop()
    with loop_in_thread("asyncio") as other:
        results = [other.start_task_soon(first.run)]
        eventually(lambda: first.has)
        still.start(second.run)
        eventually(lambda: queue_of(turns) == 1)
        results.append(other.start_task_soon(third.run))
        eventually(lambda: queue_of(turns) == 2)
        still.stop()
        first.go()
        eventually(lambda: third.has)
        third.go()
        for result in results:
            result.result(20)
    assert len(turns) == 0
    still.end()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # anyio's scope, outside of its task
@pytest.mark.parametrize("which", ["holder", "waiter"])
def test_one_collected_with_its_loop_does_not_wait_for_the_lock(which: str) -> None:
    turns = Turns()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    takers = [Taker(turns).run(), Taker(turns).run()]

    async def begin() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(taker) for taker in takers]
        await settle()
        return tasks

    tasks = loop.run_until_complete(begin())
    loop.close()
    assert queue_of(turns) == 1
    doomed = takers.pop(0 if which == "holder" else 1)

    def collect() -> None:
        with turns.guard(), contextlib.suppress(RuntimeError):
            doomed.close()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    for taker in takers:
        with contextlib.suppress(RuntimeError):
            taker.close()
    del tasks

    async def newcomer() -> bool:
        async with turns.take("key") as mine:
            return mine

    assert asyncio.run(newcomer()) is True
    assert len(turns) == 0
    gc.collect()
