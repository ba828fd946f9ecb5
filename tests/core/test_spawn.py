"""Detached tasks, waiters, and what takes its time although it is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal._spawn import here, insist, unhurried

from .support import LOOPS, Caller, eventually, loop_in_thread, settle

if TYPE_CHECKING:
    from collections.abc import Iterator


class Thread:
    """A worker thread that works until the test lets it go."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.go = threading.Event()
        self.done: list[str] = []

    def submit(self, word: str) -> Future[str]:
        def work() -> str:
            self.go.wait(20)
            self.done.append(word)
            return word

        return self.pool.submit(work)


@pytest.fixture
def thread() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.go.set()
    thread.pool.shutdown()


async def until(true: Any) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.001)


# -- unhurried -------------------------------------------------------------------------------------------------------


async def test_the_result_of_a_thread_is_awaited(thread: Thread) -> None:
    thread.go.set()
    assert await unhurried(thread.submit("result")) == "result"


async def test_an_error_of_a_thread_is_raised(thread: Thread) -> None:
    def fail() -> None:
        raise LookupError("in the thread")

    with pytest.raises(LookupError, match="in the thread"):
        await unhurried(thread.pool.submit(fail))


async def test_what_has_not_begun_is_withdrawn_when_cancelled(thread: Thread) -> None:
    first, second = thread.submit("first"), thread.submit("second")
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: unhurried(second))
        await settle()
        caller.leave()
        await until(lambda: caller.outcome != "waiting")
    assert caller.outcome == "left"
    assert second.cancelled()
    thread.go.set()
    assert await unhurried(first) == "first"
    assert thread.done == ["first"]


async def test_a_cancellation_while_the_thread_works_is_absorbed_and_the_result_returned(thread: Thread) -> None:
    future = thread.submit("result")
    await until(future.running)
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: unhurried(future))
        await settle()
        caller.leave()
        await settle()
        assert caller.outcome == "waiting"
        thread.go.set()
    assert caller.value == "result"


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.asyncio
async def test_however_often_a_task_is_cancelled_the_result_is_returned(thread: Thread, times: int) -> None:
    future = thread.submit("result")
    await until(future.running)
    task = asyncio.create_task(unhurried(future))
    await settle()
    for _ in range(times):
        task.cancel()
        await settle()
    assert not task.done()
    thread.go.set()
    assert await task == "result"


@pytest.mark.asyncio
async def test_a_task_cancelled_twice_at_once_returns_the_result(thread: Thread) -> None:
    future = thread.submit("result")
    await until(future.running)
    task = asyncio.create_task(unhurried(future))
    await settle()
    task.cancel()
    task.cancel()
    await settle()
    thread.go.set()
    assert await task == "result"


@pytest.mark.parametrize("backend", LOOPS)
def test_the_end_of_a_run_waits_for_the_thread_that_works(thread: Thread, backend: str) -> None:
    results: list[str] = []
    ended = threading.Event()

    async def save() -> None:
        result = await unhurried(thread.submit("refresh token"))
        await insist(settle)
        results.append(result)

    async def main() -> None:
        here().detach(save)
        await settle()

    def run() -> None:
        anyio.run(main, backend=backend)
        ended.set()

    runner = threading.Thread(target=run)
    runner.start()
    eventually(lambda: thread.pool._work_queue.empty())
    assert not ended.wait(0.05)  # what does not happen cannot be waited for in any other way
    thread.go.set()
    runner.join(20)
    assert ended.is_set()
    assert results == ["refresh token"]


@pytest.mark.asyncio
async def test_a_cancelled_scope_does_not_spin_while_the_thread_works(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = thread.submit("result")
    await until(future.running)
    deliveries = 0
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon

    def count(callback: Any, *args: Any, **keywords: Any) -> Any:
        nonlocal deliveries
        deliveries += "deliver_cancellation" in getattr(callback, "__qualname__", "")
        return call_soon(callback, *args, **keywords)

    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: unhurried(future))
        await settle()
        monkeypatch.setattr(loop, "call_soon", count)
        caller.leave()
        await settle(200)
        assert caller.outcome == "waiting"
        assert deliveries <= 2
        thread.go.set()
    assert caller.value == "result"


# -- insist ----------------------------------------------------------------------------------------------------------


async def test_an_operation_that_is_insisted_on_ends_although_its_scope_is_cancelled() -> None:
    waiter = here().waiter()
    begun = 0

    async def save() -> str:
        nonlocal begun
        begun += 1
        await waiter.wait()
        return "saved"

    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: insist(save))
        await settle()
        caller.leave()
        await settle()
        assert caller.outcome == "waiting"
        waiter.wake()
    assert caller.value == "saved"
    assert begun == 1


@pytest.mark.asyncio
async def test_an_operation_is_begun_again_for_each_cancellation_of_the_task() -> None:
    waiter = here().waiter()
    begun = 0

    async def save() -> str:
        nonlocal begun
        begun += 1
        await waiter.wait()
        return "saved"

    task = asyncio.create_task(insist(save))
    await settle()
    for _ in range(3):
        task.cancel()
        await settle()
    waiter.wake()
    assert await task == "saved"
    assert begun == 4
    assert task.cancelling() == 0


async def test_an_operation_that_cancels_itself_is_not_begun_for_ever() -> None:
    begun = 0

    async def save() -> None:
        nonlocal begun
        begun += 1
        raise asyncio.CancelledError  # as when it awaits a future that somebody has cancelled

    with pytest.raises(asyncio.CancelledError):
        await insist(save)
    assert begun == 1


async def test_errors_of_an_operation_are_raised() -> None:
    async def save() -> None:
        raise LookupError("not saved")

    with pytest.raises(LookupError, match="not saved"):
        await insist(save)


# -- homes, waiters, tasks -------------------------------------------------------------------------------------------


async def test_a_home_is_equal_to_itself_and_to_no_other(backend: str) -> None:
    assert here() == here()
    assert hash(here()) == hash(here())
    assert here() != backend
    others: list[Any] = []
    for other in LOOPS:
        thread = threading.Thread(target=lambda other=other: others.append(anyio.run(_home, backend=other)))
        thread.start()
        thread.join(20)
    assert here() not in others
    assert [other.alive() for other in others] == [False, False]
    assert [other.call_soon(print) for other in others] == [False, False]
    assert here().alive()


async def _home() -> Any:
    return here()


def test_without_a_loop_there_is_no_home() -> None:
    with pytest.raises(RuntimeError, match="no event loop is running here"):
        here()


async def test_a_waiter_woken_before_it_is_awaited_does_not_wait() -> None:
    waiter = here().waiter()
    waiter.wake()
    waiter.wake()
    await waiter.wait()
    await waiter.wait()


async def test_a_waiter_may_wait_again_after_it_was_cancelled() -> None:
    waiter = here().waiter()
    for _ in range(2):
        with anyio.move_on_after(0) as scope:
            await waiter.wait()
        assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        caller = Caller(group, waiter.wait)
        await settle()
        waiter.wake()
    assert caller.outcome == "value"


async def test_a_waiter_that_was_cancelled_and_then_woken_does_not_wait() -> None:
    waiter = here().waiter()
    with anyio.move_on_after(0):
        await waiter.wait()
    waiter.wake()
    with anyio.fail_after(20):
        await waiter.wait()


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_is_called_from_another_thread(backend: str) -> None:
    called: list[str] = []
    with loop_in_thread(backend) as portal:
        home = portal.call(here)
        assert home.alive()
        assert home.call_soon(called.append, "once")
        eventually(lambda: called == ["once"])
    assert not home.alive()
    assert not home.call_soon(called.append, "twice")
    assert called == ["once"]


async def test_what_is_called_later_is_called_once_or_not_at_all_if_cancelled() -> None:
    called: list[str] = []
    kept = here().call_later(0.002, lambda: called.append("kept"))
    dropped = here().call_later(0.001, lambda: called.append("dropped"))
    dropped.cancel()
    await until(lambda: called)
    await settle()
    kept.cancel()
    assert called == ["kept"]


async def test_a_detached_task_has_a_copy_of_the_callers_context_and_can_be_cancelled() -> None:
    word: ContextVar[str] = ContextVar("word")
    word.set("the caller's")
    seen: list[str] = []

    async def run() -> None:
        seen.append(word.get())
        word.set("the task's")
        try:
            await here().waiter().wait()
        finally:
            seen.append("ended")

    task = here().detach(run)
    await settle()
    assert seen == ["the caller's"]
    task.cancel()
    await settle()
    assert seen == ["the caller's", "ended"]
    assert word.get() == "the caller's"


async def test_an_absorbing_task_costs_no_processor_while_it_waits(thread: Thread) -> None:
    future = thread.submit("result")
    await until(future.running)
    async with anyio.create_task_group() as group:
        caller = Caller(group, lambda: unhurried(future))
        await settle()
        caller.leave()
        await settle()
        before = time.process_time()
        await anyio.sleep(0.2)  # the one thing that takes time is what would be spent in it
        assert time.process_time() - before < 0.15
        thread.go.set()
    assert caller.value == "result"
