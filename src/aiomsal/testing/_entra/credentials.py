"""How a client proves who it is: secret, certificate, federated credential, or nothing if it is public."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, cast

from .errors import RefusedError
from .keys import Jwt, load_public_key

if TYPE_CHECKING:
    from .directory import Application, FederatedCredential
    from .keys import RegisteredCertificate
    from .state import Call, State

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, section 2.2."""


def authenticate(state: State, call: Call) -> Application:
    """Return the application that asks, having checked that it is that one."""
    application = state.directory.application(call.form.get("client_id", ""), state.directory.tenant(call.tenant))
    secret, assertion = call.form.get("client_secret"), call.form.get("client_assertion")
    if not application.confidential:
        if secret or assertion:
            raise RefusedError(700025)
    elif assertion:
        _check_assertion(state, call, application, assertion)
    elif not secret:
        raise RefusedError(7000218)
    elif not (application.client_secret and hmac.compare_digest(secret.encode(), application.client_secret.encode())):
        raise RefusedError(7000215)
    return application


def _check_assertion(state: State, call: Call, application: Application, text: str) -> None:
    if call.form.get("client_assertion_type") != ASSERTION_TYPE:
        raise RefusedError(900144, f"The parameter 'client_assertion_type' must be '{ASSERTION_TYPE}'.")
    try:
        assertion = Jwt.parse(text)
    except ValueError as error:
        raise RefusedError(50027) from error
    if {"x5t", "x5t#S256", "x5c"} & assertion.header.keys():
        _check_certificate(application, assertion)
        _check_own_claims(state, call, application, assertion)
    else:
        _check_federated(state, application, assertion)
    _check_lifetime(state, call, assertion)


def _check_certificate(application: Application, assertion: Jwt) -> None:
    certificate = next((c for c in application.certificates if _names(assertion, c)), None)
    if certificate is None:
        raise RefusedError(
            700027, "The client assertion contains an invalid signature. [Reason - The key was not found.]"
        )
    if not assertion.signed_by(certificate.public_key):
        raise RefusedError(
            700027,
            "The client assertion contains an invalid signature. [Reason - The key was found, but it is another.]",
        )


def _names(assertion: Jwt, certificate: RegisteredCertificate) -> bool:
    """Say whether every header parameter that names a certificate names this one, and at least one does."""
    named = {
        (name, str(assertion.header[name]).rstrip("=")) for name in ("x5t", "x5t#S256") if name in assertion.header
    }
    chain = assertion.header.get("x5c")
    if chain is None:
        return bool(named) and named <= certificate.thumbprints
    return named <= certificate.thumbprints and _leaf(chain) == certificate.der


def _leaf(chain: object) -> bytes:
    """Return the first certificate of an x5c header, which is base64 and not base64url (RFC 7515, section 4.1.6)."""
    first = cast("list[object]", chain)[0] if isinstance(chain, list) and chain else ""
    try:
        return base64.b64decode(str(first))
    except (binascii.Error, ValueError):
        return b""


def _check_own_claims(state: State, call: Call, application: Application, assertion: Jwt) -> None:
    claims = assertion.claims
    if str(claims.get("iss")) != application.client_id or str(claims.get("sub")) != application.client_id:
        raise RefusedError(700021)
    tenant = state.directory.tenant(call.tenant)
    names = {call.tenant, *((tenant.tenant_id, tenant.domain) if tenant else ())}
    here = {f"{call.request.base}/{name}/{end}" for name in names for end in ("oauth2/v2.0/token", "v2.0")}
    if str(claims.get("aud")) not in here:
        raise RefusedError(700023)


def _check_federated(state: State, application: Application, assertion: Jwt) -> None:
    """Find the trust that matches issuer, subject and audience; the error says how far it matched."""
    claims = assertion.claims
    trusts: list[FederatedCredential] = list(application.federated)
    for code, name in ((700211, "iss"), (700213, "sub"), (700212, "aud")):
        trusts = [trust for trust in trusts if claims.get(name) == _expected(trust, name)]
        if not trusts:
            raise RefusedError(code)
    for trust in trusts:
        if assertion.signed_by(load_public_key(trust.public_key) if trust.public_key else state.key.public):
            return
    raise RefusedError(700027)


def _expected(trust: FederatedCredential, name: str) -> str:
    return {"iss": trust.issuer, "sub": trust.subject, "aud": trust.audience}[name]


def _check_lifetime(state: State, call: Call, assertion: Jwt) -> None:
    """Check "exp" and "nbf" (RFC 7523, section 3), with Entra's five minutes of tolerance for clocks."""
    tolerance = 300
    expires, starts = assertion.claims.get("exp"), assertion.claims.get("nbf", 0)
    if not isinstance(expires, int | float) or not isinstance(starts, int | float):
        raise RefusedError(50027)
    times = state.assertion_times(call.now)
    if not any(starts - tolerance <= now < expires + tolerance for now in times):
        raise RefusedError(700024)
