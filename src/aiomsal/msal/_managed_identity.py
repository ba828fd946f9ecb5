"""MSAL's client for managed identities, awaited."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from ._applications import Awaited
from ._desk import Desk, own
from ._keys import key_of

if TYPE_CHECKING:
    from collections import UserDict
    from collections.abc import MutableMapping


class ManagedIdentityClient(Awaited):
    """`msal.ManagedIdentityClient`, awaited. See `aiomsal.msal` for what is shared.

    The arguments are MSAL's, `http_client` above all, which is called in worker threads: give it a timeout.
    """

    def __init__(
        self,
        managed_identity: dict[str, Any] | UserDict[str, Any],
        *,
        http_client: object,
        token_cache: object = None,
        http_cache: MutableMapping[str, Any] | None = None,
        client_capabilities: list[str] | None = None,
    ) -> None:
        managed_identity, client_capabilities = copy(managed_identity), own(client_capabilities)  # as they are now

        def build() -> Any:
            import msal

            make: Any = msal.ManagedIdentityClient
            return make(
                managed_identity,
                http_client=http_client,
                token_cache=token_cache,
                http_cache=http_cache,
                client_capabilities=client_capabilities,
            )

        self._desk = Desk(build)

    async def acquire_token_for_client(self, *, resource: str, claims_challenge: str | None = None) -> dict[str, Any]:
        """As MSAL's."""
        key = key_of("managed_identity", None, None, (resource, claims_challenge), {})
        return await self._desk.call(
            key, lambda app: app.acquire_token_for_client(resource=resource, claims_challenge=claims_challenge)
        )
