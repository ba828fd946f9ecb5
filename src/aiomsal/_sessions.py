"""Refresh tokens and accounts: load, save, enter, leave; and what only a person can resolve, remembered for a while."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Final

from ._client import PeopleClient
from ._errors import Classification, InteractionRequired, StoreError, copy_of
from ._records import Session, new_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._asked import TenantProfile
    from ._client import TokenClient
    from ._shelf import Shelf
    from ._token import Account, TokenRequest

logger = logging.getLogger("aiomsal")

CONFLICTS: Final = 100
"""How often a sign-in tries to save its session; more is not others who write, but a store that is broken."""
REMEMBER: Final = 60.0
"""Seconds for which a refusal that only a person can lift is believed without asking again."""
MOST_REFUSALS: Final = 10_000
STRIPES: Final = 1_024
"""How many counts of sign-ins and sign-outs there are; sessions that share one are only looked at once too often."""


class Sessions:
    """The sessions of one client on a shelf. Any thread, any event loop.

    Invariant: a session is written only over the version it was made from. So a refresh that comes home late neither
    brings back an account that has left, nor overwrites a newer refresh token. The mutable state of this object is
    the refusals it remembers and the generations; everything else is in the store.
    """

    def __init__(self, shelf: Shelf, client: TokenClient, clock: Callable[[], float]) -> None:
        self._shelf = shelf
        self._client = client
        self._knows_people = isinstance(client, PeopleClient)
        self._clock = clock
        self._generations = [0] * STRIPES
        self._refusals: dict[TokenRequest, tuple[int, float, InteractionRequired]] = {}

    def generation(self, key: str | None) -> int:
        """Counts the sign-ins and sign-outs in a session that were seen here: which set of accounts it has."""
        return 0 if key is None else self._generations[hash(key) % STRIPES]

    def changed(self, key: str) -> int:
        """Note that accounts have come or gone; the generation from now on. Under a lock of the caller's."""
        stripe = hash(key) % STRIPES
        self._generations[stripe] += 1
        return self._generations[stripe]

    async def load(self, key: str) -> Session | None:
        """The session as it is now."""
        return await self._shelf.session(key)

    async def accounts(self, key: str) -> tuple[Account, ...]:
        """Who is in it."""
        session = await self.load(key)
        return () if session is None else self._people().accounts(session.data)

    async def profiles(self, key: str, account: str) -> tuple[TenantProfile, ...]:
        """An account's profiles in it."""
        session = await self.load(key)
        return () if session is None else self._people().profiles(session.data, account)

    async def save(self, key: str, before: Session | None, data: bytes, account: str) -> Session:
        """Save what an acquisition made of a session. May be repeated, if it was interrupted.

        Raises:
            InteractionRequired: the account has left while the acquisition was aloft.
        """
        after = new_session(data) if before is None else Session(before.id, data)
        while not await self._shelf.swap_session(key, before, after):
            current = await self.load(key)
            if current is None or (before is not None and current.id != before.id and not self._knows_people):
                break
            if current.data == data:
                return current
            before, after = current, Session(current.id, self._merged(current, data, sign_in=False))
        else:
            if not account or not self._knows_people or self._has(after, account):
                return after
        raise _signed_out()

    async def enter(self, key: str, update: bytes) -> Session | None:
        """Add what a sign-in brought; None where it could not be read or saved, so nobody knows who else is there.

        May be repeated, if it was interrupted.

        Another set of accounts is another session: token records of calls that named no account are orphaned with it.
        """
        for conflicts in itertools.count():
            try:
                before = await self.load(key)
            except StoreError:  # the person has been asked: the token is handed out, though it cannot be kept
                if self._shelf.raising:
                    raise
                return None
            merged = self._merged(before, update, sign_in=True)
            same = before is not None and self._accounts_of(before.data) == self._accounts_of(merged)
            after = Session(before.id, merged) if before is not None and same else new_session(merged)
            if await self._shelf.swap_session(key, before, after):
                return after
            if conflicts == CONFLICTS:
                logger.warning(
                    "a sign-in could not be saved: what the token store has can be neither read nor replaced"
                )
                return None
        raise AssertionError  # itertools.count() does not end

    async def leave(self, key: str, account: str) -> None:
        """Remove an account. What is left has a new identifier, which orphans the token records of the old."""
        while (before := await self.load(key)) is not None and self._has(before, account):
            rest = self._people().without(before.data, account)
            after = None if rest is None else new_session(rest)
            if await self._shelf.swap_session(key, before, after, sure=True):
                return

    async def confirm(self, key: str, account: str, generation: int) -> int:
        """See that an account is still signed in, if anybody has come or gone since a generation; that of now.

        Nothing is awaited between what it has seen and its return.

        Raises:
            InteractionRequired: it is not.
        """
        while generation != self.generation(key):
            generation = self.generation(key)
            session = await self.load(key)
            if session is None or not self._has(session, account):
                raise _signed_out()
        return generation

    def refuse(self, request: TokenRequest, session: Session | None, error: InteractionRequired) -> None:
        """Remember that this session cannot serve this request."""
        if len(self._refusals) >= MOST_REFUSALS:
            self._refusals.clear()
        self._refusals[request] = (hash(session), self._clock(), error)

    def refusal(self, request: TokenRequest, session: Session | None) -> InteractionRequired | None:
        """What is remembered of this request, if the session is still the one that was refused."""
        found = self._refusals.get(request)
        if found is None:
            return None
        refused, since, error = found
        if refused == hash(session) and since <= self._clock() < since + REMEMBER:
            return copy_of(error)
        self._refusals.pop(request, None)
        return None

    def _has(self, session: Session, account: str) -> bool:
        return account in self._accounts_of(session.data)

    def _accounts_of(self, data: bytes) -> set[str]:
        return {known.home_account_id for known in self._people().accounts(data)}

    def _merged(self, session: Session | None, update: bytes, *, sign_in: bool) -> bytes:
        if isinstance(self._client, PeopleClient):
            return self._client.merge(None if session is None else session.data, update, sign_in=sign_in)
        return update if session is None else session.data  # whoever wrote it meanwhile has the newer refresh token

    def _people(self) -> PeopleClient:
        if not isinstance(self._client, PeopleClient):
            raise TypeError(f"{type(self._client).__name__} knows no people: accounts and sign-in need a PublicClient")
        return self._client


def _signed_out() -> InteractionRequired:
    return InteractionRequired(
        "the account signed out while its token was being refreshed: sign in again",
        code="signed_out",
        classification=Classification.ACQUIRE_TOKEN_SILENT_FAILED,
    )
