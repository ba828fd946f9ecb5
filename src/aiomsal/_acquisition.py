"""The way of one request from a flight to the authority and back: look, prepare, lock, look again, ask, save."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from ._client import Attempt, PeopleClient
from ._errors import AuthorityError, InteractionRequired, TokenError
from ._flight import NothingCame
from ._records import session_record_key, token_record_key
from ._spawn import insist

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from ._client import Acquired, TokenClient
    from ._records import Session
    from ._sessions import Sessions
    from ._shelf import Shelf
    from ._token import Token, TokenRequest


class Acquisition:
    """One flight's errand. Made for one request, used once, on the flight's loop."""

    def __init__(
        self,
        request: TokenRequest,
        *,
        client: TokenClient,
        shelf: Shelf,
        sessions: Sessions,
        timeout: float,
        clock: Callable[[], float],
        accepts: Callable[[Token], bool],
        patient: bool,
    ) -> None:
        self._request = request
        self._client = client
        self._shelf = shelf
        self._sessions = sessions
        self._timeout = timeout
        self._clock = clock
        self._accepts = accepts
        self._patient = patient
        self._key = client.session_key(request)

    async def run(self) -> tuple[Token, bool, int]:
        """The token, recorded and not yet published; whether it came from the authority; for which generation.

        When this returns, nothing has been awaited since the account was seen to be still signed in.

        Raises:
            NothingCame: not `patient`, and somebody else holds the lock, who is at it.
            TokenError: whatever kept the token away.
        """
        generation = self._sessions.generation(self._key)
        token, new = await self._fetch()
        if self._key is None or token.account is None:  # nobody who could have left
            return token, new, self._sessions.generation(self._key)
        return token, new, await self._sessions.confirm(self._key, token.account.home_account_id, generation)

    async def _fetch(self) -> tuple[Token, bool]:
        deadline = anyio.current_time() + self._timeout
        failure: TokenError | None = None
        for attempt in itertools.count():
            session = await self._session()
            if (token := await self._recorded(session)) is not None:
                return token, False
            if session is None and self._key is not None and isinstance(self._client, PeopleClient):
                return await self._ask(None), True  # nobody has signed in: it says so, and that needs no network
            await self._client.prepare(self._request, Attempt(attempt, failure, deadline))
            async with self._lock() as mine:
                if not mine:
                    raise NothingCame
                session = await self._session()
                if (token := await self._recorded(session)) is not None:
                    return token, False
                try:
                    return await self._ask(session), True
                except AuthorityError as error:
                    failure = error  # whether to try again is the client's to say, without the lock
            await anyio.lowlevel.checkpoint()  # a client that waits for nothing must not take the loop with it
            if anyio.current_time() >= deadline:
                raise failure
        raise AssertionError  # itertools.count() does not end

    def _lock(self) -> AbstractAsyncContextManager[bool]:
        if self._key is not None:
            return self._shelf.lock(session_record_key(self._key), wait=self._patient)
        if self._shelf.keeps_tokens:
            return self._shelf.lock(token_record_key(self._request, None), wait=self._patient)
        return nullcontext(True)  # noqa: FBT003 -- in this process alone, the flight is the lock

    async def _session(self) -> Session | None:
        return None if self._key is None else await self._sessions.load(self._key)

    async def _recorded(self, session: Session | None) -> Token | None:
        """What another flight, here or in another process, has brought meanwhile, if this one accepts it."""
        if not self._shelf.keeps_tokens or (self._key is not None and session is None):
            return None
        token = await self._shelf.token(token_record_key(self._request, session))
        return token if token is not None and self._accepts(token) else None

    async def _ask(self, session: Session | None) -> Token:
        if (refusal := self._sessions.refusal(self._request, session)) is not None:
            raise refusal
        try:
            acquired = await self._client.acquire(self._request, None if session is None else session.data)
        except InteractionRequired as error:
            self._sessions.refuse(self._request, session, error)
            raise
        token = acquired.token
        if not token.obtained_at:
            token = dataclasses.replace(token, obtained_at=self._clock())
        before = session
        if self._key is not None and acquired.session is not None:
            session = await insist(partial(self._save, session, acquired))
        if self._shelf.keeps_tokens and (before is None or before.id == (session or before).id):
            await self._shelf.put_token(token_record_key(self._request, session), token)
        return token

    async def _save(self, session: Session | None, acquired: Acquired) -> Session:
        account = acquired.token.account
        data = acquired.session or b""
        return await self._sessions.save(self._key or "", session, data, account.home_account_id if account else "")
