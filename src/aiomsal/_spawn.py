"""Tasks that no caller owns, and waking them: on asyncio and on trio, from any thread.

The only module that knows the difference between the two. Everything here is bound to the event loop it was made on,
except where a docstring says "from any thread".
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from concurrent.futures import Future
    from types import TracebackType

T = TypeVar("T")


class Waiter(Protocol):
    """One task's wait for one wake-up."""

    @property
    def home(self) -> Home:
        """The loop it was made on."""
        ...

    def wait(self) -> Awaitable[None]:
        """To be awaited at once: suspends until woken, or not at all if that has happened; may be repeated."""
        ...

    def wake(self) -> None:
        """On the waiter's own loop only; again is harmless, also when the waiting task has gone."""
        ...


class Seat(Protocol):
    """One of a crowd's wait for an outcome: to be awaited by one task, at once, and cheaper than a `Waiter`."""

    def __await__(self) -> Generator[Any, Any, Any]:
        """Suspends until there is an outcome: returns the result, or raises the exception."""
        ...

    def done(self) -> bool:
        """Whether there is an outcome, or whoever sat here has left. From any thread."""
        ...

    def set_result(self, result: Any, /) -> None:
        """On the seat's own loop only, and only if not done."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """On the seat's own loop only, and only if not done."""
        ...

    def exception(self) -> BaseException | None:
        """What was set."""
        ...


class Detached(Protocol):
    """A task that belongs to nobody."""

    def cancel(self) -> None:
        """On the task's own loop only."""
        ...


class Home(Protocol):
    """An event loop, as something to come back to. Equal if the same loop."""

    def alive(self) -> bool:
        """Whether tasks on it are being run now. From any thread; the answer may be old when it arrives."""
        ...

    def waiter(self) -> Waiter:
        """A new waiter, made on this loop."""
        ...

    def seat(self) -> Seat:
        """A new seat, made on this loop."""
        ...

    def call_soon(self, function: Callable[..., object], /, *args: object) -> bool:
        """Have the loop call a function soon, from any thread; False if the loop has ended."""
        ...

    def call_later(self, delay: float, function: Callable[[], object], /) -> Detached:
        """Have the loop call a function after a delay, in seconds, unless cancelled."""
        ...

    def detach(
        self, function: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], object] | None = None, /
    ) -> Detached:
        """Run a coroutine function that raises nothing in a task of its own, in a copy of the caller's context.

        With asyncio's eager tasks it runs to its first suspension before this returns. `ended` is called should the
        task end without having begun the function, and may be called when it ends otherwise.
        """
        ...


def here() -> Home:
    """The running event loop; RuntimeError outside of one."""
    if "trio" in sys.modules and _in_trio():
        return _TrioHome()
    try:
        return _AsyncioHome(asyncio.get_running_loop())
    except RuntimeError:
        raise RuntimeError("no event loop is running here: await this in a coroutine run by asyncio or trio") from None


async def unhurried(future: Future[T]) -> T:
    """The result of a worker thread's future. Leaving takes it along only if it has not begun.

    If this task is cancelled while the thread works, the cancellation is absorbed: the result is returned when it is
    here, for it may be all that is left of a refresh token. It is `asyncio.run` at its end that cancels so, and it
    waits for tasks that take their time.
    """
    waiter = here().waiter()
    future.add_done_callback(lambda _: waiter.home.call_soon(waiter.wake))
    try:
        await waiter.wait()
    except GeneratorExit:  # the loop is gone, and with it what a cancellation is
        raise
    except anyio.get_cancelled_exc_class():
        if future.cancel():
            raise
        await insist(waiter.wait)
        if future.exception() is not None:
            raise  # nothing came that could be lost, and whoever was told to stop does not try again
    return future.result()


async def abandonable(future: Future[T]) -> T:
    """The result of a worker thread's future that nobody needs who leaves."""
    home = here()
    waiter = home.waiter()
    future.add_done_callback(lambda _: home.call_soon(waiter.wake))
    try:
        await waiter.wait()
    except GeneratorExit:  # the loop is gone, and with it what a cancellation is
        raise
    except anyio.get_cancelled_exc_class():
        future.cancel()
        raise
    return future.result()


def is_cancellation(error: BaseException) -> bool:
    """Whether it cancels a task, of asyncio or of the library that runs this one."""
    return isinstance(error, (asyncio.CancelledError, anyio.get_cancelled_exc_class()))


def being_cancelled() -> bool:
    """Whether somebody cancels this task; if not, a `CancelledError` here is that of something it awaited."""
    if "trio" in sys.modules and _in_trio():
        return True
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def insist(operation: Callable[[], Awaitable[T]]) -> T:
    """Await an operation to its end although the task is cancelled meanwhile, and return its result.

    asyncio's own cancellation cannot be held off, only taken: the operation is then begun again, so it must be one
    that may be repeated. Scopes of trio and anyio wait outside.
    """
    while True:
        with anyio.CancelScope(shield=True):
            try:
                return await operation()
            except asyncio.CancelledError:
                task = None if "trio" in sys.modules and _in_trio() else asyncio.current_task()
                if task is None or not task.cancelling():  # the operation's own: it would raise it for ever
                    raise
                task.uncancel()


class _AsyncioWaiter:
    __slots__ = ("_future", "_woken", "home")

    def __init__(self, home: _AsyncioHome, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self._future = loop.create_future()
        self._woken = False

    def wait(self) -> Awaitable[None]:  # the future itself: a coroutine around it would cost a crowd dearly
        if self._future.cancelled():
            self._future = self._future.get_loop().create_future()
            if self._woken:
                self._future.set_result(None)
        return self._future

    def wake(self) -> None:
        self._woken = True
        if not self._future.done():
            self._future.set_result(None)


class _AsyncioHome:
    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AsyncioHome) and other._loop is self._loop

    def __hash__(self) -> int:
        return id(self._loop)

    def alive(self) -> bool:
        return self._loop.is_running()

    def waiter(self) -> Waiter:
        return _AsyncioWaiter(self, self._loop)

    def seat(self) -> Seat:
        return self._loop.create_future()

    def call_soon(self, function: Callable[..., object], /, *args: object) -> bool:
        try:
            if asyncio._get_running_loop() is self._loop:  # in its own thread: the loop need not be woken
                self._loop.call_soon(function, *args)
            else:
                self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # closed
            return False
        return True

    def call_later(self, delay: float, function: Callable[[], object], /) -> Detached:
        # A context of its own: cancelling a timer of asyncio does not make the loop let go of the caller's.
        return self._loop.call_later(delay, function, context=Context())

    def detach(
        self, function: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], object] | None = None, /
    ) -> Detached:
        task = self._loop.create_task(function(), context=copy_context())
        if ended is not None:  # a task that is cancelled before its first step runs nothing of the function
            task.add_done_callback(lambda _: ended(), context=Context())
        return _AsyncioTask(task)


class _AsyncioTask:
    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


def _in_trio() -> bool:
    import trio

    return trio.lowlevel.in_trio_task()


class _TrioWaiter:
    __slots__ = ("_event", "home")

    def __init__(self, home: _TrioHome) -> None:
        import trio

        self.home = home
        self._event = trio.Event()

    def wait(self) -> Awaitable[None]:
        return self._event.wait()

    def wake(self) -> None:
        self._event.set()


class _TrioSeat:
    __slots__ = ("_done", "_event", "_exception", "_result", "_traceback")

    def __init__(self) -> None:
        import trio

        self._event = trio.Event()
        self._done = False
        self._result: Any = None
        self._exception: BaseException | None = None
        self._traceback: TracebackType | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            yield from self._event.wait().__await__()
        finally:
            self._done = True
        if self._exception is not None:
            raise self._exception.with_traceback(self._traceback)  # it may be shared, and have been raised meanwhile
        return self._result

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any, /) -> None:
        self._done, self._result = True, result
        self._event.set()

    def set_exception(self, exception: BaseException, /) -> None:
        self._done, self._exception, self._traceback = True, exception, exception.__traceback__
        self._event.set()

    def exception(self) -> BaseException | None:
        return self._exception


class _TrioHome:
    __slots__ = ("_token",)

    def __init__(self) -> None:
        import trio

        self._token = trio.lowlevel.current_trio_token()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TrioHome) and other._token is self._token

    def __hash__(self) -> int:
        return id(self._token)

    def alive(self) -> bool:
        return self.call_soon(lambda: None)

    def waiter(self) -> Waiter:
        return _TrioWaiter(self)

    def seat(self) -> Seat:
        return _TrioSeat()

    def call_soon(self, function: Callable[..., object], /, *args: object) -> bool:
        import trio

        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def call_later(self, delay: float, function: Callable[[], object], /) -> Detached:
        import trio

        async def wait() -> None:
            await trio.sleep(delay)
            function()

        return self.detach(wait)

    def detach(
        self, function: Callable[[], Coroutine[Any, Any, None]], _ended: Callable[[], object] | None = None, /
    ) -> Detached:
        import trio

        scope = trio.CancelScope()

        async def run() -> None:
            with scope, contextlib.suppress(asyncio.CancelledError):
                await function()

        trio.lowlevel.spawn_system_task(run, context=copy_context())
        return scope
