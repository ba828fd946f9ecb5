"""A client without an authority: each acquisition parks until the test lands or fails it, which forces any order."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from aiomsal._asked import SignInFlow, SignInOptions, SignInRequest, TenantProfile
from aiomsal._client import Acquired, Attempt
from aiomsal._errors import AccountRequired, Classification, SignInError
from aiomsal._spawn import here, insist
from aiomsal._token import Account, Token, TokenRequest, canonical_claims, canonical_scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiomsal._asked import ResponseMode
    from aiomsal._errors import TokenError
    from aiomsal._spawn import Waiter

__all__ = ["ScriptedAcquisition", "ScriptedClient", "ScriptedUserClient"]


class ScriptedAcquisition:
    """One acquisition (or sign-in) that waits for the test to say how it ends. From any thread."""

    def __init__(
        self,
        client: ScriptedClient,
        request: TokenRequest,
        session: bytes | None,
        asked: SignInRequest | None = None,
    ) -> None:
        self.request = request
        """What was asked for."""
        self.asked = asked
        """What a person was asked; None if it is no sign-in."""
        self.session = session
        """The session it was given."""
        self.number = next(client._count)
        self._client = client
        self._waiter = here().waiter()
        self._outcome: Acquired | BaseException | None = None

    def __repr__(self) -> str:
        state = "parked" if self._outcome is None else "over"
        return f"<acquisition {self.number} of {' '.join(self.request.scopes)}, {state}>"

    @property
    def over(self) -> bool:
        """Whether the test has said how it ends."""
        return self._outcome is not None

    def land(
        self,
        value: str = "",
        *,
        expires_in: float = 3600.0,
        refresh_in: float | None = None,
        account: Account | None = None,
        session: bytes | None = None,
    ) -> Token:
        """End it with a token, which is returned; dates count from the client's clock now, in seconds."""
        now = self._client.clock()
        token = Token(
            value or f"token-{self.number}",
            expires_at=now + expires_in,
            refresh_at=now + (expires_in if refresh_in is None else refresh_in),
            obtained_at=now,
            scopes=self.request.scopes,
            account=account,
            correlation_id=f"correlation-{self.number}",
        )
        self._end(Acquired(token, session))
        return token

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        self._end(error)

    def _end(self, outcome: Acquired | BaseException) -> None:
        if self._outcome is not None:
            raise RuntimeError(f"{self!r} has ended already")
        self._outcome = outcome
        self._client._parked.discard(self)
        self._waiter.home.call_soon(self._waiter.wake)

    async def _wait(self) -> Acquired:
        if self._client.absorbs:
            await insist(self._waiter.wait)
        else:
            await self._waiter.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return cast("Acquired", self._outcome)


class ScriptedClient:
    """An application whose authority is the test: a `TokenClient` for `TokenManager`, on any number of loops.

    Args:
        clock: epoch seconds, the same as the manager's.
        script: called with each acquisition as it begins, so that it may end it at once; without, it parks.
        absorbs: whether a cancelled acquisition waits for its end, as those of the real clients do.
        retries: how many times a failed attempt is repeated.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        script: Callable[[ScriptedAcquisition], object] | None = None,
        absorbs: bool = False,
        retries: int = 0,
    ) -> None:
        self.clock = clock
        self.absorbs = absorbs
        self.acquisitions: list[ScriptedAcquisition] = []
        """All there have been, in their order."""
        self._script = script
        self._retries = retries
        self._count = itertools.count(1)
        self._parked: set[ScriptedAcquisition] = set()
        self._unseen: deque[ScriptedAcquisition] = deque()
        self._watchers: deque[Waiter] = deque()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {len(self.acquisitions)} acquisitions>"

    @property
    def parked(self) -> list[ScriptedAcquisition]:
        """Those that wait to be ended, in their order."""
        return sorted(self._parked, key=lambda each: each.number)

    async def acquisition(self) -> ScriptedAcquisition:
        """The next acquisition that has begun and was not returned here before; waits for it."""
        while not self._unseen:
            waiter = here().waiter()
            self._watchers.append(waiter)
            if not self._unseen:  # another thread may have added one meanwhile
                await waiter.wait()
        return self._unseen.popleft()

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """A request of the application itself; takes `claims`."""
        _known(options, {"claims"})
        claims = canonical_claims(options["claims"]) if "claims" in options else ""
        return TokenRequest(
            "client", "https://authority.example/tenant", "client_credentials", canonical_scopes(scopes), claims=claims
        )

    def session_key(self, request: TokenRequest, /) -> str | None:
        """None: an application has no session."""
        del request
        return None

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        """Lets `retries` failures pass, at once."""
        del request
        if attempt.failure is not None and attempt.number > self._retries:
            raise attempt.failure

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """Parks."""
        return await self._park(ScriptedAcquisition(self, request, session))

    async def _park(self, acquisition: ScriptedAcquisition) -> Acquired:
        self.acquisitions.append(acquisition)
        self._parked.add(acquisition)
        self._unseen.append(acquisition)
        if self._script is not None:
            self._script(acquisition)
        while self._watchers:
            watcher = self._watchers.popleft()
            watcher.home.call_soon(watcher.wake)
        try:
            return await acquisition._wait()
        finally:
            self._parked.discard(acquisition)


class ScriptedUserClient(ScriptedClient):
    """A client of people whose authority is the test: a `SignInClient` and a `WebSignInClient`.

    Its accounts share one session, as a `PublicClient`'s do, or with `one_session=False` have one each, and then a
    request without an account is the application's own. Its sign-ins, those of web applications too, park in
    `sign_ins`; what lands there needs an `account`. An acquisition that lands without a session of its own rotates the
    account's refresh token, which `refresh_token` reads from a session.
    """

    def __init__(self, *, can_ask: bool = True, one_session: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.can_ask = can_ask
        self._one_session = one_session
        self.sign_ins = ScriptedClient(**options)
        """The sign-ins, as acquisitions to land or to fail."""
        self.sign_ins._count = self._count  # one row of numbers, for a higher one has the newer refresh token

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """A request for a user; takes `account`, `login_hint` and `claims`."""
        _known(options, {"account", "login_hint", "claims"})
        account = options.get("account", "")
        if not account and not self._one_session:
            return super().request(scopes, options)
        return self._user_request(scopes, options, account, options.get("login_hint", ""))

    def _user_request(
        self, scopes: tuple[str, ...], options: Mapping[str, Any], account: Account | str, login_hint: str
    ) -> TokenRequest:
        return TokenRequest(
            "client",
            "https://authority.example/tenant",
            "user",
            canonical_scopes(scopes),
            account=account.home_account_id if isinstance(account, Account) else account,
            login_hint=login_hint,
            claims=canonical_claims(options["claims"]) if "claims" in options else "",
        )

    def session_key(self, request: TokenRequest, /) -> str | None:
        """The one session, or the account's."""
        return self.session_of(request.account or None)

    def session_of(self, account: str | None, /) -> str | None:
        """The one session, or the account's."""
        if self._one_session:
            return "client"
        return None if account is None else f"client/{account}"

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """Parks if the account is in the session, whose refresh token is then rotated."""
        if self.session_key(request) is None:
            return await super().acquire(request, session)
        account = self._choose(request, session)
        acquisition = ScriptedAcquisition(self, request, session)
        acquired = await self._park(acquisition)
        rotated = acquired.session or self.sign_in_session(account, f"refresh-{acquisition.number}", acquisition.number)
        token = acquired.token
        if token.account is None:
            token = dataclasses.replace(token, account=account)
        return Acquired(token, self.merge(session, rotated, sign_in=False))

    def sign_in_request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> SignInRequest:
        """What a person is asked; takes all of `SignInOptions`."""
        _known(options, {*SignInOptions.__annotations__})
        return SignInRequest(
            self._user_request(scopes, options, options.get("account", ""), ""),
            options.get("login_hint", ""),
            options.get("domain_hint", ""),
            options.get("prompt", ""),
            tuple(sorted(options.get("extra_scopes_to_consent", ()))),
            options.get("max_age"),
        )

    async def begin_sign_in(
        self, asked: SignInRequest, /, *, redirect_uri: str, response_mode: ResponseMode
    ) -> SignInFlow:
        """A flow with a number for its state."""
        del response_mode
        state = f"state-{next(self._count)}"
        return SignInFlow(
            auth_uri=f"https://authority.example/authorize?state={state}",
            state=state,
            redirect_uri=redirect_uri,
            expires_at=self.clock() + 3600,
            asked=[asked.request, *asked[1:]],
        )

    def answered(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> SignInRequest:
        """What was asked, if the state is the flow's; an `error` is raised."""
        if params.get("state") != flow["state"]:
            raise SignInError("another flow's answer", code="state_mismatch")
        if "error" in params:
            raise SignInError("declined", code=params["error"])
        request, hint, domain, prompt, extra, max_age = flow["asked"]
        back = TokenRequest(*request)  # JSON knows no tuples
        back = back._replace(
            scopes=tuple(back.scopes),
            capabilities=tuple(back.capabilities),
            extra=tuple((name, value) for name, value in back.extra),
        )
        return SignInRequest(back, hint, domain, prompt, tuple(extra), max_age)

    async def complete_sign_in(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> Acquired:
        """Parks in `sign_ins`."""
        return await self.sign_in(self.answered(flow, params))

    async def sign_in(self, asked: SignInRequest, /) -> Acquired:
        """Parks in `sign_ins`."""
        acquisition = ScriptedAcquisition(self.sign_ins, asked.request, None, asked)
        acquired = await self.sign_ins._park(acquisition)
        if acquired.session is None and acquired.token.account is not None:
            name = f"refresh-of-sign-in-{acquisition.number}"
            session = self.sign_in_session(acquired.token.account, name, acquisition.number)
            return Acquired(acquired.token, session)
        return acquired

    def sign_in_session(self, account: Account, refresh_token: str, version: int = 0) -> bytes:
        """A session with one account and a refresh token, newer the higher its version."""
        return json.dumps({account.home_account_id: [list(account), refresh_token, version]}).encode()

    def refresh_token(self, session: bytes | None, account: Account) -> str | None:
        """The refresh token of an account in a session."""
        found = _entries(session).get(account.home_account_id)
        return None if found is None else cast("str", found[1])

    def accounts(self, session: bytes, /) -> tuple[Account, ...]:
        """Who is in it."""
        return tuple(Account(*entry[0]) for entry in _entries(session).values())

    def profiles(self, session: bytes, account: str, /) -> tuple[TenantProfile, ...]:
        """One, in the account's tenant."""
        return tuple(
            TenantProfile(known.tenant_id, known.home_account_id.partition(".")[0], known.username, is_home=True)
            for known in self.accounts(session)
            if known.home_account_id == account
        )

    def merge(self, session: bytes | None, update: bytes, /, *, sign_in: bool) -> bytes:
        """Entry by entry; the higher version wins."""
        entries = _entries(session)
        for key, entry in _entries(update).items():
            if (key in entries and entries[key][2] <= entry[2]) or (key not in entries and sign_in):
                entries[key] = entry
        return json.dumps(entries).encode()

    def without(self, session: bytes, account: str, /) -> bytes | None:
        """Without the entry."""
        entries = _entries(session)
        entries.pop(account, None)
        return json.dumps(entries).encode() if entries else None

    def _choose(self, request: TokenRequest, session: bytes | None) -> Account:
        found = [
            account
            for account in (self.accounts(session) if session else ())
            if request.account in ("", account.home_account_id) and request.login_hint in ("", account.username)
        ]
        if len(found) != 1:
            raise AccountRequired(
                "which account?" if found else "nobody has signed in",
                candidates=tuple(found),
                classification=Classification.ACQUIRE_TOKEN_SILENT_FAILED,
            )
        return found[0]


def _entries(session: bytes | None) -> dict[str, list[Any]]:
    return cast("dict[str, list[Any]]", json.loads(session)) if session else {}


def _known(options: Mapping[str, Any], known: set[str]) -> None:
    if unknown := options.keys() - known:
        raise TypeError(f"unknown keyword {', '.join(sorted(unknown))}: this client takes {', '.join(sorted(known))}")


def script_of(error: TokenError | None = None, *, expires_in: float = 3600.0) -> Callable[[ScriptedAcquisition], None]:
    """A script that ends every acquisition at once, with an error or a token."""

    def script(acquisition: ScriptedAcquisition) -> None:
        if error is not None:
            acquisition.fail(error)
        else:
            acquisition.land(expires_in=expires_in)

    return script
