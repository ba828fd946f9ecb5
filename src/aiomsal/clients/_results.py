"""What the authority said, as a `Token` or as the `TokenError` that tells what to do about it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, cast

from aiomsal._errors import (
    AuthorityError,
    AuthorityUnavailable,
    Classification,
    InteractionRequired,
    InvalidClient,
    Throttled,
    TokenError,
)
from aiomsal._token import Token, decode_claims

from ._gate import REQUEST_TIMEOUT, UNASKED_PAUSE
from ._redact import scrubbed
from ._requests import FOR_A_USER
from ._shared import shared, shared_account, shared_scopes
from ._transport import TransportFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal._token import Account, TokenRequest

    from ._exchange import Exchange

logger = logging.getLogger("aiomsal")

UNKNOWN_LIFETIME: Final = 600.0
"""Seconds a token is used for whose lifetime the authority did not say, or said so that nobody can believe it: MSAL's
default. Long enough to make no storm of requests, short enough to do little harm."""
TEN_YEARS: Final = 10 * 365.25 * 86400

_ASK_THE_USER: Final = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
_WRONG_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client"})
# AADSTS codes that blame the credential whatever the OAuth error beside them says: a wrong or expired secret, an
# assertion whose key, times, audience or issuer do not fit.
_WRONG_CREDENTIAL: Final = frozenset({7000215, 7000222, 7000218, 7000229, 700016, 700021, 700023, 700024, 700027})
_SHOWN: Final = (
    "error",
    "error_description",
    "error_codes",
    "suberror",
    "error_uri",
    "timestamp",
    "trace_id",
    "correlation_id",
)
_CLASSIFICATIONS: Final = {
    # suberrors as MSAL.NET classifies them; those it does not name ("bad_token", "client_mismatch", ...) are NONE
    kind.value: kind
    for kind in (
        Classification.BASIC_ACTION,
        Classification.ADDITIONAL_ACTION,
        Classification.MESSAGE_ONLY,
        Classification.CONSENT_REQUIRED,
        Classification.USER_PASSWORD_EXPIRED,
    )
}
_UNKNOWN_HOST: Final = "invalid_instance"


def token_of(exchange: Exchange, request: TokenRequest, *, tenant_id: str, account: Account | None) -> Token:
    """The token in the last reply. `account` is whom it acts for where the reply does not say.

    Raises:
        AuthorityUnavailable: there is no token in it.
    """
    body: Mapping[str, Any] = exchange.reply.body if exchange.reply is not None else {}
    value = body.get("access_token")
    if not value or not isinstance(value, str):
        raise AuthorityUnavailable(
            "the authority's answer holds neither an access token nor an error",
            code="no_token",
            correlation_id=exchange.correlation_id,
            status=None if exchange.reply is None else exchange.reply.status_code,
        )
    id_token = cast("str", body.get("id_token", ""))
    granted = cast("str", body.get("scope", ""))
    # The authority counted from some moment between our sending and our receiving: the earlier is the safer one.
    started = min(exchange.started, exchange.answered)
    expires_at = started + _lifetime(body, exchange)
    refresh_in = _seconds(body.get("refresh_in"))
    refresh_at = expires_at if refresh_in is None else min(expires_at, started + refresh_in)
    return Token(
        value,
        expires_at=expires_at,
        refresh_at=refresh_at,
        obtained_at=exchange.answered,
        token_type=_token_type(body.get("token_type")),
        scopes=_granted(granted, request),
        account=account,
        tenant_id=shared(str(decode_claims(id_token).get("tid") or tenant_id)),
        correlation_id=exchange.correlation_id,
        id_token=id_token,
    )


def error_of(result: Mapping[str, Any], exchange: Exchange, request: TokenRequest | None) -> TokenError:
    """The error that an error response means, as data; `request` is None where it was none for a token."""
    code = str(result.get("error", ""))
    status = exchange.reply.status_code if exchange.reply is not None else None
    numbers = _numbers(result.get("error_codes"))
    description = scrubbed(str(result.get("error_description") or ""), ()) or f"the authority refused (HTTP {status})"
    details: dict[str, Any] = {
        "code": code,
        "error_codes": numbers,
        "suberror": _text(result.get("suberror")),
        "claims": _text(result.get("claims")),
        "correlation_id": exchange.correlation_id,
        "trace_id": _text(result.get("trace_id")),
        "response": {name: result[name] for name in _SHOWN if name in result},
    }
    if code == _UNKNOWN_HOST:
        description += "; if the host is right, and not one of Microsoft's: pass instance_discovery=False"
    if status == 429:
        return throttled(description, exchange, **details)
    if (status is not None and (status >= 500 or status == REQUEST_TIMEOUT)) or code == "temporarily_unavailable":
        return AuthorityUnavailable(description, status=status, **details)
    if code in _WRONG_CLIENT or _WRONG_CREDENTIAL.intersection(numbers):
        return InvalidClient(description, **details)
    # An application that acts as itself has nobody to ask, whatever the authority calls its refusal.
    if code in _ASK_THE_USER and request is not None and request.grant == FOR_A_USER:
        classification = _CLASSIFICATIONS.get(details["suberror"], Classification.NONE)
        if code == "consent_required":
            classification = Classification.CONSENT_REQUIRED
        return InteractionRequired(description, classification=classification, **details)
    return AuthorityError(description, **details)


def failure_of(error: Exception, exchange: Exchange) -> TokenError:
    """What an exception of MSAL's, or of the transport beneath it, means."""
    reply = exchange.reply
    status = None if reply is None or exchange.trouble else reply.status_code
    if isinstance(error, TransportFailure):
        code, correlation_id = "unreachable" if exchange.trouble else "unusable_answer", exchange.correlation_id
        if status == 429:
            return throttled(str(error), exchange, code=code, correlation_id=correlation_id)
        if exchange.trouble or status is not None:
            return AuthorityUnavailable(str(error), code=code, correlation_id=correlation_id, status=status)
        return AuthorityError(str(error), code="refused", correlation_id=correlation_id)
    if reply is not None and not exchange.trouble and reply.status_code >= 400:
        described = dict(reply.body) if "error" in reply.body else {"error_description": f"{error}"}
        return error_of(described, exchange, None)
    words = scrubbed(str(error), ()) or type(error).__name__
    return AuthorityError(words, code="msal_failed", correlation_id=exchange.correlation_id)


def throttled(description: str, exchange: Exchange, **details: Any) -> Throttled:
    """The error for a 429: the gate waits as long as it says."""
    patience = exchange.reply.retry_after if exchange.reply is not None else None
    return Throttled(description, retry_after=UNASKED_PAUSE if patience is None else patience, **details)


def home_account_of(exchange: Exchange) -> str:
    """The home account id in the last reply's client_info; empty without (AD FS and other providers send none)."""
    body: Mapping[str, Any] = exchange.reply.body if exchange.reply is not None else {}
    info = decode_claims(f".{body.get('client_info', '')}")
    return f"{info['uid']}.{info['utid']}" if "uid" in info and "utid" in info else ""


def subject_of(exchange: Exchange) -> tuple[str, str]:
    """Issuer and subject of the last reply's ID token; empty without."""
    body: Mapping[str, Any] = exchange.reply.body if exchange.reply is not None else {}
    claims = decode_claims(str(body.get("id_token", "")))
    return _text(claims.get("iss")), _text(claims.get("sub"))


def account_of(exchange: Exchange, environment: str, tenant_id: str) -> Account | None:
    """Whom the last reply is about, as MSAL files accounts: by client_info, else by the ID token's subject."""
    body: Mapping[str, Any] = exchange.reply.body if exchange.reply is not None else {}
    claims = decode_claims(str(body.get("id_token", "")))
    home = home_account_of(exchange) or str(claims.get("sub") or "")
    if not home:
        return None
    username = str(claims.get("preferred_username") or claims.get("upn") or "")
    return shared_account(home, environment, username, str(claims.get("tid") or tenant_id))


def _lifetime(body: Mapping[str, Any], exchange: Exchange) -> float:
    stated = body.get("expires_in")
    if stated is None and body.get("expires_on") is not None:  # some answer so; MSAL reads it too
        moment = _seconds(body["expires_on"])
        stated = None if moment is None else moment - exchange.started
    seconds = _seconds(stated)
    if seconds is None and stated is not None:
        logger.warning("the authority said expires_in=%.40r: the token is used for %d s", stated, UNKNOWN_LIFETIME)
    return UNKNOWN_LIFETIME if seconds is None or seconds > TEN_YEARS else seconds


def _seconds(value: object) -> float | None:
    """A positive finite number, or the text of one (ADFS and the older endpoint send texts)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < math.inf else None


def _token_type(value: object) -> str:
    return "Bearer" if not isinstance(value, str) or value.lower() == "bearer" else shared(value)


def _granted(granted: str, request: TokenRequest) -> tuple[str, ...]:
    scopes = shared_scopes(granted)
    return request.scopes if not scopes or scopes == request.scopes else scopes


def _numbers(value: object) -> tuple[int, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(number for number in items if isinstance(number, int))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
