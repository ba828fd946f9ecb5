"""What the browser shows when it comes back from the sign-in: small pages, which load nothing and run nothing."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import Final, NamedTuple, Protocol

from aiomsal._errors import TokenError

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}"
    "p{overflow-wrap:anywhere}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_LONGEST: Final = 1000
"""Characters of a paragraph, which may come from elsewhere."""

_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS: Final = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        _POLICY,
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""What goes with each page. No CORS headers: no script of another site is to read it."""


class Shown(Protocol):
    """What is shown to whoever brought the answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...
    def html(self) -> bytes: ...


class Page(NamedTuple):
    """A response: its status, and the text of its page, not escaped yet."""

    status: int
    title: str
    paragraphs: tuple[str, ...]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What goes with it."""
        return HEADERS

    def html(self) -> bytes:
        """The document."""
        title = html.escape(self.title)
        paragraphs = "".join(f"<p>{html.escape(text[:_LONGEST])}</p>" for text in self.paragraphs)
        document = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style></head>'
            f"<body><h1>{title}</h1>{paragraphs}</body></html>\n"
        )
        return document.encode("utf-8", "replace")


_CLOSE: Final = "You may close this window and return to the program."

SIGNED_IN: Final = Page(200, "You are signed in", (_CLOSE,))
ABANDONED: Final = Page(400, "The sign-in was abandoned", ("The program no longer waits for it.", _CLOSE))


def failed(error: Exception) -> Page:
    """What to tell the person when it came to nothing."""
    why = str(error) if isinstance(error, TokenError) else "The program met an unexpected error."
    return Page(400, "The sign-in did not succeed", (why, _CLOSE))


def refused(status: int, why: str) -> Page:
    """What to tell whoever came with something other than the answer that is waited for."""
    return Page(status, "This is not what the sign-in waits for", (why, "You may close this window."))
