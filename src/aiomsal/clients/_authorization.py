"""Sign-in by authorization code, PKCE and nonce by MSAL: for a browser on this machine, and for web applications."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from aiomsal._client import Attempt
from aiomsal._errors import SignInError
from aiomsal._token import decode_claims

from ._flow import asked_in, code_in, new_flow, with_parameters
from ._options import RESERVED_SCOPES
from ._results import error_of
from ._signed_in import PATIENCE, acquired_of, sign_in_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal._asked import ResponseMode, SignInFlow, SignInRequest
    from aiomsal._client import Acquired

    from ._app import Desk
    from ._exchange import Exchange
    from ._msal import Application, Settings

SKEW: Final = 120.0
"""Seconds by which the authority's clock may differ from ours; MSAL allows as many."""


class AuthorizationSteps:
    """The steps of a sign-in by authorization code, at one client's desk. Each leaves at once when cancelled."""

    def __init__(self, desk: Desk, settings: Settings) -> None:
        self._desk = desk
        self._settings = settings

    async def start_authorization(
        self, asked: SignInRequest, redirect_uri: str, response_mode: ResponseMode = "form_post"
    ) -> SignInFlow:
        """See `SignInSteps`."""
        flow = new_flow(asked, redirect_uri, self._desk.now())

        def work_out(application: Application) -> str:
            made = application.initiate_auth_code_flow(
                [*asked.request.scopes, *asked.extra_scopes_to_consent],
                redirect_uri=redirect_uri,
                prompt=asked.prompt or None,
                login_hint=asked.login_hint or None,
                domain_hint=asked.domain_hint or None,
                claims_challenge=asked.request.claims or None,
                max_age=asked.max_age,
                response_mode="form_post",  # it warns of the other, each time
            )
            # Ours in place of MSAL's, for older ones draw theirs from `random`, which can be guessed.
            return with_parameters(
                made["auth_uri"],
                response_mode=response_mode,
                state=flow["state"],
                nonce=_nonce_sent(flow),
                code_challenge=_challenge(flow["code_verifier"]),
                code_challenge_method="S256",
            )

        flow.auth_uri = await self._desk.work_out(asked.request.authority, work_out)
        return flow

    def answered(self, flow: Mapping[str, Any], params: Mapping[str, str]) -> SignInRequest:
        """See `WebSignInClient.answered`."""
        asked = asked_in(flow, self._settings)
        code_in(params, flow, self._desk.now())
        return asked

    async def redeem_authorization(self, flow: Mapping[str, Any], params: Mapping[str, str]) -> Acquired:
        """See `SignInSteps`."""
        asked = asked_in(flow, self._settings)
        code = code_in(params, flow, self._desk.now())
        request = asked.request
        await self._desk.prepare(request.authority, Attempt(0, None, anyio.current_time() + PATIENCE))

        def ask(application: Application, exchange: Exchange) -> Acquired:
            try:
                result = application.acquire_token_by_auth_code_flow(
                    {
                        "state": flow["state"],
                        "redirect_uri": flow["redirect_uri"],
                        "scope": [*request.scopes, *asked.extra_scopes_to_consent, *RESERVED_SCOPES],
                        "nonce": flow["nonce"],
                        "code_verifier": flow["code_verifier"],
                        "claims_challenge": request.claims or None,
                        # without max_age, which it would check by another clock than ours
                    },
                    {"state": flow["state"], "code": code},
                    scopes=[*request.scopes],
                )
            except (RuntimeError, KeyError):
                if not _id_token_of(exchange):
                    raise
                result = None  # it does not fit; MSAL quotes it
            exchange.answered = self._desk.now()
            if result is not None and "error" in result:
                raise sign_in_error(error_of(result, exchange, request))
            _check_id_token(exchange, asked, _nonce_sent(flow))
            if result is None:
                raise _unfit("the ID token was refused by MSAL", "bad_id_token", exchange)
            return acquired_of(application, exchange, request)

        return await self._desk.ask_for_sign_in(request.authority, ask)


def _check_id_token(exchange: Exchange, asked: SignInRequest, nonce: str) -> None:
    """Whether an ID token, if one came, is the answer to this sign-in (OpenID Connect Core section 3.1.3.7).

    MSAL checks some of that, and not in each version.
    """
    claims = _id_token_of(exchange)
    if claims:
        named: object = claims.get("aud")
        audiences = cast("list[object]", named) if isinstance(named, list) else [named]
        if asked.request.client_id.casefold() not in {str(audience).casefold() for audience in audiences}:
            raise _unfit("the ID token is for another application", "wrong_audience", exchange)
        if claims.get("nonce") != nonce:
            raise _unfit("the ID token is of another sign-in", "nonce_mismatch", exchange)
    if asked.max_age is not None:
        proved_at: object = claims.get("auth_time")
        if not isinstance(proved_at, int | float) or exchange.answered - SKEW > proved_at + asked.max_age:
            when = "longer ago than max_age" if isinstance(proved_at, int | float) else "at a time that is not told"
            raise _unfit(f"the person proved who they are {when}: sign in again", "too_old", exchange)


def _id_token_of(exchange: Exchange) -> dict[str, Any]:
    body: Mapping[str, Any] = exchange.reply.body if exchange.reply is not None else {}
    return decode_claims(str(body.get("id_token", "")))


def _unfit(description: str, code: str, exchange: Exchange) -> SignInError:
    return SignInError(description, code=code, correlation_id=exchange.correlation_id)


def _nonce_sent(flow: Mapping[str, Any]) -> str:
    """What stands for the flow's nonce in URL and ID token, as MSAL has it."""
    return hashlib.sha256(flow["nonce"].encode()).hexdigest()


def _challenge(verifier: str) -> str:
    """RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
