"""The token endpoint: one function per grant."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from .credentials import authenticate
from .errors import RefusedError
from .http import json_response
from .refresh import Family
from .scopes import Scopes
from .signins import SignIn
from .tokens import application_answer, refresh_token_for, requested_claims, user_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .directory import Application
    from .http import HttpResponse, JsonObject
    from .state import Call, State

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
"""RFC 8628, section 3.4."""


def token(state: State, call: Call) -> HttpResponse:
    """Answer the token endpoint (RFC 6749, section 3.2)."""
    name = call.required("grant_type")
    if name not in GRANTS:
        raise RefusedError(70003, f"The grant type '{name}' is not supported.")
    requested_claims(call)  # refused here if malformed, whatever the grant makes of them
    return json_response(200, GRANTS[name][1](state, call))


def _client_credentials(state: State, call: Call) -> JsonObject:
    """RFC 6749, section 4.4."""
    application = authenticate(state, call)
    if not application.confidential:
        raise RefusedError(7000218)
    scopes = Scopes.parse(call.form.get("scope", ""))
    if scopes.permissions != (".default",) or scopes.openid:
        raise RefusedError(1002012)
    path_tenant = state.directory.tenant(call.tenant)
    tenant_id = path_tenant.tenant_id if path_tenant else application.tenant_id
    return application_answer(state, call, application, tenant_id, scopes)


def _refresh_token(state: State, call: Call) -> JsonObject:
    """RFC 6749, section 6. Entra's refresh tokens are good for any resource and tenant of the user."""
    application = authenticate(state, call)
    found = state.refresh_tokens.find(call.required("refresh_token"), application.client_id, call.now)
    scopes = Scopes.parse(call.form.get("scope") or found.scope)
    state.directory.check_enabled(found.family.user)
    state.interactions.check(found.family.sign_in, scopes, requested_claims(call))
    rotation = state.settings.rotation
    if rotation == "strict":
        state.refresh_tokens.use_up(found)
    family = _answered(call, found.family)
    answer = user_answer(state, call, application, family.user, scopes)
    if rotation != "off":
        answer["refresh_token"] = refresh_token_for(state, call, family, scopes)
    return answer


def _authorization_code(state: State, call: Call) -> JsonObject:
    """RFC 6749, section 4.1.3."""
    application = authenticate(state, call)
    code = state.authorization_codes.redeem(
        call.required("code"),
        application.client_id,
        call.required("redirect_uri"),
        call.form.get("code_verifier", ""),
        call.now,
    )
    about: JsonObject = {"nonce": code.nonce} if code.nonce else {}
    if code.max_age is not None:
        about["auth_time"] = int(code.sign_in.at)
    scope = call.form.get("scope") or code.scope
    return _signed_in(state, call, application, code.sign_in, Scopes.parse(scope), about)


def _password(state: State, call: Call) -> JsonObject:
    """RFC 6749, section 4.3. Nobody can be asked for more, so what is required of the user stands in the way."""
    application = authenticate(state, call)
    scopes = Scopes.parse(call.form.get("scope", ""))
    user = state.directory.find_user(call.required("username"))
    password = call.required("password")
    if user is None:
        raise RefusedError(50034)
    if not hmac.compare_digest(password.encode(), user.password.encode()):
        raise RefusedError(50126)
    sign_in = SignIn(user, 0, call.now)
    state.interactions.check(sign_in, scopes, requested_claims(call))
    return _signed_in(state, call, application, sign_in, scopes)


def _device_code(state: State, call: Call) -> JsonObject:
    """RFC 8628, section 3.4."""
    application = authenticate(state, call)
    code, sign_in = state.device_codes.redeem(call.required("device_code"), application.client_id, call.now)
    return _signed_in(state, call, application, sign_in, Scopes.parse(code.scope))


def _signed_in(
    state: State,
    call: Call,
    application: Application,
    sign_in: SignIn,
    scopes: Scopes,
    about_sign_in: JsonObject | None = None,
) -> JsonObject:
    """Return the answer that begins a family of refresh tokens."""
    state.directory.check_enabled(sign_in.user)
    family = _answered(call, Family(sign_in, application.client_id))
    answer = user_answer(state, call, application, family.user, scopes, about_sign_in=about_sign_in)
    if "offline_access" in scopes.openid:
        answer["refresh_token"] = refresh_token_for(state, call, family, scopes)
    return answer


def _answered(call: Call, family: Family) -> Family:
    """Return the family to answer for: this one, unless a fault makes it somebody else's."""
    if call.answer_for is None:
        return family
    return Family(replace(family.sign_in, user=call.answer_for), family.client_id)


GRANTS: dict[str, tuple[str, Callable[[State, Call], JsonObject]]] = {
    "client_credentials": ("client_credentials", _client_credentials),
    "authorization_code": ("authorization_code", _authorization_code),
    "password": ("password", _password),
    "refresh_token": ("refresh_token", _refresh_token),
    DEVICE_CODE: ("device_code", _device_code),
}
"""Each grant's name on the wire, its name in kinds of requests, and what answers it."""
