"""A service, known to the authority by a credential of its own."""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from aiomsal._client import Acquired
from aiomsal._token import TokenRequest, canonical_scopes

from ._app import Desk
from ._authority import HOSTS, SHARED_TENANTS, authority_of
from ._exchange import current
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
from ._results import error_of, token_of
from .credentials import Assertion, Certificate, Secret

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from aiomsal._client import Attempt

    from ._authority import Cloud
    from ._exchange import Exchange
    from ._msal import Application
    from ._transport import HttpClient

_REGION: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")

_awaited: ContextVar[tuple[object, str] | None] = ContextVar("aiomsal_awaited", default=None)
"""The assertion that `prepare` awaited for the `acquire` that follows it in the same task, and for which client."""


class ConfidentialClient:
    """A client for `TokenManager` that acquires tokens as an application: `get("https://graph.microsoft.com/.default")`.

    The constructor checks and stores; MSAL is imported and built, files are read and the authority is asked by the
    first call, in worker threads. One client may be used on several event loops, in several threads, and after a fork.
    A call may bring `claims`, a claims challenge.

    Args:
        client_id: the application's (client) id.
        credential: a client secret, a `Certificate` or an `Assertion`.
        tenant: the GUID or domain of the tenant to act in; with `cloud`: "public", "us-government" or "china".
        authority: instead of both, the whole URL: `https://<host>/<tenant>`.
        oidc_authority: instead, the URL of any OpenID Connect provider.
        azure_region: ask the platform's endpoint in that region; True detects it; None does as the environment
            variable MSAL_FORCE_REGION says; False never does.
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
        self._credential: Final = Secret(credential) if isinstance(credential, str) else credential
        self._settings: Final = Settings(
            checked_client_id(client_id),
            authority_of(authority, oidc_authority, tenant, cloud, default_tenant=None),
            transport_options(http_client, proxies, ca_file, timeout, imds=azure_region is True),
            capabilities=checked_capabilities(client_capabilities),
            instance_discovery=instance_discovery,
            azure_region=azure_region,
            threads=checked_threads(threads),
        )
        where, extra = self._settings.authority, dict[str, str]()
        if azure_region is not None:
            extra["azure_region"] = str(azure_region)
        if where.oidc:
            extra["oidc"] = "1"
        capabilities = self._settings.capabilities
        self._constant: Final = self._settings.client_id, where.url, capabilities, tuple(sorted(extra.items()))
        self._in_shared_tenant: Final = not where.oidc and where.tenant.lower() in SHARED_TENANTS
        self._strict: Final = self._in_shared_tenant or where.host in HOSTS.values()
        # Of this object only the desk changes.
        self._desk: Final = Desk(self._settings, self._for_msal, clock)

    def __repr__(self) -> str:
        return f"ConfidentialClient({self._settings.client_id!r}, authority={self._settings.authority.url!r})"

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """See `TokenClient.request`. `claims` is the one keyword."""
        if options:
            refuse_unknown(options, ("claims",), "ConfidentialClient")
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

    def session_key(self, _request: TokenRequest, /) -> str | None:
        """See `TokenClient.session_key`. An application's own tokens have no session."""
        return None

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        """See `TokenClient.prepare`. An assertion that is awaited is awaited here."""
        await self._desk.gate.admit(attempt)
        await self._desk.open(request.authority, attempt.deadline)
        assertion = await self._credential.awaited()
        _awaited.set(None if assertion is None else (self, assertion))

    async def acquire(self, request: TokenRequest, _session: bytes | None, /) -> Acquired:
        """See `TokenClient.acquire`."""
        awaited = await self._assertion()

        def ask(application: Application, exchange: Exchange) -> Acquired:
            exchange.assertion = self._credential.assertion(self._settings.client_id, application.authority, awaited)
            result = application.acquire_token_for_client([*request.scopes], claims_challenge=request.claims or None)
            exchange.answered = self._desk.now()
            if "error" in result:
                raise error_of(result, exchange, request)
            return Acquired(token_of(exchange, request, tenant_id=application.authority.tenant, account=None))

        return await self._desk.ask(request.authority, ask)

    async def _assertion(self) -> str | None:
        prepared = _awaited.get()
        _awaited.set(None)
        if prepared is not None and prepared[0] is self:
            return prepared[1]
        return await self._credential.awaited()  # called without `prepare`, or in another task

    def _for_msal(self) -> object:
        return self._credential.for_msal(lambda: current.get().assertion)

    def _check_scopes(self, scopes: tuple[str, ...]) -> None:
        if self._in_shared_tenant:
            tenant = self._settings.authority.tenant
            raise ValueError(f"an application acts in one tenant: pass its GUID or domain, not {tenant!r}")
        for scope in scopes:
            if scope.endswith("/.default"):
                continue
            if scope in RESERVED_SCOPES:
                raise ValueError(f"{scope!r} is for users; an application asks for a resource's '/.default'")
            raise ValueError(
                f"an application asks for all it was granted of a resource, '<resource>/.default', such as "
                f"'https://graph.microsoft.com/.default', not {scope!r}"
            )
