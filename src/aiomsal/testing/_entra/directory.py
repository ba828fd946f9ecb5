"""Who exists: tenants, users and applications."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import RefusedError, missing

if TYPE_CHECKING:
    from .keys import RegisteredCertificate

SHARED_TENANTS = frozenset({"common", "organizations"})
"""Path segments that stand for whichever tenant the user or the application is at home in."""


@dataclass(frozen=True)
class Tenant:
    """A directory, named in URLs by its GUID or its domain."""

    tenant_id: str
    domain: str


@dataclass(frozen=True)
class User:
    """A person, at home in one tenant and a guest in any other."""

    username: str
    object_id: str
    tenant_id: str
    name: str = ""
    password: str = field(default="", repr=False)
    """Empty for a person who signs in by name alone, which only the pages allow."""

    def object_id_in(self, tenant_id: str) -> str:
        """Return the object id of this person in a tenant: guests have another than at home."""
        return self.object_id if tenant_id == self.tenant_id else _derived(self.object_id, tenant_id)


@dataclass(frozen=True)
class FederatedCredential:
    """A trust in assertions of another issuer, as an application registers it.

    Its signature is checked with `public_key`, an RSA key in PEM; without one the issuer must be the FakeEntra itself,
    so that a token of one application (or managed identity) can stand for another.
    """

    issuer: str
    subject: str
    audience: str = "api://AzureADTokenExchange"
    public_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Application:
    """A client: confidential if it has a secret, a certificate or a federated credential, public otherwise."""

    client_id: str
    tenant_id: str
    client_secret: str = field(default="", repr=False)
    certificates: tuple[RegisteredCertificate, ...] = field(default=(), repr=False)
    federated: tuple[FederatedCredential, ...] = ()
    roles: tuple[str, ...] = ()
    multi_tenant: bool = True
    redirect_uris: tuple[str, ...] = ()

    @property
    def confidential(self) -> bool:
        """Say whether this client must prove who it is."""
        return bool(self.client_secret or self.certificates or self.federated)

    @property
    def object_id(self) -> str:
        """Return the object id of its service principal at home: `oid` and `sub` of its own tokens."""
        return self.object_id_in(self.tenant_id)

    def object_id_in(self, tenant_id: str) -> str:
        """Return the object id of its service principal in a tenant."""
        return _derived(self.client_id, tenant_id)


def _derived(name: str, tenant_id: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant_id}/{name}"))


class Directory:
    """All tenants, users and applications of one FakeEntra: dictionaries and a set, written under one lock."""

    def __init__(self) -> None:
        """Start with one tenant: everybody's home who names no other."""
        self._lock = threading.Lock()
        self._tenants: dict[str, Tenant] = {}
        self._users: dict[str, User] = {}
        self._applications: dict[str, Application] = {}
        self._disabled: set[str] = set()
        self.home = Tenant(str(uuid.uuid4()), "home.example")
        self.add_tenant(self.home)

    def add_tenant(self, tenant: Tenant) -> None:
        with self._lock:
            self._tenants[tenant.tenant_id.lower()] = tenant
            self._tenants[tenant.domain.lower()] = tenant

    def add_user(self, user: User) -> None:
        with self._lock:
            self._users[user.username.lower()] = user

    def add_application(self, application: Application) -> None:
        with self._lock:
            self._applications[application.client_id.lower()] = application

    def tenant(self, name: str) -> Tenant | None:
        """Return the tenant a path names; None for "common" and "organizations"; refuse one that is unknown."""
        if name.lower() in SHARED_TENANTS:
            return None
        tenant = self._tenants.get(name.lower())
        if tenant is None:
            raise RefusedError(90002, f"Tenant '{name}' not found. Check that you have the correct tenant ID.")
        return tenant

    def user(self, who: User | str) -> User:
        """Return a user by name, for those who administer: an unknown one is a ValueError."""
        name = who if isinstance(who, str) else who.username
        user = self._users.get(name.lower())
        if user is None:
            message = f"no user {name!r}: add one with add_user({name!r})"
            raise ValueError(message)
        return user

    def find_user(self, username: str) -> User | None:
        """Return the user whom a name on the wire means; None if there is none."""
        return self._users.get(username.strip().lower())

    def disable(self, user: User) -> None:
        with self._lock:
            self._disabled.add(user.object_id)

    def check_enabled(self, user: User) -> None:
        """Refuse a user whose account is disabled."""
        if user.object_id in self._disabled:
            raise RefusedError(50057)

    def application(self, client_id: str, tenant: Tenant | None) -> Application:
        """Return the application that asks, or refuse one that does not exist in that tenant."""
        if not client_id:
            raise missing("client_id")
        application = self._applications.get(client_id.lower())
        foreign = application and tenant and tenant.tenant_id != application.tenant_id and not application.multi_tenant
        if application is None or foreign:
            where = tenant.domain if tenant else "any tenant"
            raise RefusedError(700016, f"Application with identifier '{client_id}' was not found in '{where}'.")
        return application
