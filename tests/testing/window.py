"""A window of a browser, as far as these pages need one: forms, buttons, redirects, cookies; no scripts."""

from __future__ import annotations

from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

if TYPE_CHECKING:
    from aiomsal.testing import FakeEntra


class Form:
    def __init__(self, action: str, method: str) -> None:
        self.action, self.method = action, method
        self.fields: dict[str, str] = {}
        self.buttons: dict[str, tuple[str, str]] = {}
        """By their ids: name and value."""


class Page(HTMLParser):
    def __init__(self, url: str, status: int, html: str) -> None:
        super().__init__()
        self.url, self.status, self.html = url, status, html
        self.forms: list[Form] = []
        self.ids: dict[str, str] = {}
        """The text of what has an id."""
        self.attributes: dict[str, dict[str, str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self._open, "everything opened is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        name = found.get("id", "")
        assert name not in self.attributes or not name, "an id is there once"
        if name:
            self.attributes[name], self.ids[name] = found, ""
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), found.get("method", "get")))
        elif tag == "input":
            self.forms[-1].fields[found["name"]] = found.get("value", "")
        elif tag == "button" and name:
            self.forms[-1].buttons[name] = found.get("name", ""), found.get("value", "")
        if tag not in ("input", "meta", "link"):
            self._open.append((tag, name))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name:
                self.ids[name] += data

    @property
    def title(self) -> str:
        return self.html.partition("<title>")[2].partition("</title>")[0]


class Window:
    """What `entra` shows in one browser. It goes along with redirects as long as they stay at the authority."""

    def __init__(self, entra: FakeEntra, url: str = "") -> None:
        self._entra = entra
        self.cookies: dict[str, str] = {}
        self.page: Page
        self.left_for: tuple[str, str, dict[str, str]] | None = None
        """Method, address and parameters of the request to the application; None as long as it stays."""
        if url:
            self.open(url)

    def open(self, url: str) -> Page:
        self.left_for = None
        return self._go("GET", url, {})

    def click(self, button: str, **fields: str) -> Page:
        """Fill in what is given, by name, and click the button with that id."""
        form = next(form for form in self.page.forms if button in form.buttons)
        for name, value in fields.items():
            assert name.replace("_", "-") in form.fields
            form.fields[name.replace("_", "-")] = value
        name, value = form.buttons[button]
        return self._go(form.method.upper(), urljoin(self.page.url, form.action), {**form.fields, name: value})

    @property
    def params(self) -> dict[str, str]:
        assert self.left_for, f"still at {self.page.title!r}: {self.page.ids.get('message')}"
        return self.left_for[2]

    def _go(self, method: str, url: str, fields: dict[str, str]) -> Page:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        response = self._entra.handle(method, url, headers, urlencode(fields).encode())
        told = dict(response.headers)
        if "Set-Cookie" in told:
            self.cookies.update({name: morsel.value for name, morsel in SimpleCookie(told["Set-Cookie"]).items()})
        if "Location" in told:
            where = urlsplit(told["Location"])
            params = dict(parse_qsl(where.query or where.fragment))
            self.left_for = "GET", where._replace(query="", fragment="").geturl(), params
        self.page = Page(url, response.status, response.body.decode())
        if 'onload="document.forms[0].submit()"' in self.page.html:
            (form,) = self.page.forms
            self.left_for = form.method.upper(), form.action, form.fields
        return self.page
