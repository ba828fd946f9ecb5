"""The HTTP client given to MSAL: bounded in time, https only, deaf to the environment, and silent about secrets."""

from __future__ import annotations

import email.utils
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import urlsplit

from aiomsal._errors import TokenError
from aiomsal._token import decode_claims

from ._exchange import Exchange, Reply, current
from ._redact import SECRET_FIELDS, in_words, scrubbed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

LONGEST_PATIENCE: Final = 3600.0
"""Seconds of Retry-After that are believed; MSAL believes as many."""
LARGEST_REPLY: Final = 1 << 20
_IMDS: Final = "http://169.254.169.254/metadata/"  # where MSAL asks for the region, and the one http URL it knows


class HttpResponse(Protocol):
    """What MSAL reads of a response (`msal.oauth2cli.http.Response`)."""

    @property
    def status_code(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class HttpClient(Protocol):
    """What may be passed as `http_client=`: MSAL's interface, which a `requests.Session` fulfils.

    It is called in worker threads, several at once, and has to end each call by a timeout of its own; proxies and
    certificates are its own affair too.
    """

    def post(self, url: str, /, *, params: Any = ..., data: Any = ..., headers: Any = ...) -> HttpResponse: ...
    def get(self, url: str, /, *, params: Any = ..., headers: Any = ...) -> HttpResponse: ...


class TransportFailure(OSError):
    """No usable reply. It holds words only: requests' own exceptions hold the request, and the secrets in its body.

    An OSError, because MSAL takes those for an outage where it can go on without discovery.
    """


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How the authority is reached, checked when made.

    No I/O: what is read from files or the environment is read by the worker thread that makes the transport.
    """

    http_client: HttpClient | None = None
    proxies: Mapping[str, str] | None = field(default=None, repr=False)  # may hold a password
    ca_file: str | None = None
    timeout: tuple[float, float] = (5.0, 25.0)
    imds: bool = False
    """Whether MSAL may ask the machine for its region."""

    def __post_init__(self) -> None:
        if self.http_client is not None:
            for method in ("get", "post"):
                if not callable(getattr(self.http_client, method, None)):
                    raise TypeError(
                        f"http_client needs get() and post(), as a requests.Session has, not {self.http_client!r}"
                    )
            if self.proxies is not None or self.ca_file is not None:
                raise ValueError("proxies and ca_file are for our own HTTP client: configure yours, or leave it out")
        if not all(0 < seconds < math.inf for seconds in self.timeout):
            raise ValueError(f"timeout is (seconds to connect, seconds to answer), not {self.timeout!r}")


class Transport:
    """MSAL's `http_client`. Made in a worker thread; used by many at once.

    It notes each reply in the thread's `Exchange`, sends that exchange's correlation id, and straightens what MSAL
    would stumble over, for MSAL would drop a rotated refresh token with it.
    """

    def __init__(self, options: TransportOptions, *, connections: int) -> None:
        self._options = options
        client = options.http_client
        self._send = _own_client(options, connections) if client is None else _foreign_client(client)

    def get(self, url: str, *, params: Any = None, headers: Any = None, **_ignored: object) -> Reply:
        """GET, as MSAL calls it."""
        return self._exchange("GET", url, params, None, headers)

    def post(self, url: str, *, params: Any = None, data: Any = None, headers: Any = None, **_ignored: object) -> Reply:
        """POST, as MSAL calls it."""
        return self._exchange("POST", url, params, data, headers)

    def close(self) -> None:
        """MSAL may call it; the connections end with this object."""

    def _exchange(self, method: str, url: str, params: Any, data: Any, headers: Any) -> Reply:
        exchange = current.get()
        if self._options.imds and method == "GET" and url.startswith(_IMDS):
            exchange = Exchange(exchange.cache, exchange.started)  # what the machine says is not the authority's word
        elif not url.startswith("https://"):
            raise TransportFailure(f"refused to ask {_place(url)}: the authority must be asked by https")
        exchange.trouble = ""
        headers = {**cast("dict[str, str]", headers or {})}
        headers["client-request-id"] = exchange.correlation_id  # over MSAL's own, which it tells nobody
        headers["return-client-request-id"] = "true"
        failure: TransportFailure | None
        try:
            reply = _reply(url, self._send(method, url, params, data, headers), data)
        except UnicodeError:  # nothing was sent: it says nothing about the authority, whose breaker must not hear of it
            failure = TransportFailure("the request holds what cannot be sent: half of a surrogate pair is no text")
        except Exception as error:  # noqa: BLE001 -- requests' own or a foreign client's: none goes further
            exchange.trouble = f"{_place(url)} could not be reached: {_reason(error)}"
            failure = TransportFailure(exchange.trouble)
            failure.__cause__ = in_words(error, where=False)
        else:
            exchange.reply = reply
            failure = _unusable(method, reply)
            if failure is None:
                return reply
        raise failure  # outside of the except clause: the original and its frames hold the request's body


def _own_client(options: TransportOptions, connections: int) -> Callable[..., HttpResponse]:
    import http.cookiejar

    import requests
    from requests.adapters import HTTPAdapter
    from requests.exceptions import ContentDecodingError
    from requests.utils import get_environ_proxies

    session = requests.Session()
    session.trust_env = False  # or the environment's CA files would win over ours, and .netrc over the client's secret
    session.verify = True if options.ca_file is None else _readable(options.ca_file)
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))  # one user's are not another's
    # No retries here: they are the gate's business, and it waits on the loop.
    session.mount("https://", HTTPAdapter(pool_connections=8, pool_maxsize=connections, max_retries=0))
    connect, read = options.timeout

    def send(method: str, url: str, params: Any, data: Any, headers: dict[str, str]) -> HttpResponse:
        if options.proxies is not None:
            proxies = dict(options.proxies)
        else:
            proxies = {} if _is_loopback(url) else get_environ_proxies(url)
        deadline = time.monotonic() + connect + read
        response = session.request(
            method,
            url,
            params=params,
            data=data,
            headers=headers,
            timeout=(connect, read),
            proxies=proxies,
            allow_redirects=False,  # a redirected POST would carry the client's secret elsewhere
            stream=True,
        )
        with response:
            try:
                text = _body(response, deadline)
            except ContentDecodingError:
                text = ""  # an answer all the same, though nobody can read it
            return _Read(response.status_code, text, response.headers)

    return send


def _readable(ca_file: str) -> str:
    """The path, if certificates can be read from it: requests would say that the network is down."""
    import ssl

    directory = Path(ca_file).is_dir()
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(**{"capath" if directory else "cafile": ca_file})
    except (OSError, ValueError) as error:
        words = f"{type(error).__name__}: {error}"
    else:
        return ca_file
    raise TokenError(f"ca_file={ca_file!r} holds no certificates that can be read: {words}", code="unusable_ca_file")


def _foreign_client(client: HttpClient) -> Callable[..., HttpResponse]:
    def send(method: str, url: str, params: Any, data: Any, headers: dict[str, str]) -> HttpResponse:
        if method == "GET":
            return client.get(url, params=params, headers=headers)
        return client.post(url, params=params, data=data, headers=headers)

    return send


@dataclass(frozen=True, slots=True)
class _Read:
    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def _body(response: requests.Response, deadline: float) -> str:
    """The body, by a deadline: requests' own timeout is for each read, and a body that drips would hold the thread.

    One that is too large is cut off, and no JSON any more: it is an answer, not the lack of one.
    """
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(1 << 14):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
        if size > LARGEST_REPLY:
            return ""
    return b"".join(chunks).decode("utf-8", "replace")


def _reply(url: str, response: HttpResponse, data: Any) -> Reply:
    status, text = int(response.status_code), response.text
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}  # MSAL's older interface has none
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    body = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    straight = _straightened(body, data)
    if straight != body:
        body, text = straight, json.dumps(straight)
    lower = {name.lower(): value for name, value in headers.items()}
    return Reply(url, status, text, headers, body, retry_after=_patience(lower.get("retry-after")))


def _unusable(method: str, reply: Reply) -> TransportFailure | None:
    """Why MSAL must not see this reply: it logs and raises the whole text of an answer that is not JSON."""
    if 300 <= reply.status_code < 400:
        return TransportFailure(f"{_place(reply.url)} redirects: name the authority it redirects to")
    if not reply.body and (method == "POST" or reply.status_code == 200):
        return TransportFailure(
            f"{_place(reply.url)} answered {reply.status_code} with something that is no JSON object"
        )
    return None


def _straightened(body: dict[str, Any], data: Any) -> dict[str, Any]:
    """The body without what MSAL would raise for, after the authority has already rotated the refresh token."""
    body = dict(body)
    if "error" in body:
        sent = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
        secrets = [str(sent[name]) for name in SECRET_FIELDS if sent.get(name)]
        body["error"] = str(body["error"])
        for name in ("error_description", "error_uri"):
            if name in body:
                body[name] = scrubbed(str(body[name]), secrets)
        return body
    if not isinstance(body.get("refresh_in"), int | None):
        body.pop("refresh_in")
    for name in ("scope", "refresh_token"):
        if not isinstance(body.get(name), str | None):
            body.pop(name)
    if "id_token" in body and "sub" not in _claims(body["id_token"]):
        body.pop("id_token")
    if "client_info" in body and not {"uid", "utid"} <= _claims(f".{body['client_info']}").keys():
        body.pop("client_info")
    return body


def _claims(jwt: object) -> dict[str, Any]:
    return decode_claims(jwt) if isinstance(jwt, str) else {}


def _patience(value: str | None) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3): seconds or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_PATIENCE) if math.isfinite(seconds) else None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _place(url: str) -> str:
    """Host and path: a query may say who the user is."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{(parts.netloc).rpartition('@')[2]}{parts.path}"


def _reason(error: BaseException) -> str:
    """What went wrong in the end: requests wraps what urllib3 wraps what the socket raised."""
    outermost = type(error).__name__
    seen = 0
    while seen < 8:
        reason = getattr(error, "reason", None)
        inner = (
            reason
            if isinstance(reason, BaseException)
            else next((a for a in error.args if isinstance(a, BaseException)), None)
        )
        if inner is None:
            break
        error, seen = inner, seen + 1
    advice = " (pass ca_file= if your network has certificates of its own)" if outermost == "SSLError" else ""
    return scrubbed(f"{outermost}: {error}", ()) + advice
