"""What stands between us and the authority's host: patience, retries and a breaker.

All of it waits on the event loop, before lock and thread: a worker thread never sleeps, and a dead authority occupies
none.

Retried is what brought no answer, or one that says "later": a connection refused, broken or silent, a 5xx, a 408, a
429. Any other answer is an answer, be it one that nobody can read, and the same question would get it again.

A request that may have arrived before its connection broke is repeated too. An application's own does nothing but
issue a token. A refresh token may have been used up by it, and its successor lost with the answer; then the old one is
all there is, and the next call would send it as well. Authorities that rotate allow for that, for a while: the sooner
the better. (Codes that work once are not asked for here.)
"""

from __future__ import annotations

import random as random_module
import threading
import time
from typing import TYPE_CHECKING, Final

import anyio

from aiomsal._errors import AuthorityUnavailable, Throttled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiomsal._client import Attempt
    from aiomsal._errors import TokenError

ATTEMPTS: Final = 3
"""How often one flight asks, in all."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 8.0
"""Seconds; the wait is drawn from zero to this ("full jitter"), so that those who failed together do not return so."""
UNASKED_PAUSE: Final = 5.0
"""Seconds of patience after a 429 that does not say how many."""
REQUEST_TIMEOUT: Final = 408
"""The one 4xx besides 429 that asks for the request once more (RFC 9110 section 15.5.9)."""
STRIKES: Final = 5
"""How many requests in a row find nobody before the breaker opens."""
FIRST_PROBE, LONGEST_PROBE = 5.0, 60.0
"""Seconds until a probe; doubled each time a probe finds nobody."""
PROBE_TAKES: Final = 30.0
"""Seconds after which a probe that was not heard of counts as lost (its flight may have been cancelled)."""


def may_pass(failure: TokenError) -> bool:
    """Whether the same request may fare better in a while."""
    if isinstance(failure, AuthorityUnavailable):
        return failure.status is None or failure.status == REQUEST_TIMEOUT or failure.status >= 500
    return isinstance(failure, Throttled)


class Gate:
    """One client's gate to one authority host. Any thread and any event loop.

    What marks it is about the host, never about one user: 429, a 5xx with Retry-After, and no reply at all. A plain
    5xx leaves no mark: it may be one user's. The mutable state of this object is four numbers, under a plain lock.
    """

    def __init__(
        self,
        host: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._host = host
        self._clock = clock  # not the loop's: several loops share this gate, and trio's clock starts anywhere
        self._random = random
        self._sleep = sleep
        self._lock = threading.Lock()
        self._welcome_at = 0.0
        self._strikes = 0
        self._reason = ""
        self._probe_at: float | None = None
        self._until_probe = FIRST_PROBE

    async def admit(self, attempt: Attempt) -> None:
        """Return when this attempt may go out; raise if it is not to be made, or not before its deadline.

        Raises:
            Throttled: the authority wants more patience than the deadline leaves.
            AuthorityUnavailable: the breaker is open.
            TokenError: the failure that another attempt would not mend.
        """
        failure, backoff = attempt.failure, 0.0
        if failure is not None:
            if attempt.number >= ATTEMPTS or not may_pass(failure):
                raise failure
            backoff = self._random() * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (attempt.number - 1))
        while True:
            self._ask_breaker(failure, probe=False)  # nobody waits in order to be told then
            pause = self._welcome_at - self._clock()
            delay = max(backoff, pause)
            if delay <= 0:
                break
            if anyio.current_time() + delay >= attempt.deadline:
                raise self._too_late(pause, failure)
            spread = self._random() * min(1.0, pause / 10) if pause > 0 else 0.0  # not all at the same instant
            await self._sleep(delay + spread)
            backoff = 0.0
        self._ask_breaker(failure, probe=True)

    def note(self, status: int | None, retry_after: float | None = None, *, reason: str = "") -> None:
        """Learn from an exchange: the status of its reply, or None, and why there was none. From any thread."""
        now = self._clock()
        with self._lock:
            if status is None:
                self._strikes += 1
                self._reason = reason
                if self._probe_at is not None:
                    self._probe_at = min(self._probe_at, now + self._until_probe)
                elif self._strikes >= STRIKES:
                    self._until_probe = FIRST_PROBE
                    self._probe_at = now + self._until_probe
                return
            self._strikes, self._probe_at = 0, None
            if status == 429 or (status >= 500 and retry_after is not None):
                self._welcome_at = max(self._welcome_at, now + (UNASKED_PAUSE if retry_after is None else retry_after))

    def _ask_breaker(self, failure: TokenError | None, *, probe: bool) -> None:
        """Raise if the breaker is open; the one who comes when a probe is due goes as that probe."""
        with self._lock:
            if self._probe_at is None:
                return
            wait = self._probe_at - self._clock()
            if wait <= 0:
                if probe:
                    self._until_probe = min(LONGEST_PROBE, 2 * self._until_probe)
                    self._probe_at = self._clock() + max(PROBE_TAKES, self._until_probe)
                return
        raise failure or AuthorityUnavailable(
            f"{self._host} was asked in vain {self._strikes} times in a row, and is left alone for {wait:.1f} s; "
            f"the last time: {self._reason}",
            code="unreachable",
        )

    def _too_late(self, pause: float, failure: TokenError | None) -> TokenError:
        if pause <= 0 and failure is not None:
            return failure
        return Throttled(
            f"{self._host} asks for patience: a request is welcome in {pause:.0f} s, which is after the deadline",
            code="throttled" if failure is None else failure.code,
            retry_after=pause,
            correlation_id="" if failure is None else failure.correlation_id,
        )
