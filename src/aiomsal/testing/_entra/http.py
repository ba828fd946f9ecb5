"""What the faces and the brain say to each other: requests, responses and JSON objects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

type_json = ("Content-Type", "application/json; charset=utf-8")
type_html = ("Content-Type", "text/html; charset=utf-8")

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it reached a face. Only what cannot hold a secret shows in its repr."""

    method: str
    base: str
    """Scheme, host and port the client spoke to: the answers' URLs begin with it."""
    path: str
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def to(cls, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpRequest:
        """Make the request that `method` on `url` is; `url` is absolute and https."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.netloc:
            message = f"FakeEntra is asked over https with an absolute URL, not with {url!r}"
            raise ValueError(message)
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(method.upper(), f"https://{parts.netloc}", parts.path or "/", parts.query, lower, body)

    def form(self) -> dict[str, str]:
        """Return the parameters: those of the body of a POST, those of the query otherwise."""
        text = self.body.decode("utf-8", "replace") if self.method == "POST" else self.query
        return dict(parse_qsl(text, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. Its body may hold tokens, and so stays out of its repr."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    error: str = ""
    """The OAuth error it carries, for the log."""


def html_response(status: int, text: str, *headers: tuple[str, str], error: str = "") -> HttpResponse:
    """Return a page, not to be stored."""
    return HttpResponse(status, (type_html, ("Cache-Control", "no-store"), *headers), text.encode(), error)


def json_response(status: int, value: object, *headers: tuple[str, str]) -> HttpResponse:
    """Return `value` as JSON, not to be stored (RFC 6749, section 5.1)."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HttpResponse(status, (type_json, ("Cache-Control", "no-store"), *headers), body)


def parse_object(text: str | bytes) -> JsonObject:
    """Return the JSON object `text` is, else raise ValueError."""
    value = _as_object(json.loads(text))
    if value is None:
        message = "a JSON object was expected"
        raise ValueError(message)
    return value


def member(value: JsonObject, *names: str) -> object:
    """Return the member reached by `names` through nested objects; None where there is none."""
    here: object = value
    for name in names:
        inner = _as_object(here)
        if inner is None:
            return None
        here = inner.get(name)
    return here


def _as_object(value: object) -> JsonObject | None:
    return cast("JsonObject", value) if isinstance(value, dict) else None
