"""Where one of MSAL's objects is built, once, and asked: in worker threads, by flights that callers share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from aiomsal._flight import Flights, NothingCame
from aiomsal._spawn import abandonable, unhurried
from aiomsal._turns import Turns

from ._fence import Fence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

T = TypeVar("T")

THREADS: Final = 32
SIGN_IN_THREADS: Final = 16
"""For what waits for a person: it never occupies a thread that a silent call needs."""


class Desk:
    """Where one application of MSAL's is asked. Any thread and any event loop.

    Nothing is made before it is needed. The mutable state of this object is one `Process`, which a forked child makes
    anew: it inherits neither threads nor locks, nor an application whose connections its parent goes on using.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build  # imports MSAL, and may do network: in a worker thread
        self._processes: dict[int, Process] = {}

    @property
    def built(self) -> Any:
        """MSAL's object; None if this process has not built it."""
        process = self._processes.get(os.getpid())
        return None if process is None else process.application

    async def ready(self) -> Process:
        """See to it that MSAL's object is built. Who come meanwhile share the building, and its failure.

        Raises:
            Exception: what MSAL raised. Nothing of it is remembered.
        """
        process = self._here()
        if process.application is None:
            await process.building.join("building", self._built_by, process, look=_application)
        return process

    async def call(self, key: Hashable | None, question: Callable[[Any], T], *, account: str | None = None) -> T:
        """Have a worker thread ask MSAL, once for all who come meanwhile with an equal key; each gets its own answer.

        It goes on when they leave: what it brings may be a new refresh token. For an `account` that is just being
        removed it waits until that is done.
        """
        process = self._here()
        flights = process.flights
        if key is None:
            return cast("T", await flights.join(object(), self._ask, question, account))
        key = (process.era, key)
        try:
            answer = await flights.board(key, self._ask, question, account, look=_nothing)
        except NothingCame:  # its loop has ended, or is about to
            answer = await flights.join(key, self._ask, question, account)
        return cast("T", own(answer))

    async def change(self, question: Callable[[Any], T]) -> T:
        """As `call`, of what is never shared, and after which nobody gets what was asked for before it."""
        try:
            return await self.call(None, question)
        finally:
            self._here().era = object()

    async def remove(self, account: str | None, question: Callable[[Any], T]) -> T:
        """Have a worker thread ask MSAL while nobody works for this account; it goes on when the caller leaves."""
        process = self._here()
        if account is None:
            return await self.change(question)

        async def removal() -> T:
            async with process.fence.leave(account):
                return await self._ask(question, None)

        try:
            return cast("T", await process.flights.join(object(), removal))
        finally:
            process.era = object()

    async def converse(self, key: Hashable | None, conduct: Callable[[Process], Awaitable[T]]) -> T:
        """Conduct what takes a person, once for all with an equal key; it is cancelled when the last of them leaves."""

        async def conversation() -> T:
            return await conduct(await self.ready())

        process = self._here()
        try:
            answer = await process.sign_ins.join(object() if key is None else key, conversation, owned=True)
        finally:
            process.era = object()
        return cast("T", own(answer))

    async def _ask(self, question: Callable[[Any], T], account: str | None) -> T:
        process = self._here()
        if process.application is None:
            await self.ready()

        def submit() -> Any:
            return process.threads.submit(copy_context().run, question, process.application)

        return cast("T", await unhurried(submit() if account is None else await process.fence.work(account, submit)))

    async def _built_by(self, process: Process) -> Any:
        process.application = await abandonable(process.threads.submit(copy_context().run, self._build))
        return process.application

    def _here(self) -> Process:
        """What this process has made. Many threads may come first at once: all get the same."""
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            process = self._processes.setdefault(pid, Process())
            for other in list(self._processes):
                if other != pid:  # inherited
                    self._processes.pop(other, None)
        return process


class Process:
    """What one process has made. The mutable state of its own is the application and the era."""

    def __init__(self) -> None:
        self.application: Any = None
        self.era: object = None  # calls share within one: who has signed in is not told what was asked before
        self.threads = ThreadPoolExecutor(THREADS, "aiomsal-msal")
        self.sign_in_threads = ThreadPoolExecutor(SIGN_IN_THREADS, "aiomsal-msal-sign-in")
        self.building = Flights[Any]()
        self.flights = Flights[Any]()
        self.sign_ins = Flights[Any]()
        self.turns = Turns()
        self.fence = Fence()

    async def hop(self, question: Callable[[Any], T]) -> T:
        """Have a thread for sign-ins ask MSAL. Cancelled, it leaves at once, and the answer falls to the ground."""
        context = copy_context()
        return await abandonable(self.sign_in_threads.submit(context.run, question, self.application))


def own(result: T) -> T:
    """The same, of containers of its own: MSAL's results are dicts and lists, for the caller to change."""
    kind = type(result)
    if kind is dict:
        items = cast("dict[Any, Any]", result)
        return cast("T", {name: value if type(value) is str else own(value) for name, value in items.items()})
    if kind is list or kind is tuple or kind is set:
        return cast("T", cast("Any", kind)(map(own, cast("list[Any]", result))))
    return result


def _nothing(*_: object) -> None:
    """No outcome is looked for: what is remembered is in MSAL's cache."""


def _application(process: Process) -> Any:
    return process.application
