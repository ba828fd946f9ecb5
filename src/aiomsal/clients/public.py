"""A program in the hands of its users: desktop, command line, device. It keeps no secret, and acts for who signs in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiomsal._client import Acquired
from aiomsal._errors import AccountRequired, AuthorityError, Classification, InteractionRequired, SignInError
from aiomsal._token import TokenRequest, canonical_scopes

from ._app import Desk
from ._authority import authority_of
from ._device_code import DeviceCodeSteps
from ._msal import Settings
from ._options import (
    RESERVED_SCOPES,
    account_id_of,
    checked_capabilities,
    checked_client_id,
    checked_threads,
    claims_of,
    login_hint_of,
    refuse_unknown,
    transport_options,
)
from ._results import error_of, home_account_of, token_of
from ._session import accounts_of, merged, without

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from aiomsal._client import Attempt
    from aiomsal._token import Account
    from aiomsal.sign_in import SignIn

    from ._authority import Cloud
    from ._exchange import Exchange
    from ._msal import Application
    from ._transport import HttpClient

_OPTIONS: Final = ("account", "login_hint", "claims")


class PublicClient:
    """A client for `TokenManager` that acquires tokens for people: `get("User.Read")`.

    First by refresh token, of which any scope of the account may come; then, if it was given a `sign_in`, by asking
    the person. One session holds all its accounts. A call may bring `account` (an `Account` or its home account id)
    or `login_hint` (a user name) to say who is meant, and `claims`, a claims challenge.

    The constructor checks and stores; MSAL is imported and built and the authority is asked by the first call, in
    worker threads. One client may be used on several event loops, in several threads, and after a fork.

    Args:
        client_id: the application's (client) id.
        tenant: the GUID or domain of the users' tenant, or "organizations", "consumers", or "common" for both, which
            is the default; with `cloud`: "public", "us-government" or "china".
        authority: instead of both, the whole URL: `https://<host>/<tenant>`.
        oidc_authority: instead, the URL of any OpenID Connect provider.
        sign_in: how a person is asked, such as `DeviceCode(...)`; without it `InteractionRequired` is raised instead.
        client_capabilities, instance_discovery, http_client, proxies, ca_file, timeout, threads, clock: as
            `ConfidentialClient` takes them.

    Raises:
        TypeError, ValueError: an argument that cannot be right, and what to pass instead.
    """

    def __init__(
        self,
        client_id: str,
        *,
        tenant: str | None = None,
        authority: str | None = None,
        cloud: Cloud = "public",
        oidc_authority: str | None = None,
        sign_in: SignIn | None = None,
        client_capabilities: Iterable[str] = (),
        instance_discovery: bool | None = None,
        http_client: HttpClient | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float | tuple[float, float] = (5.0, 25.0),
        threads: int = 32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if sign_in is not None and not callable(getattr(sign_in, "sign_in", None)):
            raise TypeError(f"sign_in is a way to ask a person, such as DeviceCode(...), not {type(sign_in).__name__}")
        self._settings: Final = Settings(
            checked_client_id(client_id),
            authority_of(authority, oidc_authority, tenant, cloud, default_tenant="common"),
            transport_options(http_client, proxies, ca_file, timeout),
            capabilities=checked_capabilities(client_capabilities),
            instance_discovery=instance_discovery,
            threads=checked_threads(threads),
        )
        self._sign_in: Final = sign_in
        # Of this object only the desk changes.
        self._desk: Final = Desk(self._settings, lambda: None, clock)

    def __repr__(self) -> str:
        return f"PublicClient({self._settings.client_id!r}, authority={self._settings.authority.url!r})"

    @property
    def can_ask(self) -> bool:
        """See `SignInClient.can_ask`."""
        return self._sign_in is not None

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """See `TokenClient.request`. The keywords are `account`, `login_hint` and `claims`."""
        refuse_unknown(options, _OPTIONS, "PublicClient")
        scopes = canonical_scopes(scopes)
        if reserved := RESERVED_SCOPES.intersection(scopes):
            raise ValueError(
                f"leave out {', '.join(sorted(reserved))}: they are always asked for; name what the token is for"
            )
        account, login_hint = account_id_of(options), login_hint_of(options)
        if account and login_hint:
            raise TypeError("account= and login_hint= both say who is meant: pass one of them")
        settings = self._settings
        return TokenRequest(
            settings.client_id,
            settings.authority.url,
            "user",
            scopes,
            account=account,
            login_hint=login_hint,
            claims=claims_of(options),
            capabilities=settings.capabilities,
            extra=(("oidc", "1"),) if settings.authority.oidc else (),
        )

    def session_key(self, _request: TokenRequest, /) -> str | None:
        """See `TokenClient.session_key`. All accounts of this client id at this authority share one session."""
        return self.session_of(None)

    def session_of(self, _account: str | None, /) -> str | None:
        """See `SignInClient.session_of`."""
        return f"public/{self._settings.authority.realm}/{self._settings.client_id}"

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        """See `TokenClient.prepare`."""
        await self._desk.gate.admit(attempt)
        await self._desk.open(request.authority, attempt.deadline)

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """See `TokenClient.acquire`: by refresh token.

        Without a session it raises `AccountRequired` at once, needs no `prepare` before it, and uses neither thread
        nor network: that nobody has signed in is known offline too.
        """
        account = _chosen(request, () if session is None else accounts_of(session))
        assert session is not None, "somebody is in it"

        def ask(application: Application, exchange: Exchange) -> Acquired:
            exchange.cache.load(session)
            result = application.acquire_token_silent_with_error(
                [*request.scopes],
                {"home_account_id": account.home_account_id, "environment": account.environment},
                claims_challenge=request.claims or None,
            )
            exchange.answered = self._desk.now()
            if result is None:
                raise _nobody(f"no refresh token of {account.username or 'this account'} is left: sign in again")
            if "error" in result:
                raise error_of(result, exchange, request)
            tenant_id = application.authority.tenant
            if home_account_of(exchange) not in ("", account.home_account_id):
                raise AuthorityError(
                    "the authority answered for another account",
                    code="account_mismatch",
                    correlation_id=exchange.correlation_id,
                )
            token = token_of(exchange, request, tenant_id=tenant_id, account=account)
            return Acquired(token, exchange.cache.dump())

        return await self._desk.ask(request.authority, ask)

    async def sign_in(self, request: TokenRequest, /) -> Acquired:
        """See `SignInClient.sign_in`: as the `sign_in` strategy does it."""
        if self._sign_in is None:
            raise TypeError("this PublicClient was given no sign_in: it cannot ask a person")
        acquired = await self._sign_in.sign_in(DeviceCodeSteps(self._desk), request)
        account = acquired.token.account
        if account is None:
            raise SignInError("the sign-in named no account: neither client_info nor an ID token came with the token")
        if request.account not in ("", account.home_account_id):  # the token must not be taken for the other's
            raise SignInError(
                f"{account.username or 'somebody else'} signed in, and not the account that was asked for",
                code="account_mismatch",
            )
        return acquired

    def accounts(self, session: bytes, /) -> tuple[Account, ...]:
        """See `SignInClient.accounts`."""
        return accounts_of(session)

    def merge(self, session: bytes | None, update: bytes, /, *, sign_in: bool) -> bytes:
        """See `SignInClient.merge`."""
        return merged(session, update, sign_in=sign_in)

    def without(self, session: bytes, account: str, /) -> bytes | None:
        """See `SignInClient.without`."""
        return without(session, account)


def _chosen(request: TokenRequest, accounts: tuple[Account, ...]) -> Account:
    """Whom a request means among those who have signed in, as MSAL.NET decides it."""
    if request.account:
        for account in accounts:
            if account.home_account_id == request.account:
                return account
        raise _nobody("this account has not signed in here, or has signed out")
    if not accounts:
        raise _nobody("nobody has signed in")
    fitting: tuple[Account, ...] = accounts
    if request.login_hint:
        hint = request.login_hint.casefold()
        fitting = tuple(account for account in accounts if account.username.casefold() == hint)
        if not fitting:
            raise _nobody(f"nobody has signed in as {request.login_hint}")
    first, *others = fitting
    if others:
        which = f"as {request.login_hint}" if request.login_hint else "here"
        raise _nobody(f"{len(fitting)} accounts have signed in {which}: pass account= to say which", fitting)
    return first


def _nobody(description: str, candidates: tuple[Account, ...] = ()) -> InteractionRequired:
    return AccountRequired(
        description,
        candidates=candidates,
        code="account_required",
        classification=Classification.ACQUIRE_TOKEN_SILENT_FAILED,
    )
