"""What an administrator of a FakeEntra can do, and its users: the half that no request goes through."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack
from urllib.parse import urlsplit

from .devicecode import approve
from .directory import Application, Tenant, User
from .errors import EntraError, RefusedError
from .http import parse_object
from .keys import RegisteredCertificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .directory import FederatedCredential
    from .state import Settings, SettingsChanges, State


class Administration:
    """Who exists, how it issues, and to whom it does not. Every method may be called from any thread."""

    _state: State

    # Who exists

    @property
    def tenant_id(self) -> str:
        """Return the GUID of the home tenant, to which everybody belongs who is added without a tenant."""
        return self._state.directory.home.tenant_id

    def authority(self, tenant: str = "") -> str:
        """Return the URL of a tenant, the home tenant by default, for `http_client()` at Microsoft's public address."""
        return f"https://login.microsoftonline.com/{tenant or self.tenant_id}"

    def add_tenant(self, domain: str = "", *, tenant_id: str = "") -> Tenant:
        """Add a tenant under its GUID and its domain; either is made up if it is not given."""
        tenant_id = tenant_id or str(uuid.uuid4())
        tenant = Tenant(tenant_id, domain or f"{tenant_id}.example")
        self._state.directory.add_tenant(tenant)
        return tenant

    def add_user(self, username: str, *, tenant: str = "", name: str = "", password: str = "") -> User:
        """Add a user, at home in `tenant` (a GUID or domain). Another of the same name is replaced.

        One without a password signs in at the page by name alone, and cannot by the grant of that name.
        """
        name = name or username.partition("@")[0]
        user = User(username, str(uuid.uuid4()), self._tenant_id(tenant), name, password)
        self._state.directory.add_user(user)
        return user

    def disable_user(self, user: User | str) -> None:
        """Disable the account of a user: no sign-in, and no refresh (AADSTS50057)."""
        self._state.directory.disable(self._state.directory.user(user))

    def add_application(
        self,
        client_id: str = "",
        *,
        tenant: str = "",
        public: bool = False,
        certificates: Iterable[str] = (),
        federated: Iterable[FederatedCredential] = (),
        roles: Iterable[str] = (),
        multi_tenant: bool = True,
        redirect_uris: Iterable[str] | None = None,
    ) -> Application:
        """Register an application at home in `tenant`; another of the same `client_id` is replaced.

        A public client proves nothing. A confidential one proves itself with the `client_secret` made here, or, if
        `certificates` (PEM) or `federated` credentials are given, with those and no secret. `roles` are those in its
        own tokens. Only a `multi_tenant` one gets tokens of tenants it is not at home in. People are sent back to
        `redirect_uris` only, where the port of http://localhost and http://127.0.0.1 does not count; by default that
        is http://localhost for a public client, and nowhere for a confidential one.
        """
        uris = ("http://localhost",) * public if redirect_uris is None else tuple(redirect_uris)
        if not all(urlsplit(uri).netloc and "#" not in uri for uri in uris):
            message = f"a redirect URI is an absolute URL without a fragment, and this is not: {', '.join(uris)}"
            raise ValueError(message)
        known = tuple(RegisteredCertificate.load(pem) for pem in certificates)
        trusts = tuple(federated)
        if public and (known or trusts):
            message = "a public client has no credentials: leave out public=True, or the certificates and federated"
            raise ValueError(message)
        application = Application(
            client_id or str(uuid.uuid4()),
            self._tenant_id(tenant),
            "" if public or known or trusts else secrets.token_urlsafe(30),
            known,
            trusts,
            tuple(roles),
            multi_tenant,
            uris,
        )
        self._state.directory.add_application(application)
        return application

    # How it issues, and to whom it does not

    @property
    def settings(self) -> Settings:
        """Return how tokens and codes are issued at present."""
        return self._state.settings

    def configure(self, **changes: Unpack[SettingsChanges]) -> None:
        """Change some of the settings for whatever is issued from now on."""
        if changes.get("auto_approve"):
            self._state.directory.user(str(changes.get("auto_approve")))
        self._state.settings = replace(self._state.settings, **changes)

    def approve_device_code(self, user_code: str, user: User | str) -> None:
        """Be the user who enters `user_code` and signs in; raise ValueError if no such code waits."""
        who = self._state.directory.user(user)
        approve(self._state, self._state.device_codes.find(user_code), who)

    def deny_device_code(self, user_code: str) -> None:
        """Be the user who enters `user_code` and declines; raise ValueError if no such code waits."""
        self._state.device_codes.decide(self._state.device_codes.find(user_code), None)

    def require_interaction(
        self,
        user: User | str | None = None,
        *,
        scope: str = "",
        claims: str = "",
        error: EntraError | None = None,
    ) -> None:
        """Refuse to issue silently for a user (all, if None) and a scope (any, if empty) until the next sign-in.

        The refusal is `error`, AADSTS50076 (multifactor authentication) by default. Whoever signs in afterwards has
        satisfied it, except that
        - AADSTS65001 asks for consent: the pages ask for it too, and only who gives it has satisfied it;
        - an error with `claims`, a claims challenge, is satisfied by a sign-in that brought these claims only.

        With `claims`, a JSON object, it concerns requests that carry these claims only, for an authentication context
        say, and is satisfied by a sign-in that brought them. Claims are compared as JSON: more of them do no harm.
        """
        who = None if user is None else self._state.directory.user(user)
        concerned = parse_object(claims) if claims else {}
        error = error or EntraError(50076, "interaction_required" if claims else "")
        brought = parse_object(error.claims) if error.claims else concerned
        self._state.interactions.require(self._state.next_in_order(), who, scope, concerned, error, brought)

    def revoke_refresh_tokens(self, user: User | str) -> int:
        """End every refresh token of a user (AADSTS50173 from now on) and return how many that were."""
        return self._state.refresh_tokens.revoke(self._state.directory.user(user))

    def _tenant_id(self, name: str) -> str:
        directory = self._state.directory
        if not name:
            return directory.home.tenant_id
        try:
            tenant = directory.tenant(name)
        except RefusedError:
            tenant = None
        if tenant is None:
            message = f"no tenant {name!r}: add one with add_tenant({name!r})"
            raise ValueError(message)
        return tenant.tenant_id
