"""The authority in a client's constructor: checked, and as one canonical URL. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

Cloud = Literal["public", "us-government", "china"]
"""The clouds of the Microsoft identity platform; another has to be named by its `authority`."""

HOSTS: Final[dict[str, str]] = {
    "public": "login.microsoftonline.com",
    "us-government": "login.microsoftonline.us",
    "china": "login.partner.microsoftonline.cn",
}

SHARED_TENANTS: Final = frozenset({"common", "organizations", "consumers"})
"""Path segments that name no tenant, but whichever the user is at home in."""

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_CIAM: Final = ".ciamlogin.com"  # the one kind of authority that MSAL takes without a path


class Authority(NamedTuple):
    """Where tokens are asked for."""

    url: str
    """`https://host[:port]/path`, the host in lower case, without a slash at the end."""
    host: str
    """Host and port."""
    tenant: str
    """The first segment of the path, empty if there is none."""
    oidc: bool
    """Whether it is any OpenID Connect provider (`oidc_authority`), rather than one of Microsoft's kind."""

    @property
    def environment(self) -> str:
        """The host without the port, by which MSAL files accounts and refresh tokens."""
        return self.host.partition(":")[0]

    @property
    def realm(self) -> str:
        """Within which accounts and refresh tokens are good: Entra's for a whole cloud, others' for their own path."""
        whole_cloud = not self.oidc and self.url.count("/") <= 3  # https://host/tenant, and no policy after it
        return self.host if whole_cloud else self.url.removeprefix("https://")


def authority_of(
    authority: str | None, oidc_authority: str | None, tenant: str | None, cloud: str, *, default_tenant: str | None
) -> Authority:
    """The authority that these arguments of a constructor mean.

    Raises:
        TypeError: an argument that is not a string.
        ValueError: arguments that contradict one another, or cannot be right.
    """
    given = {"authority": authority, "oidc_authority": oidc_authority, "tenant": tenant}
    for name, value in given.items():
        if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- users
            raise TypeError(f"{name} is a string, not {type(value).__name__}")
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} say the same thing: pass one of them")
    if cloud not in HOSTS:
        raise ValueError(f"cloud is one of {', '.join(map(repr, HOSTS))}, not {cloud!r}: name others by authority=")
    if cloud != "public" and (authority is not None or oidc_authority is not None):
        raise ValueError("an authority names its cloud: leave cloud= out, or name the tenant instead")
    if oidc_authority is not None:
        return _parsed(oidc_authority, "oidc_authority", oidc=True)
    if authority is not None:
        return _parsed(authority, "authority", oidc=False)
    tenant = default_tenant if tenant is None else tenant.strip()
    if tenant is None:
        raise ValueError('which tenant? Pass tenant="<its GUID or domain>", or authority="https://<host>/<tenant>"')
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"tenant is a GUID or a domain, not {tenant!r}; a URL is an authority=")
    return Authority(f"https://{HOSTS[cloud]}/{tenant}", HOSTS[cloud], tenant, oidc=False)


def _parsed(url: str, name: str, *, oidc: bool) -> Authority:
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" or not host:
        raise ValueError(f'{name} is an https URL such as "https://login.microsoftonline.com/<tenant>", not {url!r}')
    if parts.username is not None or parts.fragment or parts.query:
        raise ValueError(f"{name} is host and path only, without credentials, query or fragment")
    segments = [segment for segment in parts.path.split("/") if segment]
    if not segments and not oidc and not host.endswith(_CIAM):
        raise ValueError(f"{name} lacks the tenant: https://{host}/<tenant>")
    if not oidc and ("oauth2" in segments or "v2.0" in segments):
        raise ValueError(f"{name} ends with the tenant (or policy): leave out /v2.0 and /oauth2/...")
    netloc = host if parts.port in (None, 443) else f"{host}:{parts.port}"
    return Authority("/".join([f"https://{netloc}", *segments]), netloc, segments[0] if segments else "", oidc=oidc)
