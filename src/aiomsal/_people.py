"""Signing in and out: one person is asked at a time, and what comes of it is saved before it is held."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from ._errors import AccountRequired, InteractionRequired, SignInError
from ._records import token_record_key
from ._spawn import insist
from ._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._client import Acquired, SignInClient
    from ._sessions import Sessions
    from ._shelf import Shelf
    from ._token import Account, Token, TokenRequest


class People:
    """The people of a manager's client. Any thread, any event loop.

    Invariant: a set of accounts that has changed in the store is changed for the manager too, with nothing that can
    be cancelled between. The mutable state of this object is whose turn it is to be asked, and two counters.
    """

    def __init__(
        self,
        client: SignInClient,
        sessions: Sessions,
        shelf: Shelf,
        *,
        silent: Callable[[TokenRequest, Token | None], Awaitable[Token]],
        unbind: Callable[[str], int],
        publish: Callable[[TokenRequest, Token, int], Token],
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._shelf = shelf
        self._silent = silent
        self._unbind = unbind
        self._publish = publish
        self._asking = Turns()
        self.acquired = 0
        self.failed = 0

    @property
    def can_be_asked(self) -> bool:
        """Whether the client has a way to ask."""
        return self._client.can_ask

    async def accounts(self) -> tuple[Account, ...]:
        """Who has signed in."""
        key = self._client.session_of(None)
        if key is None:
            raise TypeError("this client keeps a session for each user: keep the accounts in your own sessions")
        return await self._sessions.accounts(key)

    async def sign_out(self, account: str) -> None:
        """Forget a home account id."""
        try:
            for key in {self._client.session_of(None), self._client.session_of(account)} - {None}:
                await self._sessions.leave(cast("str", key), account)
        finally:  # the store may have done it although we did not hear of it
            self._unbind(account)

    async def ask(
        self,
        request: TokenRequest,
        *,
        instead_of: TokenRequest | None = None,
        rejected: Token | None = None,
        generation: int = -1,
    ) -> Token:
        """Ask a person, when it is our turn. If somebody signed in while we waited, a refresh token may do."""
        async with self._asking.take("a person"):
            if instead_of is not None and generation != self._sessions.generation:
                try:
                    return await self._silent(instead_of, rejected)
                except InteractionRequired as error:
                    if not a_sign_in_helps(error):
                        raise
            try:
                acquired = await self._client.sign_in(request)
                account = _signed_in(request, acquired)
            except Exception:
                self.failed += 1
                raise
            self.acquired += 1
            return await self._enter(request, acquired, account, request if instead_of is None else instead_of)

    async def _enter(self, request: TokenRequest, acquired: Acquired, account: str, instead_of: TokenRequest) -> Token:
        """Save a sign-in, and hold its token."""
        token = acquired.token
        key = self._client.session_of(account)
        if key is None:
            raise TypeError("a client that signs people in names a session for each account (session_of)")
        before = self._sessions.generation
        session = await insist(partial(self._sessions.enter, key, acquired.session or b""))
        entered = generation = self._unbind("")
        if entered != before + 1:  # somebody has come or gone meanwhile: perhaps this account, before we heard of it
            generation = await self._sessions.confirm(key, account, before)
        alone = len(self._client.accounts(session.data)) == 1  # else a call that names no account is to ask which
        bound = {"generation": entered} if alone else {"account": account, "login_hint": ""}
        requests = [each._replace(**bound) if each.unbound else each for each in dict.fromkeys((request, instead_of))]
        if self._shelf.keeps_tokens:
            await self._shelf.put_token(token_record_key(requests[0], session), token)
            generation = await self._sessions.confirm(key, account, generation)
        published, *_ = [self._publish(each, token, generation) for each in requests]
        return published


def a_sign_in_helps(error: InteractionRequired) -> bool:
    """Whether asking a person would resolve it; among several accounts it would not tell which of them was meant."""
    return not (isinstance(error, AccountRequired) and error.candidates)


def _signed_in(request: TokenRequest, acquired: Acquired) -> str:
    """The home account id of whoever signed in; raises if it is nobody, or not the one asked for."""
    account = acquired.token.account
    if account is None or acquired.session is None:
        raise SignInError("the sign-in names no account: nothing can be kept of it", code="no_account")
    if request.account not in ("", account.home_account_id):
        raise SignInError(
            "another account signed in than the one asked for: sign in again, with that account", code="wrong_account"
        )
    return account.home_account_id
