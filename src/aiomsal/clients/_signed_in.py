"""What comes of a sign-in, whichever way the person took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiomsal._client import Acquired
from aiomsal._errors import AuthorityUnavailable, InteractionRequired, SignInError, Throttled, TokenError
from aiomsal._token import same_username

from ._results import account_of, token_of

if TYPE_CHECKING:
    from aiomsal._token import TokenRequest

    from ._exchange import Exchange
    from ._msal import Application

PATIENCE: Final = 60.0
"""Seconds within which a step of a sign-in must have begun to ask the authority."""

# RFC 8628 section 3.5, and Microsoft's own words for the same
_DECLINED: Final = frozenset({"access_denied", "authorization_declined"})
_EXPIRED: Final = frozenset({"expired_token", "code_expired"})


def acquired_of(application: Application, exchange: Exchange, request: TokenRequest) -> Acquired:
    """The token in the last reply, with the session of this sign-in; the account is whoever signed in.

    Raises:
        SignInError: the reply names nobody, or another than the one asked for.
    """
    authority = application.authority
    account = account_of(exchange, authority.instance, authority.tenant)
    if account is None:
        raise SignInError(
            "the answer to the sign-in holds neither client_info nor an ID token: no account can be made of it",
            code="no_account",
            correlation_id=exchange.correlation_id,
        )
    if request.account not in ("", account.home_account_id):  # the token must not be taken for the other's
        raise SignInError(
            f"{account.username or 'somebody else'} signed in, and not the account that was asked for: nothing was "
            "kept; sign in again, with that account",
            code="wrong_account",
            correlation_id=exchange.correlation_id,
        )
    if request.login_hint and not same_username(request.login_hint, account.username):
        raise SignInError(
            f"{account.username or 'somebody'} signed in, and the call was for {request.login_hint}: nothing was kept; "
            'ask again, or let the person choose, sign_in(..., prompt="select_account")',
            code="wrong_account",
            correlation_id=exchange.correlation_id,
        )
    token = token_of(exchange, request, tenant_id=authority.tenant, account=account)
    return Acquired(token, exchange.cache.dump())


def sign_in_error(error: TokenError) -> TokenError:
    """What the token endpoint's refusal means in a sign-in: signing in once more is what its caller does already."""
    refused, expired = error.code in _DECLINED, error.code in _EXPIRED
    if isinstance(error, Throttled | AuthorityUnavailable):
        return error
    if not (refused or expired or isinstance(error, InteractionRequired) or error.code == "bad_verification_code"):
        return error  # an unknown client or scope
    words = {refused: "the person declined: ", expired: "the code expired before it was used: "}.get(True, "")
    return SignInError(
        words + error.description,
        code=error.code,
        error_codes=error.error_codes,
        suberror=error.suberror,
        claims=error.claims,
        correlation_id=error.correlation_id,
        trace_id=error.trace_id,
        response=error.response,
    )
