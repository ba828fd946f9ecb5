"""Device codes by MSAL, one request at a time: what `sign_in.DeviceCode` asks of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from aiomsal._client import Acquired
from aiomsal._errors import AuthorityUnavailable, InteractionRequired, SignInError, Throttled, TokenError
from aiomsal.sign_in import DeviceAuthorization, Pending

from ._results import account_of, error_of, token_of

if TYPE_CHECKING:
    from aiomsal._token import TokenRequest

    from ._app import Desk
    from ._exchange import Exchange
    from ._msal import Application

_PENDING: Final = "authorization_pending"
_SLOW_DOWN: Final = "slow_down"
# RFC 8628 section 3.5, and Microsoft's own words for the same
_REFUSED: Final = frozenset({"access_denied", "authorization_declined"})
_EXPIRED: Final = frozenset({"expired_token", "code_expired"})
_PATIENCE: Final = 60.0
"""Seconds within which a code is to be had."""


class DeviceCodeSteps:
    """The steps of a sign-in by device code, at one client's desk. Each leaves at once when cancelled."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def start_device_code(self, request: TokenRequest) -> DeviceAuthorization:
        """See `SignInSteps`."""
        await self._desk.open(request.authority, anyio.current_time() + _PATIENCE)

        def ask(application: Application, exchange: Exchange) -> DeviceAuthorization:
            flow = application.initiate_device_flow([*request.scopes], claims_challenge=request.claims or None)
            if "error" in flow:
                raise _sign_in_error(error_of(flow, exchange, request))
            return _authorization(flow, exchange)

        return await self._desk.ask_for_sign_in(request.authority, ask)

    async def poll_device_code(self, request: TokenRequest, authorization: DeviceAuthorization) -> Acquired | Pending:
        """See `SignInSteps`."""

        def ask(application: Application, exchange: Exchange) -> Acquired | Pending:
            # A flow of its own for each poll: MSAL writes in it when it polled last, and would wait by itself if it
            # could; it loops for ever where the interval is 0.
            flow = {"device_code": authorization.device_code, "interval": 1, "expires_at": 0}
            result = application.acquire_token_by_device_flow(
                flow, claims_challenge=request.claims or None, exit_condition=lambda _: True
            )
            exchange.answered = self._desk.now()
            code = result.get("error")
            if code in (_PENDING, _SLOW_DOWN):
                return Pending(slow_down=code == _SLOW_DOWN)
            if code is not None:
                raise _sign_in_error(error_of(result, exchange, request))
            authority = application.authority
            account = account_of(exchange, authority.instance, authority.tenant)
            if account is None:
                raise SignInError(
                    "the answer to the sign-in holds neither client_info nor an ID token: no account can be made of it",
                    code="no_account",
                    correlation_id=exchange.correlation_id,
                )
            token = token_of(exchange, request, tenant_id=authority.tenant, account=account)
            return Acquired(token, exchange.cache.dump())

        return await self._desk.ask_for_sign_in(request.authority, ask)


def _authorization(flow: dict[str, Any], exchange: Exchange) -> DeviceAuthorization:
    verification_uri = flow.get("verification_uri") or flow.get("verification_url")  # the older name
    try:
        return DeviceAuthorization(
            device_code=_needed(flow.get("device_code")),
            user_code=_needed(flow.get("user_code")),
            verification_uri=_needed(verification_uri),
            message=str(flow.get("message") or ""),
            expires_in=float(flow["expires_in"]),
            interval=float(flow["interval"]),
        )
    except (KeyError, TypeError, ValueError):
        raise AuthorityUnavailable(
            "the authority's answer to the request for a device code lacks something",
            code="unusable_answer",
            correlation_id=exchange.correlation_id,
        ) from None


def _needed(value: object) -> str:
    if not value or not isinstance(value, str):
        raise ValueError
    return value


def _sign_in_error(error: TokenError) -> TokenError:
    """What a refusal means in a sign-in: signing in once more is what its caller is doing already."""
    refused, expired = error.code in _REFUSED, error.code in _EXPIRED
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
