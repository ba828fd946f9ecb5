"""What a client reads before it asks: OpenID configuration, instance discovery, keys; and where a device begins."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .http import json_response

if TYPE_CHECKING:
    from .http import HttpResponse
    from .state import Call, State

_PUBLIC_CLOUD = ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net")


def openid_configuration(state: State, call: Call) -> HttpResponse:
    """Answer OpenID Connect discovery. A domain is answered with its tenant's GUID, as Entra does."""
    tenant = state.directory.tenant(call.tenant)
    name = tenant.tenant_id if tenant else call.tenant.lower()
    here = f"{call.request.base}/{name}"
    return json_response(
        200,
        {
            "issuer": f"{call.request.base}/{name if tenant else '{tenantid}'}/v2.0",
            "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
            "token_endpoint": f"{here}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
            "end_session_endpoint": f"{here}/oauth2/v2.0/logout",
            "jwks_uri": f"{here}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        },
    )


def instance_discovery(_state: State, call: Call) -> HttpResponse:
    """Answer Entra's instance discovery. Every host is known here; each is an alias of the public cloud's."""
    authorize = urlsplit(call.required("authorization_endpoint"))
    aliases = list(dict.fromkeys((*_PUBLIC_CLOUD, authorize.hostname or "")))
    tenant = authorize.path.strip("/").partition("/")[0]
    return json_response(
        200,
        {
            "tenant_discovery_endpoint": (f"https://{authorize.netloc}/{tenant}/v2.0/.well-known/openid-configuration"),
            "api-version": "1.1",
            "metadata": [
                {"preferred_network": _PUBLIC_CLOUD[0], "preferred_cache": _PUBLIC_CLOUD[1], "aliases": aliases}
            ],
        },
    )


def user_realm(state: State, call: Call) -> HttpResponse:
    """Answer how a user proves who they are: to us, and to nobody we federate with. MSAL asks before a password."""
    user = state.directory.find_user(unquote(call.request.path.rpartition("/")[2]))
    return json_response(
        200,
        {
            "ver": "1.0",
            "account_type": "Managed" if user else "Unknown",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        },
    )


def jwks(state: State, call: Call) -> HttpResponse:
    """Answer with the keys that check our signatures (RFC 7517, section 5)."""
    tenant = state.directory.tenant(call.tenant)
    issuer = call.issuer(tenant.tenant_id if tenant else "{tenantid}")
    return json_response(200, {"keys": [{**state.key.jwk, "issuer": issuer}]})
