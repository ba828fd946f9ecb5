"""The face within the process: what MSAL takes as `http_client=`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import requests
from requests.structures import CaseInsensitiveDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .brain import FakeEntra
    from .http import HttpResponse

    # As requests takes it: one for all, or one to connect and one to read.
    Timeout = float | tuple[float | None, float | None] | None
    Parameters = Mapping[str, object] | str | bytes | None

_FIRST_ERROR = 400


class EntraResponse:
    """A response as MSAL reads it: `status_code`, `text`, `headers`, `raise_for_status`."""

    def __init__(self, url: str, response: HttpResponse) -> None:
        """Wrap what the brain answered."""
        self.url = url
        self.status_code = response.status
        self.headers: Mapping[str, str] = CaseInsensitiveDict(response.headers)
        self.text = response.body.decode()

    def raise_for_status(self) -> None:
        """Raise requests.HTTPError for a status of 400 and above."""
        if self.status_code >= _FIRST_ERROR:
            message = f"{self.status_code} from FakeEntra for {self.url}"
            raise requests.HTTPError(message)

    def __repr__(self) -> str:
        return f"<EntraResponse [{self.status_code}]>"


class EntraHttpClient:
    """A requests-like client whose every request ends in one FakeEntra. It raises what requests would raise."""

    def __init__(self, entra: FakeEntra, timeout: float | None) -> None:
        """Ask `entra`, waiting `timeout` seconds where a call does not say how long."""
        self._entra = entra
        self._timeout: Timeout = timeout
        self.closed = False

    def get(
        self,
        url: str,
        params: Parameters = None,
        headers: Mapping[str, str | None] | None = None,
        timeout: Timeout = None,
        **_ignored: object,
    ) -> EntraResponse:
        """GET `url`; keywords that only concern sockets are ignored."""
        return self._send("GET", url, params, None, headers, timeout)

    def post(
        self,
        url: str,
        data: Parameters = None,
        params: Parameters = None,
        headers: Mapping[str, str | None] | None = None,
        timeout: Timeout = None,
        **_ignored: object,
    ) -> EntraResponse:
        """POST `data`, a form, to `url`; keywords that only concern sockets are ignored."""
        return self._send("POST", url, params, data, headers, timeout)

    def close(self) -> None:
        """Be closed: further requests are refused, so that a test sees who uses a closed client."""
        self.closed = True

    def _send(
        self,
        method: str,
        url: str,
        params: Parameters,
        data: Parameters,
        headers: Mapping[str, str | None] | None,
        timeout: Timeout,
    ) -> EntraResponse:
        if self.closed:
            message = "this http_client is closed: take a new one from FakeEntra.http_client()"
            raise RuntimeError(message)
        query = _encoded(params).decode()
        if query:
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        sent = {name: value for name, value in (headers or {}).items() if value is not None}
        timeout = self._timeout if timeout is None else timeout
        try:
            read_timeout = timeout[1] if isinstance(timeout, tuple) else timeout
            response = self._entra.handle(method, url, sent, _encoded(data), timeout=read_timeout)
        except TimeoutError as error:
            message = f"FakeEntra did not answer within {timeout} s"
            raise requests.ReadTimeout(message) from error
        except ConnectionResetError as error:
            raise requests.ConnectionError(error) from error
        return EntraResponse(url, response)


def _encoded(parameters: Parameters) -> bytes:
    if parameters is None:
        return b""
    if isinstance(parameters, bytes):
        return parameters
    if isinstance(parameters, str):
        return parameters.encode()
    return urlencode([(name, value) for name, value in parameters.items() if value is not None]).encode()
