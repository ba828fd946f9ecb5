"""A service, known to the authority by a credential of its own."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiomsal._client import Acquired
from aiomsal._token import TokenRequest, canonical_scopes

from ._authority import HOSTS, SHARED_TENANTS, authority_of
from ._msal import Settings
from ._options import (
    RESERVED_SCOPES,
    checked_capabilities,
    checked_client_id,
    checked_threads,
    claims_of,
    refuse_unknown,
    transport_options,
)
from ._requests import FOR_A_USER, read_request
from ._results import error_of, token_of
from ._users import UserClient
from .credentials import Assertion, Certificate, Secret

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from ._authority import Cloud
    from ._exchange import Exchange
    from ._msal import Application
    from ._transport import HttpClient

_OPTIONS: Final = ("account", "claims")
_REGION: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class ConfidentialClient(UserClient):
    """A client for `TokenManager` that acquires tokens as an application: `get("https://graph.microsoft.com/.default")`.

    And, for a web application, for the users who sign in there (`begin_sign_in`, `complete_sign_in`):
    `get("User.Read", account=account)`. Each has a session of their own; the application keeps the account, or its
    home account id, where it keeps its user's session. Without `account` a token is the application's own.

    The constructor checks and stores; MSAL is imported and built, files are read and the authority is asked by the
    first call, in worker threads. One client may be used on several event loops, in several threads, and after a fork.
    A call may bring `claims`, a claims challenge.

    Args:
        client_id: the application's (client) id.
        credential: a client secret, a `Certificate` or an `Assertion`.
        tenant: the GUID or domain of the tenant to act in, or of its users: for these "organizations", "consumers", or
            "common" for both, will do too; with `cloud`: "public", "us-government" or "china".
        authority: instead of both, the whole URL: `https://<host>/<tenant>`.
        oidc_authority: instead, the URL of any OpenID Connect provider.
        azure_region: for the application's own tokens ask the platform's endpoint in that region; True detects it; None
            does as the environment variable MSAL_FORCE_REGION says; False never does.
        client_capabilities: what the program can do, such as "CP1": it handles claims challenges.
        instance_discovery: False leaves a custom authority unchecked against Microsoft's list of them.
        http_client: an object with `get` and `post` as a `requests.Session` has them, used instead of our own.
        proxies: as `requests` takes them, such as `{"https": "http://proxy:8080"}`; `{}` for none. By default the
            environment's (HTTPS_PROXY, ALL_PROXY, NO_PROXY; never for loopback).
        ca_file: a PEM file, or directory, of certificate authorities to trust instead of certifi's. The environment's
            REQUESTS_CA_BUNDLE and the like are not read.
        timeout: seconds to wait for an answer; or a pair, seconds to connect and seconds to answer.
        threads: how many requests may be under way at once.
        clock: epoch seconds, for tests.

    Raises:
        TypeError, ValueError: an argument that cannot be right, and what to pass instead.
    """

    def __init__(
        self,
        client_id: str,
        credential: str | Certificate | Assertion,
        *,
        tenant: str | None = None,
        authority: str | None = None,
        cloud: Cloud = "public",
        oidc_authority: str | None = None,
        azure_region: str | bool | None = None,
        client_capabilities: Iterable[str] = (),
        instance_discovery: bool | None = None,
        http_client: HttpClient | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float | tuple[float, float] = (5.0, 25.0),
        threads: int = 32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(credential, str | Certificate | Assertion):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"credential is a secret, Certificate(...) or Assertion(...), not {type(credential).__name__}"
            )
        if isinstance(azure_region, str) and not _REGION.fullmatch(azure_region):
            raise ValueError(f'azure_region is a name such as "westeurope", not {azure_region!r}')
        settings = Settings(
            checked_client_id(client_id),
            authority_of(authority, oidc_authority, tenant, cloud, default_tenant=None),
            transport_options(http_client, proxies, ca_file, timeout, imds=azure_region is True),
            capabilities=checked_capabilities(client_capabilities),
            instance_discovery=instance_discovery,
            azure_region=azure_region,
            threads=checked_threads(threads),
        )
        super().__init__(settings, clock, Secret(credential) if isinstance(credential, str) else credential)
        where, extra = settings.authority, dict[str, str]()
        if azure_region is not None:
            extra["azure_region"] = str(azure_region)
        if where.oidc:
            extra["oidc"] = "1"
        self._constant: Final = settings.client_id, where.url, settings.capabilities, tuple(sorted(extra.items()))
        self._in_shared_tenant: Final = not where.oidc and where.tenant.lower() in SHARED_TENANTS
        self._strict: Final = self._in_shared_tenant or where.host in HOSTS.values()

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """See `TokenClient.request`. The keywords are `account`, which makes it a user's request, and `claims`."""
        if options:
            if "login_hint" in options:
                raise TypeError(
                    "a ConfidentialClient does not look for users by name: pass account=, which a web application "
                    "keeps in its user's own session"
                )
            refuse_unknown(options, _OPTIONS, "ConfidentialClient")
            if "account" in options:
                return read_request(self._settings, scopes, options)
        scopes = canonical_scopes(scopes)
        if self._strict:
            self._check_scopes(scopes)
        client_id, authority, capabilities, extra = self._constant
        # By position: every cold call comes here, and names would make it half as slow again.
        return TokenRequest(
            client_id,
            authority,
            "client_credentials",
            scopes,
            "",  # no account
            "",  # no login hint
            claims_of(options) if options else "",
            capabilities,
            extra,
        )

    def session_key(self, request: TokenRequest, /) -> str | None:
        """See `TokenClient.session_key`. An application's own tokens have no session, and each user has one."""
        return self.session_of(request.account) if request.account else None

    def session_of(self, account: str | None, /) -> str | None:
        """See `PeopleClient.session_of`."""
        return f"user/{self._home}/{quote(account, safe='')}" if account else None

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """See `TokenClient.acquire`: for a user by refresh token, as `PublicClient.acquire`."""
        if request.grant == FOR_A_USER:
            return await self._acquire_for_user(request, session)

        def ask(application: Application, exchange: Exchange) -> Acquired:
            result = application.acquire_token_for_client([*request.scopes], claims_challenge=request.claims or None)
            exchange.answered = self._desk.now()
            if "error" in result:
                raise error_of(result, exchange, request)
            return Acquired(token_of(exchange, request, tenant_id=application.authority.tenant, account=None))

        return await self._desk.ask(request.authority, ask)

    def _check_scopes(self, scopes: tuple[str, ...]) -> None:
        if self._in_shared_tenant:
            tenant = self._settings.authority.tenant
            raise ValueError(
                f"an application acts in one tenant: pass its GUID or domain, not {tenant!r}; for a user, pass account="
            )
        for scope in scopes:
            if scope.endswith("/.default"):
                continue
            if scope in RESERVED_SCOPES:
                raise ValueError(
                    f"{scope!r} is for users, who get it anyway; an application asks for a resource's '/.default'"
                )
            raise ValueError(
                f"an application asks for all it was granted of a resource, '<resource>/.default', such as "
                f"'https://graph.microsoft.com/.default', not {scope!r}; for a user, pass account="
            )
