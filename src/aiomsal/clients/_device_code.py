"""Device codes by MSAL, one request at a time: what `sign_in.DeviceCode` asks of a client."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiomsal._client import Attempt
from aiomsal._errors import AuthorityUnavailable
from aiomsal.sign_in import DeviceAuthorization, Pending

from ._results import error_of
from ._signed_in import PATIENCE, acquired_of, sign_in_error

if TYPE_CHECKING:
    from aiomsal._asked import SignInRequest
    from aiomsal._client import Acquired

    from ._app import Desk
    from ._exchange import Exchange
    from ._msal import Application

_PENDING: Final = "authorization_pending"
_SLOW_DOWN: Final = "slow_down"


class DeviceCodeSteps:
    """The steps of a sign-in by device code, at one client's desk. Each leaves at once when cancelled."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def start_device_code(self, asked: SignInRequest) -> DeviceAuthorization:
        """See `SignInSteps`."""
        request = asked.request
        await self._desk.prepare(request.authority, Attempt(0, None, anyio.current_time() + PATIENCE))

        def ask(application: Application, exchange: Exchange) -> DeviceAuthorization:
            flow = application.initiate_device_flow([*request.scopes], claims_challenge=request.claims or None)
            if "error" in flow:
                raise sign_in_error(error_of(flow, exchange, request))
            return _authorization(flow, exchange)

        return await self._desk.ask_for_sign_in(request.authority, ask)

    async def poll_device_code(self, asked: SignInRequest, authorization: DeviceAuthorization) -> Acquired | Pending:
        """See `SignInSteps`."""
        request = asked.request

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
                raise sign_in_error(error_of(result, exchange, request))
            return acquired_of(application, exchange, request)

        return await self._desk.ask_for_sign_in(request.authority, ask)


def _authorization(flow: dict[str, Any], exchange: Exchange) -> DeviceAuthorization:
    verification_uri = flow.get("verification_uri") or flow.get("verification_url")  # the older name
    try:
        return DeviceAuthorization(
            device_code=_needed(flow.get("device_code")),
            user_code=_needed(flow.get("user_code")),
            verification_uri=_web_page(verification_uri),
            message=str(flow.get("message") or ""),
            expires_in=_seconds(flow["expires_in"]),
            interval=_seconds(flow["interval"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AuthorityUnavailable(
            "the authority's answer to the request for a device code lacks something, or has what cannot be right",
            code="unusable_answer",
            correlation_id=exchange.correlation_id,
        ) from None


def _needed(value: object) -> str:
    if not value or not isinstance(value, str):
        raise ValueError
    return value


def _web_page(value: object) -> str:
    """People open it: it must lead to nothing else than a page."""
    where = _needed(value)
    if not where.startswith(("https://", "http://")):
        raise ValueError
    return where


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError
    return seconds
