"""MSAL's applications: what of them is used, and how they are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._authority import Authority
    from ._transport import Transport, TransportOptions

Result = dict[str, Any]
"""What MSAL returns: a success or an error response."""


class MsalAuthority(Protocol):
    """The part of MSAL's Authority that is used here."""

    instance: str
    """Its host without the port."""
    tenant: str
    token_endpoint: str
    is_adfs: bool


class Application(Protocol):
    """The part of MSAL's applications that is used here. Everything that comes out of them is checked in `_results`."""

    authority: MsalAuthority

    def acquire_token_for_client(self, scopes: list[str], *, claims_challenge: str | None) -> Result: ...
    def acquire_token_silent_with_error(
        self, scopes: list[str], account: Mapping[str, str], *, claims_challenge: str | None
    ) -> Result | None: ...
    def initiate_auth_code_flow(
        self,
        scopes: list[str],
        *,
        redirect_uri: str,
        prompt: str | None,
        login_hint: str | None,
        domain_hint: str | None,
        claims_challenge: str | None,
        max_age: int | None,
        response_mode: str,
    ) -> Result: ...
    def acquire_token_by_auth_code_flow(
        self, auth_code_flow: Result, auth_response: dict[str, str], scopes: list[str]
    ) -> Result: ...
    def initiate_device_flow(self, scopes: list[str], *, claims_challenge: str | None) -> Result: ...
    def acquire_token_by_device_flow(
        self, flow: Result, *, claims_challenge: str | None, exit_condition: Callable[[Result], bool]
    ) -> Result: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What MSAL's applications of one client are built with."""

    client_id: str
    authority: Authority
    transport: TransportOptions
    capabilities: tuple[str, ...] = ()
    instance_discovery: bool | None = None
    azure_region: str | bool | None = None
    threads: int = 32

    def build(self, authority: str, http_client: Transport, token_cache: object, credential: object) -> Application:
        """A new application for an authority's URL; `credential` is None for a public client.

        In a worker thread, for it imports MSAL and reads the authority's metadata.
        """
        import msal

        options: dict[str, Any] = {
            "oidc_authority" if self.authority.oidc else "authority": authority,
            "token_cache": token_cache,
            "http_client": http_client,
            "http_cache": _Forgetful(),
            "client_capabilities": list(self.capabilities) or None,
            "instance_discovery": self.instance_discovery,
        }
        made: Any
        if credential is None:
            made = msal.PublicClientApplication(self.client_id, **options)
        else:
            made = msal.ConfidentialClientApplication(
                self.client_id, client_credential=credential, azure_region=self.azure_region, **options
            )
        # After each refusal MSAL looks for refresh tokens filed under other names of the authority, asking a central
        # host for these names. Our sessions know one name only; and a user's refusal must not become an outage of
        # that host.
        made.authority_groups = {made.authority.instance: []}
        return cast("Application", made)


class _Forgetful(dict[str, Any]):
    """The `http_cache` that switches MSAL's throttling off; ours is in `_gate`.

    Under MSAL's one user is given another's error, and with a 200 that carries Retry-After another's token.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep nothing."""
