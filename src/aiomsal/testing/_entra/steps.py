"""What happens next at the sign-in pages: a question to the person, or an answer to the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

ResponseMode = Literal["query", "fragment", "form_post"]


@dataclass(frozen=True)
class AuthorizationAnswer:
    """What the sign-in page has the browser bring to the application: a code, or an error."""

    redirect_uri: str
    params: dict[str, str] = field(repr=False)
    response_mode: ResponseMode = "query"

    @property
    def method(self) -> Literal["GET", "POST"]:
        """Return how the browser comes to the redirect_uri."""
        return "POST" if self.response_mode == "form_post" else "GET"

    @property
    def url(self) -> str:
        """Return where the browser goes: the redirect_uri, with `params` unless it posts them."""
        if self.method == "POST":
            return self.redirect_uri
        if self.response_mode == "fragment":
            return f"{self.redirect_uri}#{urlencode(self.params)}"
        return f"{self.redirect_uri}{'&' if '?' in self.redirect_uri else '?'}{urlencode(self.params)}"


@dataclass(frozen=True)
class AskUserCode:
    """What does the device show?"""

    user_code: str = field(default="", repr=False)
    message: str = ""


@dataclass(frozen=True)
class AskSignIn:
    """Who are you?"""

    visit: str = field(repr=False)
    username: str
    accounts: tuple[str, ...] = ()
    """User names that this browser knows, to choose from."""
    message: str = ""


@dataclass(frozen=True)
class AskConsent:
    """May the application have this, in the name of that user?"""

    visit: str = field(repr=False)
    username: str
    client_id: str
    scopes: tuple[str, ...]
    for_device: bool = False


@dataclass(frozen=True)
class Told:
    """Nothing more: the person is told how it ended."""

    title: str
    text: str
    error: str = ""
    """The OAuth error, where it ended with one."""


Question = AskUserCode | AskSignIn | AskConsent
Step = Question | AuthorizationAnswer | Told
