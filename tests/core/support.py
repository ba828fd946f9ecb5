"""What the tests of the mechanisms share: acquisitions that park, callers that leave, loops in threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio.from_thread import start_blocking_portal

from aiomsal._spawn import here

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from anyio.abc import BlockingPortal, TaskGroup

LOOPS = ["asyncio", "trio"]


async def settle(cycles: int = 20) -> None:
    """Let everything happen that can without anything new from outside."""
    for _ in range(cycles):
        await anyio.lowlevel.checkpoint()


def eventually(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Block this thread until something done by another is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


class Parked:
    """One acquisition, which waits for the test to say how it ends. From any thread."""

    def __init__(self) -> None:
        self.waiter = here().waiter()
        self.result: Any = None
        self.error: BaseException | None = None
        self.cancelled = False
        self.over = False

    def land(self, result: Any) -> None:
        self.result = result
        self.waiter.home.call_soon(self.waiter.wake)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.waiter.home.call_soon(self.waiter.wake)

    async def outcome(self) -> Any:
        try:
            await self.waiter.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        finally:
            self.over = True
        if self.error is not None:
            raise self.error
        return self.result


class Authority:
    """What flights ask. Each acquisition parks; `asked` counts them."""

    def __init__(self) -> None:
        self.asked: list[Parked] = []

    async def acquire(self) -> Any:
        parked = Parked()
        self.asked.append(parked)
        return await parked.outcome()

    @property
    def last(self) -> Parked:
        return self.asked[-1]


class Caller:
    """A task that awaits one call, may leave, and tells what came out."""

    def __init__(self, group: TaskGroup, call: Callable[[], Awaitable[Any]]) -> None:
        self.scope = anyio.CancelScope()
        self.value: Any = None
        self.error: BaseException | None = None
        self.outcome = "waiting"
        self._call = call
        group.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.value = await self._call()
                self.outcome = "value"
            except Exception as error:
                self.error = error
                self.outcome = "error"
        if self.outcome == "waiting":
            self.outcome = "left"

    def leave(self) -> None:
        self.scope.cancel()


@contextlib.contextmanager
def loop_in_thread(backend: str) -> Iterator[BlockingPortal]:
    """A loop that runs in a thread of its own, and ends as `asyncio.run` or `trio.run` do."""
    with start_blocking_portal(backend) as portal:
        yield portal


class HandMadeLoop:
    """An asyncio loop in a thread, which can be stopped and closed without anything being cancelled first."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # of tasks destroyed on purpose
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> Any:
        async def on_loop() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(on_loop(), self.loop).result(20)

    def start(self, function: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(function(), self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)

    def resume(self) -> None:
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def end(self) -> None:
        if self.loop.is_closed():
            return
        if self.loop.is_running():
            self.stop()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()
