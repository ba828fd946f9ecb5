"""What is issued: access tokens, ID tokens, client_info, and the answers that carry them."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import TYPE_CHECKING

from .errors import RefusedError
from .http import member, parse_object
from .keys import b64url

if TYPE_CHECKING:
    from .directory import Application, User
    from .http import JsonObject
    from .refresh import Family
    from .scopes import Scopes
    from .state import Call, State

_PUBLIC, _SECRET, _CERTIFICATE = "0", "1", "2"  # azpacr: how the client proved who it is


def requested_claims(call: Call) -> JsonObject:
    """Return the parameter "claims" (OpenID Connect Core, section 5.5); empty if absent; refuse what is no object."""
    text = call.form.get("claims", "")
    if not text:
        return {}
    try:
        return parse_object(text)
    except ValueError as error:
        raise RefusedError(90023) from error


def application_answer(
    state: State, call: Call, application: Application, tenant_id: str, scopes: Scopes
) -> JsonObject:
    """Return the answer to an application that acts as itself. Entra sends it neither scope nor client_info."""
    object_id = application.object_id_in(tenant_id)
    claims = _common(state, call, application, tenant_id, scopes)
    claims.update(oid=object_id, sub=object_id, idtyp="app")
    if application.roles:
        claims["roles"] = list(application.roles)
    return _answer(state, claims)


def user_answer(
    state: State,
    call: Call,
    application: Application,
    user: User,
    scopes: Scopes,
    *,
    about_sign_in: JsonObject | None = None,
) -> JsonObject:
    """Return the answer to a client that acts for a user, without its refresh token.

    `about_sign_in` is what the ID token says besides of a sign-in that has just been.
    """
    path_tenant = state.directory.tenant(call.tenant)
    tenant_id = path_tenant.tenant_id if path_tenant else user.tenant_id
    object_id = user.object_id_in(tenant_id)
    claims = _common(state, call, application, tenant_id, scopes)
    claims.update(oid=object_id, sub=_pairwise(object_id, scopes.resource), idtyp="user")
    claims.update(scp=" ".join(scopes.permissions), name=user.name, preferred_username=user.username)
    requested = requested_claims(call)
    contexts = member(requested, "access_token", "acrs", "values") or [
        member(requested, "access_token", "acrs", "value")
    ]
    if contexts != [None]:  # authentication contexts: what the user had to do for them is done, or we were not here
        claims["acrs"] = contexts
    answer = _answer(state, claims)
    answer["scope"] = scopes.granted
    if "openid" in scopes.openid and state.settings.id_tokens:
        claims = _id_token_claims(state, call, application, user, tenant_id)
        answer["id_token"] = state.key.sign({**claims, **(about_sign_in or {})})
    if call.form.get("client_info") == "1" and state.settings.client_info:
        answer["client_info"] = client_info(user)
    return answer


def refresh_token_for(state: State, call: Call, family: Family, scopes: Scopes) -> str:
    """Return a new refresh token for the scopes that were granted."""
    expires_at = call.now + state.settings.refresh_token_expires_in
    return state.refresh_tokens.issue(family, " ".join(scopes.asked), expires_at)


def client_info(user: User) -> str:
    """Return Entra's client_info: the user's object id and tenant at home, of which MSAL makes the home account id."""
    return b64url(json.dumps({"uid": user.object_id, "utid": user.tenant_id}).encode())


def _answer(state: State, claims: JsonObject) -> JsonObject:
    settings = state.settings
    answer: JsonObject = {
        "token_type": "Bearer",
        "expires_in": settings.expires_in,
        "ext_expires_in": settings.expires_in if settings.ext_expires_in is None else settings.ext_expires_in,
        "access_token": state.key.sign(claims),
    }
    if settings.refresh_in is not None:
        answer["refresh_in"] = settings.refresh_in
    return answer


def _common(state: State, call: Call, application: Application, tenant_id: str, scopes: Scopes) -> JsonObject:
    now = int(call.now)
    claims: JsonObject = {
        "aud": scopes.resource,
        "iss": call.issuer(tenant_id),
        "iat": now,
        "nbf": now,
        "exp": now + state.settings.expires_in,
        "appid": application.client_id,
        "azp": application.client_id,
        "azpacr": _proof(application, call),
        "jti": str(uuid.uuid4()),
        "tid": tenant_id,
        "uti": secrets.token_urlsafe(16),
        "ver": "2.0",
    }
    capabilities = member(requested_claims(call), "access_token", "xms_cc", "values")
    if capabilities:
        claims["xms_cc"] = capabilities
    return claims


def _proof(application: Application, call: Call) -> str:
    if not application.confidential:
        return _PUBLIC
    return _CERTIFICATE if call.form.get("client_assertion") else _SECRET


def _id_token_claims(state: State, call: Call, application: Application, user: User, tenant_id: str) -> JsonObject:
    now = int(call.now)
    object_id = user.object_id_in(tenant_id)
    return {
        "aud": application.client_id,
        "iss": call.issuer(tenant_id),
        "iat": now,
        "nbf": now,
        "exp": now + state.settings.expires_in,
        "name": user.name,
        "oid": object_id,
        "preferred_username": user.username,
        "sub": _pairwise(object_id, application.client_id),
        "tid": tenant_id,
        "uti": secrets.token_urlsafe(16),
        "ver": "2.0",
    }


def _pairwise(object_id: str, audience: str) -> str:
    return b64url(uuid.uuid5(uuid.NAMESPACE_URL, f"{audience}#{object_id}").bytes)
