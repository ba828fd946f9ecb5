"""An authority in a process of its own, and the contenders that ask it: our client, MSAL in threads, azure-identity."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import requests

from aiomsal import ConfidentialClient
from aiomsal.testing import FakeEntraProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiomsal.testing import Application


@contextlib.contextmanager
def authority() -> Iterator[tuple[FakeEntraProcess, Application]]:
    """A FakeEntra over HTTPS on loopback, with one confidential application."""
    with FakeEntraProcess() as entra:
        yield entra, entra.add_application()


def our_client(entra: FakeEntraProcess, application: Application, **options: Any) -> ConfidentialClient:
    """A client of ours for it."""
    return ConfidentialClient(
        application.client_id,
        application.client_secret,
        authority=entra.authority(),
        ca_file=entra.ca_file,
        instance_discovery=False,
        **options,
    )


def msal_application(entra: FakeEntraProcess, application: Application, connections: int = 32) -> Any:
    """MSAL as it comes, with an HTTP session that keeps enough connections for its threads."""
    import msal  # a rival

    session = requests.Session()
    session.verify = entra.ca_file
    session.trust_env = False
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return msal.ConfidentialClientApplication(
        application.client_id,
        client_credential=application.client_secret,
        authority=entra.authority(),
        instance_discovery=False,
        http_client=session,
    )


@contextlib.asynccontextmanager
async def azure_credential(entra: FakeEntraProcess, application: Application) -> AsyncIterator[Any]:
    """azure-identity's asynchronous credential, over aiohttp."""
    from azure.identity.aio import ClientSecretCredential  # a rival

    credential = ClientSecretCredential(
        entra.tenant_id,
        application.client_id,
        application.client_secret,
        authority=entra.url,
        disable_instance_discovery=True,
        connection_verify=entra.ca_file,
        use_env_settings=False,
    )
    async with credential:
        yield credential
