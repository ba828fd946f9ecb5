"""At most one acquisition aloft per key, on however many event loops.

A flight belongs to nobody. It runs in a task of its own; everybody who wants its result, the first included, is a
passenger, who may leave at any time without changing anything for the flight or the others.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, TypeVarTuple, cast

import anyio

from ._errors import AuthorityUnavailable, FlightAborted, copy_of
from ._spawn import being_cancelled, here, is_cancellation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from ._errors import TokenError
    from ._spawn import Detached, Home, Seat

T = TypeVar("T")
Args = TypeVarTuple("Args")

LOOK_ABROAD: Final = 1.0
"""Seconds after which a passenger on another loop looks whether the flying loop still runs: nobody else can tell it."""

ROUNDS: Final = 5
"""How many flights a passenger goes along with if they bring nothing; more is not bad luck, but a fault."""


SWEEP: Final = 1_024
"""Passengers beyond which the seats of those who left are cleared away, now and then."""
_GAVE_UP: Final = "what was asked gave up by itself: a task that it awaited was cancelled"


class NothingCame(Exception):
    """The flight brought nothing, and whoever is aboard has to launch anew. What a flight does may raise it too."""


class Flight(Generic[T]):
    """One acquisition, from launch to landing. Only `Flights` writes to it, under its lock.

    It lands exactly once: with a result, with an error, or lost, when whoever is aboard has to launch anew.
    """

    __slots__ = ("error", "home", "key", "landed", "owned", "passengers", "result", "roomy", "task", "timer", "watches")

    def __init__(self, key: Hashable, home: Home, *, owned: bool) -> None:
        self.key = key
        self.home = home
        self.owned = owned
        self.passengers: dict[Seat, Home] = {}  # leaving costs the same from either end
        self.roomy = SWEEP
        self.watches: dict[Home, Detached] = {}
        self.landed = False
        self.result: tuple[T] | None = None
        self.error: BaseException | None = None
        self.task: Detached | None = None
        self.timer: Detached | None = None


class Flights(Generic[T]):
    """The flights aloft, by key. Any thread and any event loop; holds nothing of a loop when no flight is aloft.

    Invariant: a key has at most one flight aloft, and `look`, asked under the same lock as the table, sees what an
    ended flight left behind; so whoever asks finds either the flight or its result. The mutable state of this
    object is the table and its flights, under a plain lock that is held for dictionary work only.
    """

    def __init__(self) -> None:
        self._closed = False
        self._renew()

    def __len__(self) -> int:
        return len(self._aloft) if self._pid == os.getpid() else 0

    def launch(
        self,
        key: Hashable,
        acquire: Callable[[*Args], Awaitable[T]],
        *args: *Args,
        look: Callable[[*Args], T | None],
        timeout: float | None = None,
    ) -> None:
        """See to it that a flight is aloft unless `look` finds its result: `join` without going aboard.

        Never suspends.
        """
        home = here()
        with self.guard():
            if self._closed or self._flying(key, home) is not None or look(*args) is not None:
                return
            flight = self._register(key, home, owned=False)
        self._start(flight, partial(acquire, *args), timeout)

    def board(
        self,
        key: Hashable,
        acquire: Callable[[*Args], Awaitable[T]],
        *args: *Args,
        look: Callable[[*Args], T | None],
        timeout: float | None = None,
    ) -> Awaitable[T]:
        """As `join`, for crowds: to be awaited at once, by one task, who gets `NothingCame` where `join` goes round.

        There is no coroutine in it: to a crowd that waits, or is cancelled, each is dear, for the garbage collector.
        """
        return self._board(key, acquire, args, look, timeout, owned=False)[1]

    async def join(
        self,
        key: Hashable,
        acquire: Callable[[*Args], Awaitable[T]],
        *args: *Args,
        look: Callable[[*Args], T | None] | None = None,
        refuses: Callable[[T], bool] | None = None,
        timeout: float | None = None,
        owned: bool = False,
    ) -> T:
        """The result of the flight for this key, launching it if there is none and `look` finds no result either.

        Args:
            key: which flight; equal keys share one.
            acquire: what the flight does; it runs with the launching caller's context variables.
            args: for `acquire` and `look`. A crowd that waits is dear to the garbage collector, closures above all.
            look: finds the result of an earlier flight without waiting; called under the lock.
            refuses: which results are of no use to this caller, who then goes along with another flight.
            timeout: after so many seconds the passengers are let go with `AuthorityUnavailable`, and the flight is
                cancelled; it may take its time to end.
            owned: the flight is for its passengers only, and is aborted when the last of them leaves.

        Raises:
            FlightAborted: these flights are closed.
        """
        for _ in range(ROUNDS):
            flight, seat = self._board(key, acquire, args, look, timeout, owned=owned)
            try:
                result = await seat
            except NothingCame:
                continue
            finally:
                if flight is not None:
                    self._leave(flight, seat)
            if refuses is None or not refuses(result):
                return cast("T", result)
        raise FlightAborted(f"{ROUNDS} acquisitions in a row were cancelled or brought nothing new: try again later")

    async def close(self, timeout: float) -> None:
        """Launch nothing any more. Abort the flights that their passengers own; give the others so many seconds."""
        self._closed = True
        closed = FlightAborted("the manager was closed: make a new one, or close it later", code="closed")
        for flight in self._flights():
            if flight.owned:
                self._abort(flight, closed)
            elif not flight.home.alive():
                self._land(flight)
        home = here()
        with anyio.move_on_after(timeout):
            for flight in self._flights():
                seat = home.seat()
                with self.guard():
                    if flight.landed:
                        continue
                    self._sit(flight, seat, home)
                try:
                    with contextlib.suppress(Exception):  # how it ends is its passengers' affair
                        await seat
                finally:
                    self._leave(flight, seat)
        for flight in self._flights():
            self._abort(flight, closed)

    def _board(
        self,
        key: Hashable,
        acquire: Callable[[*Args], Awaitable[T]],
        args: tuple[*Args],
        look: Callable[[*Args], T | None] | None,
        timeout: float | None,
        *,
        owned: bool,
    ) -> tuple[Flight[T] | None, Seat]:
        """A seat in the flight for a key, launched if need be; or one whose outcome was found, in none."""
        home = here()
        launched = False
        with self.guard():
            flight = self._flying(key, home)
            if flight is None:
                if look is not None and (found := look(*args)) is not None:
                    seat = home.seat()
                    seat.set_result(found)
                    return None, seat
                flight = self._register(key, home, owned=owned)
                launched = True
            seat = home.seat()
            self._sit(flight, seat, home)
        if launched:
            self._start(flight, partial(acquire, *args), timeout)
        return flight, seat

    def _sit(self, flight: Flight[T], seat: Seat, home: Home) -> None:
        """Under the lock. From another loop than the flight's, see to it that somebody looks whether that one lives."""
        home = flight.home if flight.home == home else home
        flight.passengers[seat] = home
        if len(flight.passengers) >= flight.roomy:
            flight.passengers = {each: theirs for each, theirs in flight.passengers.copy().items() if not each.done()}
            flight.roomy = max(SWEEP, 2 * len(flight.passengers))
        if home is not flight.home and home not in flight.watches:
            flight.watches[home] = home.call_later(LOOK_ABROAD, lambda: self._watch(flight, home))

    def _watch(self, flight: Flight[T], home: Home) -> None:
        """On a passenger's loop: if the flight's own has died, nobody else would tell them."""
        if flight.landed:
            return
        if not flight.home.alive():
            self._land(flight)
            return
        with self.guard():
            flight.watches[home] = home.call_later(LOOK_ABROAD, lambda: self._watch(flight, home))

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._aloft: dict[Hashable, Flight[T]] = {}
        self._pid = os.getpid()  # last: another thread that sees it must not find the inherited lock

    def guard(self) -> threading.Lock:
        """The lock under which the table changes, and under which whatever `look` reads has to be written."""
        if self._pid != os.getpid():  # forked: the lock may be held for ever, and the flights fly in the parent
            self._renew()
        return self._lock

    def _flights(self) -> list[Flight[T]]:
        with self.guard():
            return list(self._aloft.values())

    def _flying(self, key: Hashable, home: Home) -> Flight[T] | None:
        """The flight of a key if it can still land; one whose loop has died is forgotten. Under the lock."""
        flight = self._aloft.get(key)
        if flight is None or flight.home == home or flight.home.alive():
            return flight
        del self._aloft[key]
        return None

    def _register(self, key: Hashable, home: Home, *, owned: bool) -> Flight[T]:
        if self._closed:
            raise FlightAborted("the manager is closed: make a new one", code="closed")
        flight = self._aloft[key] = Flight(key, home, owned=owned)
        return flight

    def _start(self, flight: Flight[T], acquire: Callable[[], Awaitable[T]], timeout: float | None) -> None:
        """Not under the lock: an eager task runs, and may land, before this returns."""

        async def fly() -> None:
            try:
                result = await acquire()
            except NothingCame:
                self._land(flight)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is for the passengers
                self._land(flight, error=error)
            except GeneratorExit:  # the loop is gone, and perhaps the lock is held by the code that was interrupted
                raise
            except BaseException as error:
                cancelled = is_cancellation(error)
                if cancelled and not being_cancelled():  # to launch anew would only have it happen again
                    self._land(flight, error=FlightAborted(_GAVE_UP, code="cancelled"))
                    return
                stopped = cancelled or isinstance(error, (KeyboardInterrupt, SystemExit))
                self._land(flight, error=None if stopped else error)
                if stopped:  # any other, such as a test's verdict, is for the passengers: on trio it would end the run
                    raise
            else:
                self._land(flight, (result,))

        try:
            if timeout is not None:
                flight.timer = flight.home.call_later(timeout, lambda: self._expire(flight, timeout))
            flight.task = flight.home.detach(fly, lambda: self._land(flight))
        except BaseException:  # such as trio's in its last moments: nobody flies it, and the key must not be lost
            self._land(flight)
            raise
        if flight.landed:  # by an abort from another thread, before there was a task to cancel; or by an eager task
            self._recall(flight)

    def _land(self, flight: Flight[T], result: tuple[T] | None = None, error: BaseException | None = None) -> None:
        """The first landing counts. What `look` is to find must be there before."""
        with self.guard():
            if flight.landed:
                return
            flight.result, flight.error = result, error
            flight.landed = True  # last: others look without the lock
            if self._aloft.get(flight.key) is flight:  # by identity: the key may fly again
                del self._aloft[flight.key]
            passengers, flight.passengers = flight.passengers, {}
        if flight.timer is not None:
            flight.home.call_soon(flight.timer.cancel)
        for home, watch in flight.watches.items():
            home.call_soon(watch.cancel)
        by_home: dict[Home, list[Seat]] = {}
        for seat, home in passengers.items():
            by_home.setdefault(home, []).append(seat)
        for home, seats in by_home.items():
            home.call_soon(_disembark, seats, flight)

    def _abort(self, flight: Flight[T], error: TokenError | None) -> None:
        self._land(flight, error=error)
        self._recall(flight)

    def _recall(self, flight: Flight[T]) -> None:
        at_home = _on(flight.home)
        for errand in (flight.task, flight.timer):
            if errand is None:
                continue
            if at_home:  # at once: on trio it would have another turn before it hears of it
                errand.cancel()
            else:
                flight.home.call_soon(errand.cancel)

    def _expire(self, flight: Flight[T], timeout: float) -> None:
        words = f"no token within {timeout:g} s (acquire_timeout): the authority may be down, try again later"
        if not flight.landed:
            self._abort(flight, AuthorityUnavailable(words, code="timeout"))

    def _leave(self, flight: Flight[T], seat: Seat) -> None:
        """Leaving early changes nothing for anybody else; only a flight that its passengers own ends with the last."""
        if not flight.owned:
            flight.passengers.pop(seat, None)
        # If our loop is gone this is the garbage collector, perhaps within code that holds the lock.
        elif not flight.landed and flight.passengers.get(seat, flight.home).alive():
            with self.guard():
                last = flight.passengers.pop(seat, None) is not None and not flight.passengers
            if last:
                self._abort(flight, None)  # lost: who came aboard meanwhile, on another loop, launches anew


def _on(home: Home) -> bool:
    try:
        return here() == home
    except RuntimeError:  # no loop is running here, or none of its tasks
        return False


def _disembark(seats: list[Seat], flight: Flight[Any]) -> None:
    """On the loop of these seats."""
    for seat in seats:
        if seat.done():
            continue
        if flight.result is not None:
            seat.set_result(flight.result[0])
        else:
            seat.set_exception(NothingCame() if flight.error is None else copy_of(flight.error))
            seat.exception()  # or asyncio would complain of a task that is cancelled in this very moment
