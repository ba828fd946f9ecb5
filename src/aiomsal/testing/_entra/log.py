"""What was asked: a record of each request, and counts by kind."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEPT_HEADERS = (
    "client-request-id",
    "host",
    "user-agent",
    "x-anchormailbox",
    "x-app-name",
    "x-app-ver",
    "x-client-current-telemetry",
    "x-client-last-telemetry",
    "x-client-sku",
    "x-client-ver",
    "x-ms-lib-capability",
)
_KEPT_PARAMETERS = (
    "code_challenge_method",
    "domain_hint",
    "login_hint",
    "max_age",
    "prompt",
    "redirect_uri",
    "response_mode",
    "response_type",
)
_KEPT_REQUESTS = 20_000


@dataclass(frozen=True)
class RequestRecord:
    """A request that arrived. It holds no secret, assertion, code or token."""

    kind: str
    """Dotted, from the general to the particular: "token.refresh_token"."""
    tenant: str
    """The tenant as the path names it: a GUID, a domain, "common" or "organizations"."""
    time: float
    """When it arrived, in epoch seconds of FakeEntra's clock."""
    client_id: str = ""
    grant_type: str = ""
    scope: str = ""
    claims: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those that say who asks and what for; names in lower case."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those that say how a person is to sign in, where they were sent: prompt, login_hint, domain_hint, max_age,
    response_mode, response_type, redirect_uri and code_challenge_method."""
    status: int | None = None
    """The status answered; None while it waits, and for ever if the connection was reset or the client left."""
    error: str = ""
    """The OAuth error answered, such as "invalid_grant"; empty for none."""


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a record may hold."""
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}


def kept_parameters(form: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that a record may hold."""
    return {name: form[name] for name in _KEPT_PARAMETERS if name in form}


def kinds_of(kind: str) -> Iterator[str]:
    """Give the kind and those it belongs to, up to "", which is every request."""
    while kind:
        yield kind
        kind = kind.rpartition(".")[0]
    yield ""


class Entry:
    """The place of one request in the log. Its mutable state is the record, exchanged once, for one with an answer."""

    __slots__ = ("record",)

    def __init__(self, record: RequestRecord) -> None:
        self.record = record

    def answered(self, status: int, error: str) -> None:
        self.record = replace(self.record, status=status, error=error)


class Log:
    """The last 20,000 requests in order of arrival, and counts of all. One lock guards both."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_KEPT_REQUESTS)
        self._counts: Counter[str] = Counter()

    def add(self, record: RequestRecord) -> Entry:
        entry = Entry(record)
        with self._lock:
            self._entries.append(entry)
            for kind in kinds_of(record.kind):
                self._counts[kind] += 1
        return entry

    def count(self, kind: str) -> int:
        with self._lock:
            return self._counts[kind]

    def records(self) -> tuple[RequestRecord, ...]:
        with self._lock:
            return tuple(entry.record for entry in self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._counts.clear()
