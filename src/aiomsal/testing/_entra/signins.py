"""Who has signed in: when, with what, and in which browser."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .directory import User
    from .http import JsonObject

_COOKIE = "FakeEntraSession"


@dataclass(frozen=True)
class SignIn:
    """A person has shown who they are."""

    user: User
    order: int
    """Its place in the order of sign-ins and requirements; 0 where nobody could be asked for more than a password."""
    at: float
    """In epoch seconds."""
    claims: JsonObject = field(default_factory=dict[str, object])
    """Those the client asked for."""


class Browsers:
    """Who is signed in in which browser, by its cookie. One lock guards the dictionary and those in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, dict[str, SignIn]] = {}

    def signed_in(self, headers: Mapping[str, str]) -> tuple[SignIn, ...]:
        """Return the sign-ins that the browser which sent these headers remembers, the latest last."""
        with self._lock:
            return tuple(self._sessions.get(_cookie(headers), {}).values())

    def remember(self, headers: Mapping[str, str], sign_in: SignIn) -> tuple[str, str]:
        """Add a sign-in to a browser, in place of an earlier one of that user, and return the header that says so."""
        with self._lock:
            cookie = _cookie(headers)
            if cookie not in self._sessions:
                cookie = secrets.token_urlsafe(32)
                self._sessions[cookie] = {}
            session = self._sessions[cookie]
            session.pop(sign_in.user.object_id, None)
            session[sign_in.user.object_id] = sign_in
        # SameSite=Lax: an application's page that sends the browser here brings it along.
        return "Set-Cookie", f"{_COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax"


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:  # of another server on this host
        return ""
    return morsel.value if morsel else ""
