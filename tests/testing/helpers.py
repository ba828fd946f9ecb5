"""MSAL's applications against a FakeEntra, without MSAL's own throttling, which would answer in FakeEntra's place."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jwt
import msal
import requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from aiomsal.testing import Application, ClientCertificate, FakeEntra

GRAPH = ["https://graph.microsoft.com/.default"]
TOKEN_PATH = "oauth2/v2.0/token"


class StoresNothing(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        pass


def confidential(entra: FakeEntra, app: Application, credential: Any = None, **options: Any) -> Any:
    options.setdefault("authority", entra.authority())
    options.setdefault("http_client", entra.http_client())
    return msal.ConfidentialClientApplication(
        app.client_id, credential or app.client_secret, http_cache=StoresNothing(), **options
    )


def public(entra: FakeEntra, app: Application, **options: Any) -> Any:
    options.setdefault("authority", entra.authority())
    options.setdefault("http_client", entra.http_client())
    return msal.PublicClientApplication(app.client_id, http_cache=StoresNothing(), **options)


def with_certificate(certificate: ClientCertificate) -> dict[str, str]:
    return {"private_key": certificate.private_key, "public_certificate": certificate.certificate}


def trusting_session(ca_file: str) -> requests.Session:
    session = requests.Session()
    session.verify = ca_file
    session.trust_env = False
    return session


def poll(client: Any, flow: dict[str, Any]) -> dict[str, Any]:
    """Ask once for a device flow's token. MSAL warns when it is asked sooner than the interval, which tests do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: dict[str, Any] = client.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
    return result


def signed_in(entra: FakeEntra, client: Any, scopes: list[str], username: str = "adele@home.example") -> dict[str, Any]:
    """Sign in by device code, and return MSAL's result."""
    flow = client.initiate_device_flow(scopes)
    entra.approve_device_code(flow["user_code"], username)
    return poll(client, flow)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def token_form(app: Application, **changes: str) -> dict[str, str]:
    form = {
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "grant_type": "client_credentials",
        "scope": GRAPH[0],
    }
    return {**form, **changes}


def ask(entra: FakeEntra, app: Application, *, timeout: float | None = None, **changes: str) -> Any:
    """POST to the token endpoint, without MSAL."""
    url = f"{entra.authority()}/{TOKEN_PATH}"
    return entra.http_client().post(url, data=token_form(app, **changes), timeout=timeout)


def ask_server(
    session: requests.Session, server: Any, app: Application, timeout: float = 10.0, **changes: str
) -> requests.Response:
    """POST to the token endpoint of a server."""
    return session.post(f"{server.authority()}/{TOKEN_PATH}", data=token_form(app, **changes), timeout=timeout)


def in_threads(function: Callable[[], Any], n: int) -> tuple[ThreadPoolExecutor, list[Future[Any]]]:
    pool = ThreadPoolExecutor(n)
    return pool, [pool.submit(function) for _ in range(n)]
