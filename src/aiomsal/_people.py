"""Signing in and out: one person is asked at a time, and what comes of it is saved before it is held."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ._client import SignInClient, WebSignInClient
from ._errors import AccountRequired, InteractionRequired, SignInError, StoreError, copy_of
from ._records import flow_record_key, token_record_key
from ._spawn import insist
from ._token import same_username
from ._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._asked import SignInRequest, TenantProfile
    from ._client import Acquired, PeopleClient
    from ._sessions import Sessions
    from ._shelf import Shelf
    from ._token import Account, Token, TokenRequest


class People:
    """The people of a manager's client. Any thread, any event loop.

    Invariant: a set of accounts that has changed in the store is changed for the manager too, with nothing that can
    be cancelled between. The mutable state of this object is whose turn it is to be asked, who refused last, and two
    counters.
    """

    def __init__(
        self,
        client: PeopleClient,
        sessions: Sessions,
        shelf: Shelf,
        *,
        silent: Callable[[TokenRequest, Token | None], Awaitable[Token]],
        unbind: Callable[[str, str], int],
        publish: Callable[[TokenRequest, Token, int], Token],
    ) -> None:
        self._client = client
        self._asks = client if isinstance(client, SignInClient) else None
        self._sessions = sessions
        self._shelf = shelf
        self._silent = silent
        self._unbind = unbind
        self._publish = publish
        self._asking = Turns()
        self._refused: dict[tuple[str, str], SignInError] = {}
        self.acquired = 0
        self.failed = 0

    @property
    def can_be_asked(self) -> bool:
        """Whether the client has a way to ask."""
        return self._asks is not None and self._asks.can_ask

    @property
    def web_client(self) -> WebSignInClient:
        """The client, if it can sign the users of a web application in; raises TypeError."""
        if not isinstance(self._client, WebSignInClient):
            raise TypeError(f"{type(self._client).__name__} signs in no users of web applications")
        return self._client

    async def accounts(self) -> tuple[Account, ...]:
        """Who has signed in."""
        key = self._client.session_of(None)
        if key is None:
            raise TypeError("this client keeps a session for each user: keep the accounts in your own sessions")
        return await self._sessions.accounts(key)

    async def profiles(self, account: str) -> tuple[TenantProfile, ...]:
        """A home account id's profiles."""
        return await self._sessions.profiles(self._session_of(account), account)

    async def sign_out(self, account: str) -> None:
        """Forget a home account id."""
        key = self._session_of(account)
        try:
            await self._sessions.leave(key, account)
        finally:  # the store may have done it although we did not hear of it
            self._unbind(key, account)

    def generation(self, request: TokenRequest) -> int:
        """Which set of accounts there is for this request."""
        return self._sessions.generation(self._client.session_key(request))

    async def ask(
        self,
        asked: SignInRequest,
        *,
        instead_of: TokenRequest | None = None,
        rejected: Token | None = None,
        generation: int = -1,
    ) -> Token:
        """Ask a person, when it is our turn. If somebody signed in while we waited, a refresh token may do."""
        person = asked.request.account, asked.login_hint
        seen = self._refused.get(person)
        async with self._asking.take("a person"):
            refusal = self._refused.get(person)
            if instead_of is not None and refusal is not None and refusal is not seen:
                raise copy_of(refusal)  # who has just said no is not to be asked by everybody in the queue
            if instead_of is not None and generation != self.generation(instead_of):
                try:
                    return await self._silent(instead_of, rejected)
                except InteractionRequired as error:
                    if not a_sign_in_helps(error):
                        raise
            if not asked.login_hint and asked.request.account:
                asked = asked._replace(login_hint=await self._username(asked.request.account))
            assert self._asks is not None, "somebody has looked whether it can be asked"
            try:
                return await self._signed_in(asked.request, instead_of or asked.request, self._asks.sign_in(asked))
            except SignInError as error:
                if instead_of is not None:
                    self._refused = {person: copy_of(error)}
                raise

    async def complete(self, flow: Mapping[str, Any], params: Mapping[str, str]) -> Token:
        """Take the answer to a web sign-in: the first that comes, and no other."""
        client = self.web_client
        request = client.answered(flow, params).request
        if not await self._shelf.claim(flow_record_key(flow["state"]), flow["expires_at"]):
            raise SignInError("this sign-in has been completed before: begin another", code="flow_completed")
        return await self._signed_in(request, request, client.complete_sign_in(flow, params))

    async def _signed_in(
        self, request: TokenRequest, instead_of: TokenRequest, signing_in: Awaitable[Acquired]
    ) -> Token:
        """Have somebody sign in, save it, and hold its token."""
        try:
            acquired = await signing_in
            account = _expected(request, instead_of, acquired)
        except Exception:
            self.failed += 1
            raise
        self.acquired += 1
        return await self._enter(request, acquired, account, instead_of)

    async def _enter(
        self, request: TokenRequest, acquired: Acquired, account: Account, instead_of: TokenRequest
    ) -> Token:
        token, home = acquired.token, account.home_account_id
        key = self._session_of(home)
        before = self._sessions.generation(key)
        session = await insist(partial(self._sessions.enter, key, acquired.session or b""))
        entered = generation = self._unbind(key, "")
        if entered != before + 1:  # somebody has come or gone meanwhile: perhaps this account, before we heard of it
            generation = await self._sessions.confirm(key, home, before)
        # A call that names no account means the one there is; and where there are several, or sessions of their own,
        # none: the token is held for its account only.
        shared = self._client.session_of(None) is not None
        alone = shared and session is not None and len(self._client.accounts(session.data)) == 1
        bound = {"generation": entered} if alone else {"account": home, "login_hint": ""}
        asked = dict.fromkeys((request._replace(login_hint=""), request, instead_of))
        requests = [*dict.fromkeys(each._replace(**bound) if each.unbound else each for each in asked)]
        if self._shelf.keeps_tokens and session is not None:
            await self._shelf.put_token(token_record_key(requests[0], session), token)
            generation = await self._sessions.confirm(key, home, generation)
        published, *_ = [self._publish(each, token, generation) for each in requests]
        return published

    async def _username(self, account: str) -> str:
        """What to fill in for a home account id, if it is known here."""
        with suppress(StoreError):  # it is but a help
            for known in await self._sessions.accounts(self._session_of(account)):
                if known.home_account_id == account:
                    return known.username
        return ""

    def _session_of(self, account: str) -> str:
        key = self._client.session_of(account)
        if key is None:
            raise TypeError("a client that signs people in names a session for each account (session_of)")
        return key


def a_sign_in_helps(error: InteractionRequired) -> bool:
    """Whether asking a person would resolve it; among several accounts it would not tell which of them was meant."""
    return not (isinstance(error, AccountRequired) and error.candidates)


def _expected(request: TokenRequest, instead_of: TokenRequest, acquired: Acquired) -> Account:
    """Whoever signed in; raises if it is nobody, or not the one asked for."""
    account = acquired.token.account
    if account is None or acquired.session is None:
        raise SignInError("the sign-in names no account: nothing can be kept of it", code="no_account")
    if request.account not in ("", account.home_account_id):
        raise SignInError(
            "another account signed in than the one asked for: nothing was kept; sign in again, with that account",
            code="wrong_account",
        )
    hint = instead_of.login_hint  # of a call for a token, which is for this user; that of a sign-in only fills the page
    if hint and not same_username(hint, account.username):
        raise SignInError(
            f"{account.username or 'somebody'} signed in, and the call was for {hint}: nothing was kept; ask again, or "
            'let the person choose, sign_in(..., prompt="select_account")',
            code="wrong_account",
        )
    return account
