"""Chromium without a screen, in the hands of a test: real windows, real clicks, and no network but loopback."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.end_to_end.support import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

_LOOKS = 0.02
"""Seconds between two looks at a page: WebDriver tells nobody when something has changed."""

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # it cannot be had as root, nor in most containers, and all pages are ours
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    # The audit hook of tests/conftest.py does not see Chromium's connections.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
)


class Programs(NamedTuple):
    """Where they are."""

    browser: str
    driver: str

    @classmethod
    def here(cls) -> Programs | None:
        """Those of this machine, of Debian, of Chrome's own packages or of macOS; None if one is missing."""
        browsers = (
            "chromium",
            "chromium-browser",
            "google-chrome",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        )
        browser = next(filter(None, map(shutil.which, browsers)), None)
        driver = shutil.which("chromedriver")
        return cls(browser, driver) if browser and driver else None


@contextmanager
def driven(programs: Programs, *, attach_to: str = "") -> Iterator[WebDriver]:
    """A browser with a new profile, until the end; or that which already listens for a driver at an address."""
    options = webdriver.ChromeOptions()
    if attach_to:
        options.debugger_address = attach_to
    else:
        options.binary_location = programs.browser
        options.accept_insecure_certs = True  # each FakeEntra is its own authority
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both paths are given, so Selenium's manager, which downloads what it does not find, has nothing to do.
    service = Service(programs.driver)
    # What a run was interrupted in may be left behind: Chromium writes in its profile to its very end.
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile,
    ):
        environment.setenv("no_proxy", "*")  # for Selenium's own way to the driver
        if not attach_to:
            for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
                options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(PATIENCE)
            driver.set_script_timeout(PATIENCE)
            yield driver
        finally:
            driver.quit()


def redirect_uri_in(url: str) -> str:
    """Where an authorization request wants its answer."""
    return parse_qs(urlsplit(url).query)["redirect_uri"][0]


def missing() -> NoReturn:
    """Say what to install; where nobody reads what was skipped, fail."""
    reason = (
        "no Chromium, or no chromedriver, on PATH: on Debian `apt-get install chromium chromium-driver`, elsewhere "
        "Chrome, and the ChromeDriver of its version"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Chromium:
    """The windows of one test, and a person in front of them.

    WebDriver blocks, and knows one window at a time: all that is asked of it is asked in one thread, one after another.
    """

    def __init__(self, driver: WebDriver) -> None:
        self._driver = driver
        self._thread = ThreadPoolExecutor(1, "Chromium")
        self.opened: list[str] = []
        """Where an application had a window opened."""

    @property
    def redirect_uri(self) -> str:
        """Where the latest of these is to bring its answer."""
        return redirect_uri_in(self.opened[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._tidy_up).result()
        self._thread.shutdown()

    async def open(self, url: str) -> None:
        """Open a window: what `Browser(open=...)` takes."""
        self.opened.append(url)
        await self.visit(url)

    async def visit(self, url: str) -> None:
        """Open a window that no application asked for."""

        def go() -> None:
            self._driver.switch_to.new_window("tab")
            self._driver.get(url)

        await self._do(go)

    async def window(self) -> str:
        """The name of the window that is in front."""
        return await self._do(lambda: self._driver.current_window_handle)

    async def turn_to(self, window: str) -> None:
        await self._do(self._driver.switch_to.window, window)

    async def close(self) -> None:
        """Close the window that is in front, as a person does who has had enough."""

        def close() -> None:
            self._driver.close()
            self._driver.switch_to.window(self._driver.window_handles[-1])

        await self._do(close)

    async def reload(self) -> None:
        await self._do(self._driver.refresh)

    async def sees(self, title: str) -> None:
        """Return when a page of that title is there."""
        # A job for each look: what opens the window has to come in between.
        deadline = time.monotonic() + PATIENCE
        while await self._do(lambda: self._driver.title) != title:
            if time.monotonic() > deadline:
                pytest.fail(f"{title!r} was to be seen, and there is {await self._do(self._seen)}")
            await asyncio.sleep(_LOOKS)

    async def types(self, **fields: str) -> None:
        """Fill the fields with these ids, in place of what is there ("-" for "_")."""

        def fill(field: WebElement, text: str) -> None:
            field.clear()
            field.send_keys(text)

        for name, text in fields.items():
            await self._on(name.replace("_", "-"), functools.partial(fill, text=text))

    async def clicks(self, name: str) -> None:
        await self._on(name, lambda element: element.click())

    async def signs_in(self, username: str, password: str) -> None:
        """Type both, and click."""
        await self.sees("Sign in")
        await self.types(username=username, password=password)
        await self.clicks("sign-in")

    async def text(self, name: str = "") -> str:
        """What is to be read in the element with this id, or on the page."""
        return await self._on(name, lambda element: element.text)

    async def value(self, name: str) -> str:
        """What is in the field with this id."""
        return await self._on(name, lambda element: element.get_property("value"))

    async def address(self) -> str:
        return await self._do(lambda: self._driver.current_url)

    async def count(self, selector: str) -> int:
        """How many elements of the page fit."""
        return await self._do(lambda: len(self._driver.find_elements(By.CSS_SELECTOR, selector)))

    async def runs(self, script: str, *arguments: object) -> Any:
        """What the body of an async function, run in the page, returns."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...args) => {{ {script} }})(...arguments).then(done, error => done(String(error)));"
        )
        return await self._do(self._driver.execute_async_script, wrapped, *arguments)

    async def complaints(self) -> list[str]:
        """What the browser has written on its console since it was last asked."""
        return [entry["message"] for entry in await self._do(self._driver.get_log, "browser")]

    async def _on(self, name: str, use: Callable[[WebElement], Any]) -> Any:
        """Use the element with this id, or the whole body, when it is there: a page may be about to go."""
        place = (By.ID, name) if name else (By.TAG_NAME, "body")
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(NoSuchElementException, StaleElementReferenceException):
                return await self._do(lambda: use(self._driver.find_element(*place)))
            if time.monotonic() > deadline:
                pytest.fail(f"there is no {name!r} on {await self._do(self._seen)}")
            await asyncio.sleep(_LOOKS)

    async def _do(self, function: Callable[..., Any], *args: Any) -> Any:
        # Whoever is cancelled leaves at once, and the thread does it all the same.
        call = functools.partial(function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _seen(self) -> str:
        body = self._driver.find_element(By.TAG_NAME, "body")
        return f"{self._driver.title!r} at {self._driver.current_url}: {body.text}"

    def _tidy_up(self) -> None:
        """Leave one empty window, and a browser that remembers nobody."""
        first, *others = self._driver.window_handles
        for window in others:
            self._driver.switch_to.window(window)
            self._driver.close()
        self._driver.switch_to.window(first)  # no test goes anywhere with this one
        self._driver.execute_cdp_cmd("Storage.clearCookies", {})
        self._driver.get_log("browser")
