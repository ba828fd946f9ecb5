"""Which request is which: its kind, its tenant, and what answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .devicecode import devicecode
from .discovery import instance_discovery, jwks, openid_configuration, user_realm
from .errors import RefusedError
from .grants import GRANTS, token
from .log import kinds_of
from .portal import authorize_page, device_page, sign_in_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http import HttpRequest, HttpResponse
    from .state import Call, State

    Handler = Callable[[State, Call], HttpResponse]


class Route(NamedTuple):
    """Where a request goes."""

    kind: str
    tenant: str
    handler: Handler


def _unknown(_state: State, call: Call) -> HttpResponse:
    raise RefusedError(90014, f"FakeEntra has nothing at {call.request.method} {call.request.path}.")


# Method and path below the tenant.
_ROUTES: dict[tuple[str, str], tuple[str, Handler]] = {
    ("GET", "v2.0/.well-known/openid-configuration"): ("discovery", openid_configuration),
    ("GET", ".well-known/openid-configuration"): ("discovery", openid_configuration),
    ("GET", "discovery/instance"): ("instance_discovery", instance_discovery),
    ("GET", "discovery/v2.0/keys"): ("jwks", jwks),
    ("GET", "oauth2/v2.0/authorize"): ("authorize", authorize_page),
    ("POST", "oauth2/v2.0/authorize"): ("authorize", authorize_page),
    ("GET", "oauth2/deviceauth"): ("deviceauth", device_page),
    ("POST", "oauth2/deviceauth"): ("deviceauth", device_page),
    ("POST", "login"): ("sign_in", sign_in_page),
    ("GET", "userrealm"): ("user_realm", user_realm),
    ("POST", "oauth2/v2.0/token"): ("token", token),
    ("POST", "oauth2/v2.0/devicecode"): ("devicecode", devicecode),
}

KINDS = frozenset(
    {kind for kind, _ in _ROUTES.values()}
    | {f"token.{name}" for name, _ in GRANTS.values()}
    | {"token.other", "unknown"}
)


def route(request: HttpRequest, form: dict[str, str]) -> Route:
    """Return where `request` goes; what nobody answers is of the kind "unknown"."""
    tenant, _, rest = request.path.strip("/").partition("/")
    if rest.startswith("userrealm/"):  # the user's name follows
        rest = "userrealm"
    kind, handler = _ROUTES.get((request.method, rest), ("unknown", _unknown))
    if kind == "token":
        name, _grant = GRANTS.get(form.get("grant_type", ""), ("other", None))
        kind = f"token.{name}"
    return Route(kind, tenant, handler)


def known_kind(kind: str) -> str:
    """Return `kind`; raise ValueError if no request is ever of that kind, for a test would wait for it in vain."""
    if not any(kind in kinds_of(known) for known in KINDS):
        message = f"no request is of the kind {kind!r}: choose one of {', '.join(sorted(KINDS | {'token'}))}"
        raise ValueError(message)
    return kind
