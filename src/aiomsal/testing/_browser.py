"""A browser for tests: windows without a screen, and a person in front of them who does what the test says."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._entra.directory import User
    from ._entra.steps import AuthorizationAnswer

_TIMEOUT = 10.0
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303})
_FORM = "application/x-www-form-urlencoded"


class _Authority(Protocol):
    """A FakeEntra, here or in a process of its own."""

    def authorize(self, auth_uri: str, user: User | str | None = None, *, decline: bool = False) -> AuthorizationAnswer:
        """Be the user in the window that an application opened."""
        ...


class ScriptedBrowser:
    """A browser that opens its windows on a FakeEntra: what `Browser(open=...)` takes.

    `browser(url)` opens a window and returns at once. A browser with a `user` signs that user in and brings the answer
    to the application over HTTP, in a thread of its own, without proxies. In one without, the person thinks until
    `sign_in` or `decline` is called. All methods may be called from any thread; those that wait say so.

    Its mutable state is the windows opened, and what came of those that somebody has used. One lock guards it.
    """

    def __init__(self, entra: _Authority, user: User | str | None = None) -> None:
        """Open nothing yet. `entra` is a FakeEntra or a FakeEntraProcess."""
        self._entra = entra
        self._user = user
        self._changed = threading.Condition()
        self._urls: list[str] = []
        self._pages: list[tuple[int, str]] = []
        self._errors: list[Exception] = []

    def __call__(self, url: str) -> bool:
        """Open a window and say that it is open, as `webbrowser.open` does."""
        with self._changed:
            self._urls.append(url)
            self._changed.notify_all()
        if self._user is not None:
            self._enter(url, self._user)
        return True

    def __repr__(self) -> str:
        return f"<ScriptedBrowser, {self.windows} windows>"

    @property
    def windows(self) -> int:
        """Return how many windows were opened."""
        return len(self._urls)

    @property
    def urls(self) -> list[str]:
        """Return where they were opened, in that order."""
        with self._changed:
            return list(self._urls)

    @property
    def pages(self) -> list[tuple[int, str]]:
        """Return what the application answered, status and HTML, in the order in which it did."""
        with self._changed:
            return list(self._pages)

    @property
    def errors(self) -> list[Exception]:
        """Return why the other windows came to no such page: nobody listens there, or the user may not sign in."""
        with self._changed:
            return list(self._errors)

    def sign_in(self, user: User | str, *, window: int = -1) -> None:
        """Sign in, in the latest window or in that with this index, and return at once."""
        self._enter(self._url(window), user)

    def decline(self, *, window: int = -1) -> None:
        """Cancel the sign-in, in the latest window or in that with this index, and return at once."""
        url = self._url(window)
        self._use(lambda: self._entra.authorize(url, decline=True))

    def wait_for(self, *, windows: int = 0, pages: int = 0, timeout: float = 10.0) -> None:
        """Block until so many windows were opened and so many came to an end, at a page or with an error.

        Raise TimeoutError after `timeout` seconds. A coroutine calls it in a worker thread.
        """

        def come() -> bool:
            return len(self._urls) >= windows and len(self._pages) + len(self._errors) >= pages

        with self._changed:
            if not self._changed.wait_for(come, timeout):
                message = (
                    f"after {timeout} s there are {len(self._urls)} of {windows} windows, and "
                    f"{len(self._pages)} pages and {len(self._errors)} errors of {pages}"
                )
                raise TimeoutError(message)

    def _url(self, window: int) -> str:
        with self._changed:
            try:
                return self._urls[window]
            except IndexError:
                message = f"there is no window {window}: {len(self._urls)} were opened; wait_for(windows=1) waits"
                raise ValueError(message) from None

    def _enter(self, url: str, user: User | str) -> None:
        self._use(lambda: self._entra.authorize(url, user))

    def _use(self, decide: Callable[[], AuthorizationAnswer]) -> None:
        threading.Thread(target=self._bring, args=(decide,), name="ScriptedBrowser", daemon=True).start()

    def _bring(self, decide: Callable[[], AuthorizationAnswer]) -> None:
        try:
            page = _visit(decide())
        except Exception as error:  # noqa: BLE001  a thread of a test's: the test looks
            with self._changed:
                self._errors.append(error)
                self._changed.notify_all()
        else:
            with self._changed:
                self._pages.append(page)
                self._changed.notify_all()


def _visit(answer: AuthorizationAnswer) -> tuple[int, str]:
    """Bring an answer to the application, follow it where it sends us, and return the page that it shows."""
    if answer.method == "POST":
        # Browsers do not tell a server over http which page over https a form came from.
        headers = {"Content-Type": _FORM, "Origin": "null", "Sec-Fetch-Site": "cross-site"}
        status, page, location = _request("POST", answer.url, urlencode(answer.params), headers)
    else:
        status, page, location = _request("GET", answer.url, None, {})
    here = answer.url
    for _ in range(_MOST_REDIRECTS):
        if status not in _REDIRECTS:
            break
        here = urljoin(here, location)
        status, page, location = _request("GET", here, None, {})
    return status, page


def _request(method: str, url: str, body: str | None, headers: dict[str, str]) -> tuple[int, str, str]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        message = f"this browser brings answers to http only, and not to {parts.scheme}://{parts.netloc}"
        raise HTTPException(message)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT)
    try:
        connection.request(method, target, body, {"Accept": "text/html", "Connection": "close", **headers})
        response = connection.getresponse()
        page = response.read().decode("utf-8", "replace")
        return response.status, page, response.headers.get("Location") or ""
    finally:
        connection.close()
