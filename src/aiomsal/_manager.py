"""The token manager: fresh tokens are handed out, stale ones too while a flight refreshes them, cold ones awaited."""

from __future__ import annotations

import itertools
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self, Unpack, cast

from ._acquisition import Acquisition
from ._asked import SignInRequest
from ._client import PeopleClient
from ._errors import InteractionRequired, Throttled, TokenError
from ._flight import Flights, NothingCame
from ._hot import KEYWORDS, HotTokens
from ._people import People, a_sign_in_helps
from ._sessions import Sessions
from ._shelf import Shelf
from ._source import Source
from ._stats import Stats
from ._token import (
    Account,
    GetOptions,
    SourceOptions,
    Token,
    TokenRequest,
    TokenSource,
    canonical_scopes,
    check_options,
    merged_claims,
)
from .stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping
    from types import TracebackType

    from ._asked import ResponseMode, SignInFlow, SignInOptions, TenantProfile
    from ._client import TokenClient
    from ._hot import Held
    from .stores import TokenStore

logger = logging.getLogger("aiomsal")

PAUSE: Final = 30.0
"""Seconds between two attempts to refresh a token that still works."""
MOST_REQUESTS: Final = 1_024
"""How many calls are remembered with their requests until they have a token, and an alias with it."""
ALIASED: Final = frozenset({"account", "login_hint", "claims"})
"""The keywords that may become part of an alias: none holds a secret."""


class TokenManager:
    """Tokens from memory; from the authority once, however many ask; and refreshed before they end, while they work.

    One manager serves any number of coroutines, event loops and threads. It needs no `async with`: that, or
    `aclose()`, lets flights finish at the end.

    Invariant: once a flight is launched, every caller finds either that flight or its token. The mutable state of
    this object is the hot tokens, written under a plain lock and read without; the flights; and a few counters.

    Args:
        client: who we are: a `ConfidentialClient`, a `PublicClient`, or your own `TokenClient`.
        store: where sessions and tokens outlive the process; without one, sessions live in memory.
        max_tokens: how many tokens are held in memory.
        refresh_ahead: seconds before its expiry from which a token is refreshed if the authority gave no advice; at
            most half its lifetime.
        leeway: seconds before its expiry at which a token is no longer handed out; at most a tenth of its lifetime.
        acquire_timeout: seconds after which callers are let go with `AuthorityUnavailable`; a sign-in has no such end.
        on_store_error: "serve" goes on without the store, counting and logging; "raise" raises `StoreError`.
        clock: epoch seconds, for tests.
    """

    def __init__(
        self,
        client: TokenClient,
        *,
        store: TokenStore | None = None,
        max_tokens: int = 100_000,
        refresh_ahead: float = 300.0,
        leeway: float = 30.0,
        acquire_timeout: float = 60.0,
        on_store_error: Literal["serve", "raise"] = "serve",
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check(client, store, max_tokens=max_tokens, acquire_timeout=acquire_timeout)
        if not refresh_ahead >= 0 or not leeway >= 0:
            raise ValueError("refresh_ahead and leeway are seconds, 0 or more")
        if on_store_error not in ("serve", "raise"):
            raise ValueError(f'on_store_error is "serve" or "raise", not {on_store_error!r}')
        self._client = client
        self._acquire_timeout = acquire_timeout
        self._clock = clock
        self._shelf = Shelf(MemoryStore(clock=clock) if store is None else store, raising=on_store_error == "raise")
        self._sessions = Sessions(self._shelf, client, clock)
        self._hot = HotTokens(max_tokens, refresh_ahead=refresh_ahead, leeway=leeway, random=_random)
        self._aliases = self._hot.aliases
        self._flights: Flights[Token] = Flights()
        self._requests: dict[Hashable, TokenRequest] = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self._acquired = self._failed = self._refresh_failed = 0
        self._people: People | None = None
        if isinstance(client, PeopleClient):
            self._people = People(
                client,
                self._sessions,
                self._shelf,
                silent=self._silent,
                unbind=self._unbind,
                publish=lambda request, token, generation: self._publish(
                    request, token, next(self._numbers), generation
                ),
            )

    def __repr__(self) -> str:
        return f"<TokenManager of {self._client!r}, {len(self._hot)} tokens>"

    async def get(self, *scopes: str, **options: Unpack[GetOptions]) -> Token:
        """A token for these scopes that works now.

        From memory it never suspends. A token due for a refresh is returned at once, and refreshed behind it. Without
        one that works it waits for the one flight that all callers of the same request share; cancelling this call
        changes nothing for that flight. May ask a person, if the client was given a `sign_in` and nothing else helps.

        Keywords, as far as the client knows them:
            account: the user: an `Account` or its home account id.
            login_hint: the user name, to choose among the accounts that have signed in.
            claims: a claims challenge (JSON): a token obtained for it answers until it is itself rejected.
            rejected: the token that a resource refused: a new one, unless the one held is already another.

        Raises:
            TypeError: a keyword that is unknown, None or empty, or not for this kind of client.
            ValueError: scopes or keywords that cannot be right.
            InteractionRequired: a person is needed, and the client has no way to ask.
            SignInError: the person was asked, and it came to nothing.
            AuthorityError: the authority said no, or nothing.
            TokenError: whatever else kept the token away.
        """
        if not options:
            call: Hashable = scopes[0] if len(scopes) == 1 else (KEYWORDS, scopes)
        elif len(options) == 1 and "account" in options:  # as every call for a user has it: 60 ns less than below
            call = (KEYWORDS, scopes, options["account"])
        else:
            call = (KEYWORDS, scopes, None, *options.items())
        try:
            held = self._aliases.get(call)
        except TypeError:  # a part that cannot be hashed: a wrong one is told below, a right one has no alias
            held = call = None
        if held is not None and self._hot.since <= self._clock() < held.fresh_until:
            held.used = True
            return held.token
        request, rejected = held.request if held is not None else self._requests.get(call), None
        if request is None:
            request, rejected = self._read(scopes, cast("dict[str, object]", options))
            if call is not None and options.keys() <= ALIASED:
                self._remember(call, request)
            else:
                call = None
        if (token := self._at_hand(request, rejected, call)) is not None:
            return token
        try:
            return await self._cold(request, rejected, options.get("account"))
        except NothingCame:
            pass  # our seat was in a flight that was lost
        return await self._silent(request, rejected)

    async def get_silent(self, *scopes: str, **options: Unpack[GetOptions]) -> Token:
        """As `get`, but never asks a person: `InteractionRequired` says that only a person can help."""
        request, rejected = self._read(scopes, cast("dict[str, object]", options))
        token = self._at_hand(request, rejected)
        return await self._silent(request, rejected) if token is None else token

    def source(self, *scopes: str, **options: Unpack[SourceOptions]) -> TokenSource:
        """These scopes and keywords, checked once, as something to be asked for tokens: what adapters take.

        Its `get()` does what `get` does, faster, and raises the same errors; this call raises the first two.
        """
        request = self._read_lasting(scopes, options)
        return Source(request, self._hot, self._clock, partial(self._found_or_fetched, options.get("account")))

    async def accounts(self) -> tuple[Account, ...]:
        """Who has signed in; for clients whose users share one session, as `PublicClient`'s do."""
        return await self._known_people().accounts()

    async def tenant_profiles(self, account: Account | str) -> tuple[TenantProfile, ...]:
        """An account's profile in each tenant it was used in; empty if it has not signed in."""
        return await self._known_people().profiles(_home_account_id(account, "tenant_profiles"))

    async def sign_in(self, *scopes: str, **options: Unpack[SignInOptions]) -> Token:
        """Ask a person to sign in, in any case, and return the token. Equal calls at the same time share one sign-in.

        One person is asked at a time. It is aborted when the last of those who wait for it leaves. The keywords are
        those of `SignInOptions`.

        Raises:
            TypeError: this client knows no people, or was given no `sign_in`; or as `get`.
            ValueError: as `get`; or something is asked that this way to sign in cannot ask for.
            SignInError: refused, expired, answered by something else, or by another than `account`.
            InteractionRequired: `prompt="none"`, and the person would have had to do something.
        """
        people = self._known_people()
        if not people.can_be_asked:
            raise TypeError(
                f"{type(self._client).__name__} was given no sign_in, such as Browser(): it cannot ask a person; a web "
                "application calls begin_sign_in() and complete_sign_in()"
            )
        asked = self._read_sign_in(scopes, cast("dict[str, object]", options))
        return await self._flights.join(("sign in", asked), partial(people.ask, asked), owned=True)

    async def begin_sign_in(
        self,
        *scopes: str,
        redirect_uri: str,
        response_mode: ResponseMode = "query",
        **options: Unpack[SignInOptions],
    ) -> SignInFlow:
        """Begin a sign-in in a web application: keep the flow in the user's session, redirect to its `auth_uri`.

        Nothing is kept here, so the answer may reach another process; whoever completes it keeps the user's session
        (refresh token) in its store, which several processes must share. The first call asks for the authority's
        metadata, later ones do no I/O. With `response_mode="form_post"` the answer stays out of URLs, but the browser
        sends the session's cookie along only if that is `SameSite=None; Secure`.

        Keywords, besides those of `SignInOptions`:
            redirect_uri: where the answer is to go: https (or http on localhost), registered for the application.
            response_mode: how it goes there.

        Raises:
            TypeError, ValueError: as `get`; or a `redirect_uri` that cannot be right.
            TokenError: the authority's metadata could not be had.
        """
        client = self._known_people().web_client
        asked = self._read_sign_in(scopes, cast("dict[str, object]", options))
        return await client.begin_sign_in(asked, redirect_uri=redirect_uri, response_mode=response_mode)

    async def complete_sign_in(self, flow: Mapping[str, Any], params: Mapping[str, str]) -> Token:
        """The token of a sign-in that was begun, once: its `account` is who signed in, to keep in the user's session.

        `flow` is what `begin_sign_in` returned, as it came back from the user's session; `params` what the browser
        brought to the redirect URI, in the query or the form. Asks the authority once and never again, for a code
        works once. If the caller is cancelled, the sign-in is saved all the same. Afterwards `get(scope,
        account=token.account)` finds the token, and others by refresh token.

        Raises:
            ValueError: the flow is none that this client began, or was changed.
            SignInError: the answer does not belong to this flow, came too late, says that the person declined, or was
                used before. Begin another.
            InteractionRequired: as `sign_in`.
            AuthorityError: the authority said no, or nothing.
        """
        people = self._known_people()
        return await self._flights.join(object(), partial(people.complete, flow, params))

    async def sign_out(self, account: Account | str) -> None:
        """Forget an account: its refresh tokens, its tokens here, and what a refresh aloft may still bring.

        Another process on the same store refreshes no more; tokens in its memory serve to their expiry. The authority
        is not told: access tokens already sent stay valid.
        """
        await self._known_people().sign_out(_home_account_id(account, "sign_out"))

    def stats(self) -> Stats:
        """What is held and has been done. Never suspends."""
        people = self._people
        return Stats(
            tokens=len(self._hot),
            flights=len(self._flights),
            acquired=self._acquired + (people.acquired if people else 0),
            failed=self._failed + (people.failed if people else 0),
            refresh_failed=self._refresh_failed,
            evicted=self._hot.evicted,
            store_failures=self._shelf.failures,
        )

    async def aclose(self) -> None:
        """Hand out nothing any more; let flights finish, `acquire_timeout` at most; abort sign-ins. Again is harmless.

        Nothing that was passed to the constructor is closed.
        """
        try:
            await self._flights.close(self._acquire_timeout)
        finally:  # also for whoever has no time to wait
            with self._flights.guard():
                self._closed = True  # what a worker thread still brings is saved, and not held
                for held in self._hot:
                    self._hot.drop(held)
                self._hot.tidy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _read(self, scopes: tuple[str, ...], options: Mapping[str, object]) -> tuple[TokenRequest, Token | None]:
        """The request for a call, and the token it rejects; or what is wrong with it."""
        if "scopes" in options:
            raise TypeError('scopes come by position, each a string: get("User.Read", "Mail.Read")')
        if not options:
            return self._client.request(canonical_scopes(scopes), options), None
        others, rejected = check_options(options)
        return self._client.request(canonical_scopes(scopes), others), rejected

    def _read_sign_in(self, scopes: tuple[str, ...], options: Mapping[str, object]) -> SignInRequest:
        if "rejected" in options:
            raise TypeError("rejected is for get: a sign-in brings a new token in any case")
        others, _ = check_options(options)
        return cast("PeopleClient", self._client).sign_in_request(canonical_scopes(scopes), others)

    def _read_lasting(self, scopes: tuple[str, ...], options: SourceOptions) -> TokenRequest:
        if "rejected" in options:
            raise TypeError("rejected is for one call: get(..., rejected=token)")
        return self._read(scopes, cast("dict[str, object]", options))[0]

    def _remember(self, call: Hashable, request: TokenRequest) -> None:
        """So that a crowd whose calls are the same does not make the request for it each anew."""
        if len(self._requests) >= MOST_REQUESTS:
            self._requests.clear()
        self._requests[call] = request

    def _bound(self, request: TokenRequest) -> TokenRequest:
        """A request that names no account belongs to the accounts there are now."""
        if self._people is None or not request.unbound:
            return request
        return request._replace(generation=self._people.generation(request))

    def _flight_key(self, request: TokenRequest) -> Hashable:
        """Whoever asks after a sign-out goes along with no flight from before, which may be about to land."""
        if self._people is None or (key := self._client.session_key(request)) is None:
            return request
        return request, self._sessions.generation(key)

    def _look(self, request: TokenRequest, rejected: Token | None) -> Held | None:
        """What is held for a request, if this caller can use it."""
        held = self._hot.get(self._bound(request))
        if held is None or not held.usable(self._clock()):
            return None
        return None if rejected is not None and held.token.value == rejected.value else held

    def _at_hand(self, request: TokenRequest, rejected: Token | None, call: Hashable = None) -> Token | None:
        """The token held, if this caller can use it: the long way of those who need not wait.

        A call that came this way is remembered, so that the next one like it finds the short way.
        """
        now = self._clock()
        if now < self._hot.since:
            with self._flights.guard():
                self._hot.rewind(now)
        if (held := self._look(request, rejected)) is None:
            return None
        held.used = True
        if call is not None:
            with self._flights.guard():
                self._hot.alias(held, call)
        if now >= held.fresh_until:
            timeout = self._acquire_timeout
            key = self._flight_key(held.request)
            self._flights.launch(key, self._refresh, held, look=self._look_again, timeout=timeout)
        return held.token

    def _cold(self, request: TokenRequest, rejected: Token | None, account: object) -> Awaitable[Token]:
        """The wait of those who find nothing; raises `NothingCame` too."""
        if self._people is not None and self._people.can_be_asked:
            return self._silent_or_asked(self._people, request, rejected, account)
        if rejected is not None:
            return self._silent(request, rejected)
        bound = self._bound(request)
        fly, look = type(self)._fly, type(self)._found  # functions, not methods: two objects less for each who waits
        key = self._flight_key(bound)
        return self._flights.board(key, fly, self, bound, None, look=look, timeout=self._acquire_timeout)

    def _silent(self, request: TokenRequest, rejected: Token | None) -> Awaitable[Token]:
        """Go along with the flight for a request, and with another if it brings nothing."""
        bound = self._bound(request)
        return self._flights.join(
            self._flight_key(bound),
            self._fly,
            bound,
            rejected,
            look=self._found,
            refuses=None if rejected is None else partial(_same, rejected),
            timeout=self._acquire_timeout,
        )

    async def _silent_or_asked(
        self, people: People, request: TokenRequest, rejected: Token | None, account: object
    ) -> Token:
        """As above; and if only a person can help, go along with the sign-in."""
        request = request._replace(generation=0)  # one that was found by an alias is bound: equal calls ask once
        generation = people.generation(request)
        try:
            return await self._silent(request, rejected)
        except InteractionRequired as error:
            if not a_sign_in_helps(error):
                raise
            wanted = request._replace(claims=merged_claims(request.claims, error.claims))
        hint = request.login_hint or (account.username if isinstance(account, Account) else "")
        asked = SignInRequest(wanted, login_hint=hint)
        ask = partial(people.ask, asked, instead_of=request, rejected=rejected, generation=generation)
        look = partial(self._found, request, rejected)
        refuses = None if rejected is None else partial(_same, rejected)  # it may have been asked for another's sake
        return await self._flights.join(("ask", request), ask, look=look, refuses=refuses, owned=True)

    def _found(self, request: TokenRequest, rejected: Token | None) -> Token | None:
        held = self._look(request, rejected)
        return None if held is None else held.token

    def _look_again(self, held: Held) -> Token | None:
        """Under the lock, when no flight is aloft: whether somebody has just seen to it; if not, we do, and say so."""
        now = self._clock()
        if now < held.fresh_until:
            return held.token
        held.postpone(now, PAUSE)
        return None

    async def _refresh(self, held: Held) -> Token:
        """Fly for a token that still works. However it ends, the next attempt waits a while."""
        old = held.token
        pause = PAUSE
        try:
            token = await self._fly(held.request, None, stale=True)
        except GeneratorExit:  # the loop is gone, and perhaps the lock is held by the code that was interrupted
            raise
        except BaseException as error:
            if not isinstance(error, NothingCame):
                self._refresh_failed += 1
                if isinstance(error, Throttled):
                    pause = max(pause, error.retry_after)
                rest = held.usable_until - self._clock()
                logger.warning("a refresh failed (%s); the token held works for %.0f s more", _name(error), rest)
            self._postpone(held, old, pause)
            raise
        self._postpone(held, old, pause)
        return token

    def _postpone(self, held: Held, old: Token, pause: float) -> None:
        now = self._clock()
        if held.token is old or held.fresh_until <= now:  # not one that came meanwhile and is fresh
            with self._flights.guard():
                held.postpone(now, pause)

    async def _fly(self, request: TokenRequest, rejected: Token | None, *, stale: bool = False) -> Token:
        number = next(self._numbers)

        def accepts(token: Token) -> bool:
            if rejected is not None and token.value == rejected.value:
                return False
            return self._hot.accepts(token, self._clock(), fresh=stale)

        errand = Acquisition(
            request,
            client=self._client,
            shelf=self._shelf,
            sessions=self._sessions,
            timeout=self._acquire_timeout,
            clock=self._clock,
            accepts=accepts,
            patient=not stale,
        )
        try:
            token, new, generation = await errand.run()
        except (NothingCame, GeneratorExit):
            raise
        except BaseException:
            self._failed += 1
            raise
        self._acquired += new
        return self._publish(request, token, number, generation)

    def _publish(self, request: TokenRequest, token: Token, number: int, generation: int) -> Token:
        """Hold a token for whoever asks from now on. No await comes between this and what was checked before it."""
        requests = [request]
        if request.claims:
            requests.append(request._replace(claims=""))
        if request.unbound:
            if request.generation != generation:  # the accounts are no longer those it was asked for
                return token
            if token.account is not None:
                account = token.account.home_account_id
                requests += [each._replace(account=account, login_hint="", generation=0) for each in requests]
        now = self._clock()
        with self._flights.guard():
            if self._closed or generation != self._sessions.generation(
                self._client.session_key(request)
            ):  # on another loop, in this very moment
                return token
            return self._hot.put(requests, token, number, now)

    def _unbind(self, key: str, left: str) -> int:
        """The accounts of a session have changed: drop what was bound to them, and the tokens of the one that left."""
        with self._flights.guard():
            generation = self._sessions.changed(key)
        if not left and cast("PeopleClient", self._client).session_of(None) is None:
            return generation  # somebody has come, to a session of their own: nothing here is theirs
        for held in [held for held in self._hot if _concerns(held, left)]:
            with self._flights.guard():
                self._hot.drop(held)
        with self._flights.guard():
            self._hot.tidy()
        return generation

    def _known_people(self) -> People:
        if self._people is None:
            raise TypeError(f"{type(self._client).__name__} knows no people: use a PublicClient")
        return self._people

    async def _found_or_fetched(self, account: object, request: TokenRequest) -> tuple[Token, Held | None]:
        """What a source gets that has nothing fresh, and where it finds it the next time."""
        token = self._at_hand(request, None)
        if token is None:
            try:
                token = await self._cold(request, None, account)
            except NothingCame:
                token = await self._silent(request, None)
        return token, self._hot.get(self._bound(request))


def _home_account_id(account: Account | str, method: str) -> str:
    home_account_id = account.home_account_id if isinstance(account, Account) else account
    if not home_account_id or not isinstance(home_account_id, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- users
        raise TypeError(f"{method} takes an Account or its home account id, not {account!r}")
    if account is home_account_id and "@" in home_account_id:
        raise ValueError(f"{method} takes an Account or its home account id, not a user name: find it in accounts()")
    return home_account_id


def _concerns(held: Held, left: str) -> bool:
    """Whether a token is bound to the set of accounts, or to the one that has left, if one has."""
    account = held.request.account
    if not account:
        owner = held.token.account
        return held.request.grant == "user" or (left != "" and owner is not None and owner.home_account_id == left)
    return account == left


def _random() -> float:
    """From 0 to 1: to spread refreshes. The module `random` would take a part of our import that is felt."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _same(token: Token, other: Token) -> bool:
    """Whether two tokens came with one answer of the authority, which may well repeat itself."""
    return token.value == other.value and token.obtained_at == other.obtained_at


def _name(error: BaseException) -> str:
    code = error.code if isinstance(error, TokenError) else ""
    return f"{type(error).__name__}: {code}" if code else type(error).__name__


def _check(client: object, store: object, *, max_tokens: int, acquire_timeout: float) -> None:
    if isinstance(client, type):
        raise TypeError(f"pass a client, {client.__name__}(...), not its class")
    if store is not None and not all(callable(getattr(store, name, None)) for name in ("get", "set", "delete", "lock")):
        raise TypeError(f"store is a TokenStore, such as MemoryStore(), not {type(store).__name__}")
    if not all(callable(getattr(client, name, None)) for name in ("request", "session_key", "prepare", "acquire")):
        raise TypeError(
            f"a client is a ConfidentialClient, a PublicClient or another TokenClient, not {type(client).__name__}"
        )
    if max_tokens < 1:
        raise ValueError(f"max_tokens is a number of tokens, 1 or more, not {max_tokens!r}")
    if not acquire_timeout > 0:
        raise ValueError(f"acquire_timeout is a number of seconds, more than 0, not {acquire_timeout!r}")
