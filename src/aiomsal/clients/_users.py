"""What both kinds of client do for the people who have signed in: one home for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiomsal._client import Acquired
from aiomsal._errors import AccountRequired, AuthorityError, Classification, InteractionRequired
from aiomsal._token import same_username

from ._app import Desk
from ._authorization import AuthorizationSteps
from ._flow import checked_redirect_uri
from ._requests import read_sign_in_request
from ._results import error_of, home_account_of, subject_of, token_of
from ._session import accounts_of, merged, profiles_of, refresh_token_of, subjects_of, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiomsal._asked import ResponseMode, SignInFlow, SignInRequest, TenantProfile
    from aiomsal._client import Attempt
    from aiomsal._token import Account, TokenRequest

    from ._exchange import Exchange
    from ._msal import Application, Settings
    from .credentials import Credential


class UserClient:
    """The half of a client that is for its users. Of this object only the desk changes."""

    def __init__(self, settings: Settings, clock: Callable[[], float], credential: Credential | None = None) -> None:
        self._settings: Final = settings
        self._desk: Final = Desk(settings, clock, credential)
        self._home: Final = f"{settings.authority.realm}/{quote(settings.client_id, safe='')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.client_id!r}, authority={self._settings.authority.url!r})"

    def sign_in_request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> SignInRequest:
        """See `PeopleClient.sign_in_request`."""
        return read_sign_in_request(self._settings, scopes, options)

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        """See `TokenClient.prepare`."""
        await self._desk.prepare(request.authority, attempt)

    async def begin_sign_in(
        self, asked: SignInRequest, /, *, redirect_uri: str, response_mode: ResponseMode
    ) -> SignInFlow:
        """See `WebSignInClient.begin_sign_in`."""
        if response_mode not in ("query", "form_post"):
            raise ValueError(f"response_mode is 'query' or 'form_post', not {response_mode!r}")
        return await self._by_code().start_authorization(asked, checked_redirect_uri(redirect_uri), response_mode)

    def answered(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> SignInRequest:
        """See `WebSignInClient.answered`."""
        return self._by_code().answered(flow, params)

    async def complete_sign_in(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> Acquired:
        """See `WebSignInClient.complete_sign_in`."""
        return await self._by_code().redeem_authorization(flow, params)

    def accounts(self, session: bytes, /) -> tuple[Account, ...]:
        """See `PeopleClient.accounts`."""
        return accounts_of(session)

    def profiles(self, session: bytes, account: str, /) -> tuple[TenantProfile, ...]:
        """See `PeopleClient.profiles`."""
        return profiles_of(session, account)

    def merge(self, session: bytes | None, update: bytes, /, *, sign_in: bool) -> bytes:
        """See `PeopleClient.merge`."""
        return merged(session, update, sign_in=sign_in)

    def without(self, session: bytes, account: str, /) -> bytes | None:
        """See `PeopleClient.without`."""
        return without(session, account)

    def _by_code(self) -> AuthorizationSteps:
        return AuthorizationSteps(self._desk, self._settings)

    async def _acquire_for_user(self, request: TokenRequest, session: bytes | None) -> Acquired:
        """By refresh token; `AccountRequired` without a session, at once, by neither thread nor network."""
        account = _chosen(request, () if session is None else accounts_of(session))
        assert session is not None, "somebody is in it"
        refresh_token, used_up = refresh_token_of(session, account.home_account_id), list[str]()
        while (left := await self._desk.left_behind(refresh_token)) is not None and refresh_token not in used_up:
            session = merged(session, left.session or b"", sign_in=False)
            used_up.append(refresh_token)
            refresh_token = refresh_token_of(session, account.home_account_id)

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
            if _is_another(exchange, session, account.home_account_id):
                raise AuthorityError(
                    "the authority answered for another account",
                    code="account_mismatch",
                    correlation_id=exchange.correlation_id,
                )
            token = token_of(exchange, request, tenant_id=application.authority.tenant, account=account)
            return Acquired(token, exchange.cache.dump())

        acquired = await self._desk.ask_by_refresh_token(request.authority, ask, refresh_token)
        self._desk.taken_over(used_up)
        return acquired


def _is_another(exchange: Exchange, session: bytes, account: str) -> bool:
    """Whether the last reply names somebody else (OpenID Connect Core section 12.2)."""
    if home := home_account_of(exchange):
        return home != account
    issuer, subject = subject_of(exchange)
    known = subjects_of(session, account)
    return subject != "" and (issuer, subject) not in known and any(issuer == theirs for theirs, _ in known)


def _chosen(request: TokenRequest, accounts: tuple[Account, ...]) -> Account:
    """Whom a request means among those who have signed in, as MSAL.NET decides it."""
    if request.account:
        for account in accounts:
            if account.home_account_id == request.account:
                return account
        raise _nobody("this account has not signed in here, or has signed out")
    if not accounts:
        raise _nobody("nobody has signed in: sign in first (a PublicClient is given a way to ask, sign_in=Browser())")
    fitting: tuple[Account, ...] = accounts
    if request.login_hint:
        fitting = tuple(account for account in accounts if same_username(account.username, request.login_hint))
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
