"""The token endpoint: one function per grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .credentials import authenticate
from .errors import RefusedError
from .http import json_response
from .refresh import Family
from .scopes import Scopes
from .tokens import application_answer, refresh_token_for, requested_claims, user_answer

if TYPE_CHECKING:
    from collections.abc import Callable

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
    state.interactions.check(found.family.user, scopes, found.family.signed_in)
    rotation = state.settings.rotation
    if rotation == "strict":
        state.refresh_tokens.use_up(found)
    answer = user_answer(state, call, application, found.family, scopes)
    if rotation != "off":
        answer["refresh_token"] = refresh_token_for(state, call, found.family, scopes)
    return answer


def _device_code(state: State, call: Call) -> JsonObject:
    """RFC 8628, section 3.4."""
    application = authenticate(state, call)
    code, user = state.device_codes.redeem(call.required("device_code"), application.client_id, call.now)
    scopes = Scopes.parse(code.scope)
    family = Family(user, application.client_id, code.signed_in)
    answer = user_answer(state, call, application, family, scopes)
    if "offline_access" in scopes.openid:
        answer["refresh_token"] = refresh_token_for(state, call, family, scopes)
    return answer


GRANTS: dict[str, tuple[str, Callable[[State, Call], JsonObject]]] = {
    "client_credentials": ("client_credentials", _client_credentials),
    "refresh_token": ("refresh_token", _refresh_token),
    DEVICE_CODE: ("device_code", _device_code),
}
"""Each grant's name on the wire, its name in kinds of requests, and what answers it."""
