"""The tokens held in memory, by request: how long each is fresh and usable, and which goes when it is full."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from ._token import Token, TokenRequest

logger = logging.getLogger("aiomsal")

KEYWORDS: Final = object()
"""Begins the key of a call with keywords or several scopes, so that nothing a caller passes can be equal to it."""
NEVER: Final = -math.inf
TEN_YEARS: Final = 10 * 365.25 * 86_400
UNBELIEVABLE_LIFE: Final = 3600.0
"""How long a token is held whose lifetime cannot be believed: the platform's usual hour, so that nothing storms."""
A_MINUTE: Final = 60.0
MOST_MOMENTS: Final = 10_000
"""How many seconds are shared, at most."""
CHANCES: Final = 8
"""How many entries an eviction looks at, at most."""
ALIASES: Final = 4
"""How many ways of writing one call are remembered."""


class Held:
    """One request's token in memory. It is written in place, so that whoever has found it once need not look again.

    Invariant, also for a reader in another thread: before `fresh_until`, `token` may be handed out, unless the clock
    has gone back (`HotTokens.since`).
    """

    __slots__ = ("_leeway", "aliases", "fresh_until", "number", "request", "token", "used")

    def __init__(self, request: TokenRequest, token: Token) -> None:
        self.request = request
        self.token = token
        self.number = 0
        """That of the flight which brought the token: one launched later wins."""
        self.used = False
        self.aliases: tuple[Hashable, ...] = ()
        """The keys it is found by, but for a single scope."""
        self.kill()

    @property
    def held(self) -> bool:
        """Whether it has not been killed."""
        return self._leeway != math.inf

    @property
    def usable_until(self) -> float:
        """The last moment at which the token may be handed out."""
        return self.token.expires_at - self._leeway

    def usable(self, now: float) -> bool:
        """Whether the token may still be handed out, though it may be time to refresh it.

        A clock that has gone back by less than the leeway is believed: the expiry was that much ahead.
        """
        return self.token.obtained_at - self._leeway <= now < self.usable_until

    def date(self, token: Token, number: int, leeway: float) -> None:
        """Hold another token. Its own dates are shared, not copied: there may be 100,000 of us."""
        self.kill()  # a reader sees the old token with no date, or the new one with the old or new dates
        self.token = token
        self.number = number
        self._leeway = leeway
        self.fresh_until = token.refresh_at

    def kill(self) -> None:
        """Never hand it out again; whoever still has a reference has to look anew."""
        self._leeway = math.inf
        self.fresh_until = NEVER

    def postpone(self, now: float, pause: float) -> None:
        """Let callers have the old token for a while before one of them tries to refresh it again."""
        rest = max(self.usable_until - now, 0.0)
        postponed = min(self.usable_until, now + min(pause, max(1.0, rest / 4)))
        self.fresh_until = max(self.fresh_until, postponed)  # a newer token may have come in between


class HotTokens:
    """A bounded dict from requests to held tokens, with aliases that spare making the request.

    Who is evicted: the first of a few candidates that has expired, else one that has not been read since the hand
    last passed (the CLOCK algorithm), in time that does not depend on how many are held. Not locked: writing is for
    one thread at a time, reading for any.
    """

    def __init__(self, max_tokens: int, *, refresh_ahead: float, leeway: float, random: Callable[[], float]) -> None:
        self._max_tokens = max_tokens
        self._refresh_ahead = refresh_ahead
        self._leeway = leeway
        self._random = random
        self._held: dict[TokenRequest, Held] = {}
        self._ring: list[Held] = []  # every entry of _held, and those dropped since the hand last came by
        self._hand = 0
        self._moments: dict[float, float] = {}
        self._told = False
        self.aliases: dict[Hashable, Held] = {}
        self.since = NEVER
        """Nothing held was obtained later: an earlier now is a clock that has gone back."""
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, request: TokenRequest) -> Held | None:
        """What is held for a request, usable or not."""
        return self._held.get(request)

    def put(self, requests: Sequence[TokenRequest], token: Token, number: int, now: float) -> Token:
        """Hold a token for each of these requests, unless one is held that a later flight brought.

        Returns the token with the dates it has here: until when it is fresh is each reader's own.
        """
        token, leeway = self._dated(token, now)
        for request in requests:
            held = self._held.get(request)
            if held is None:
                held = Held(request, token)
                self._make_room(held, now)
                self._held[request] = held
            if number >= held.number:
                held.date(token, number, leeway)
        self.since = max(self.since, token.obtained_at)
        return token

    def alias(self, held: Held, key: Hashable) -> None:
        """Find what is held by a call too: its one scope, or a tuple of `KEYWORDS`, its scopes and its keywords."""
        scopes = held.request.scopes
        if self._held.get(held.request) is not held:
            return
        if isinstance(key, tuple):
            _, theirs, *keywords = cast("tuple[object, ...]", key)
            key = (KEYWORDS, scopes if theirs == scopes else theirs, *keywords)  # the tuple that is here already
        if (key,) == scopes:
            self.aliases[scopes[0]] = held
        elif key not in held.aliases and len(held.aliases) < ALIASES:
            held.aliases += (key,)
            self.aliases[key] = held

    def drop(self, held: Held) -> None:
        """Hold it no longer."""
        held.kill()
        for key in (*held.request.scopes[:1], *held.aliases):
            if self.aliases.get(key) is held:
                del self.aliases[key]
        held.aliases = ()
        if self._held.get(held.request) is held:
            del self._held[held.request]

    def tidy(self) -> None:
        """Let go of what was dropped: until then it stays where it was, token and all, for the hand to come by."""
        self._ring = [held for held in self._ring if held.held]
        self._hand = 0

    def rewind(self, now: float) -> None:
        """The clock has gone back to now: drop what it says was obtained in the future."""
        for held in self:
            if held.token.obtained_at > now and not held.usable(now):
                self.drop(held)
        self.tidy()
        self.since = now

    def accepts(self, token: Token, now: float, *, fresh: bool) -> bool:
        """Whether a token from elsewhere can be trusted, and is usable; with `fresh`, not due for a refresh either."""
        life = token.expires_at - token.obtained_at
        if not 0 < life <= TEN_YEARS:  # NaN too
            return False
        leeway = min(self._leeway, life / 10)
        until = token.expires_at - leeway
        if fresh:
            # As early as any jitter may have it refreshed here, or the flight would bring back what it left for.
            refresh_at = self._refresh_at(token, token.expires_at)
            until = min(until, refresh_at - self._jitter(token, refresh_at))
        return token.obtained_at - leeway <= now < until

    def _refresh_at(self, token: Token, expires_at: float) -> float:
        """When to refresh: ahead of the expiry, or earlier if the authority says so."""
        life = max(expires_at - token.obtained_at, 0.0)
        ours = expires_at - min(self._refresh_ahead, life / 2)
        # Advice to refresh a token at once, or before there was one, is none: each refresh would call for the next.
        return min(ours, token.refresh_at) if token.refresh_at > token.obtained_at else ours

    def _jitter(self, token: Token, refresh_at: float) -> float:
        """How much earlier a reader may refresh, at most."""
        return min(self._refresh_ahead, max(refresh_at - token.obtained_at, 0.0)) / 10

    def _dated(self, token: Token, now: float) -> tuple[Token, float]:
        """The token with an expiry that can be believed and the time at which to refresh it, and its leeway."""
        expires_at = token.expires_at
        if not expires_at - now <= TEN_YEARS:  # NaN too
            logger.warning("a token said to live for more than ten years is held for an hour")
            expires_at = now + UNBELIEVABLE_LIFE
        if expires_at <= now and not self._told:
            self._told = True
            logger.warning(
                "a token came that had expired %.0f s before: its dates are to be epoch seconds, by the clock that the "
                "client and the manager share",
                now - expires_at,
            )
        leeway = min(self._leeway, max(expires_at - token.obtained_at, 0.0) / 10)
        refresh_at = self._refresh_at(token, expires_at)
        refresh_at = min(expires_at - leeway, refresh_at - self._random() * self._jitter(token, refresh_at))
        if refresh_at - token.obtained_at > A_MINUTE:
            refresh_at = self._moment(refresh_at)
        return dataclasses.replace(token, expires_at=expires_at, refresh_at=refresh_at), leeway

    def _moment(self, time: float) -> float:
        """The whole second before a time, as an object that many tokens share, which keeps it in the CPU's cache."""
        if len(self._moments) >= MOST_MOMENTS:
            self._moments.clear()
        second = float(math.floor(time))
        return self._moments.setdefault(second, second)

    def _make_room(self, held: Held, now: float) -> None:
        """Put a new entry into the ring, in the place of another if it is full."""
        if len(self._ring) < self._max_tokens:
            self._ring.append(held)
            return
        victim = self._victim(now)
        if self._held.get(self._ring[victim].request) is self._ring[victim]:
            self.drop(self._ring[victim])
            self.evicted += 1
        self._ring[victim] = held

    def _victim(self, now: float) -> int:
        unused = None
        for _ in range(min(CHANCES, len(self._ring))):
            place = self._hand
            self._hand = (place + 1) % len(self._ring)
            candidate = self._ring[place]
            if not candidate.usable(now):
                return place
            if not candidate.used and unused is None:
                unused = place
            candidate.used = False
        return self._hand if unused is None else unused
