"""One Chromium for all tests of this folder, which forgets everything between two of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
import pytest_asyncio

from tests.browser.chromium import Chromium, Programs, driven, missing
from tests.browser.support import PASSWORD
from tests.end_to_end.conftest import fake_clock, fake_entra, house
from tests.end_to_end.support import ANN, BEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver

    from tests.end_to_end.support import House

T = TypeVar("T")


class Ask(Protocol):
    """Starts a task."""

    def __call__(self, question: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


__all__ = ["fake_clock", "fake_entra", "house"]


@pytest.fixture(scope="package")
def programs() -> Programs:
    return Programs.here() or missing()


@pytest.fixture(scope="package")
def driver(programs: Programs) -> Iterator[WebDriver]:
    with driven(programs) as driver:
        yield driver


@pytest.fixture
def chromium(driver: WebDriver, people: None) -> Iterator[Chromium]:
    with Chromium(driver) as chromium:
        yield chromium


@pytest_asyncio.fixture
async def ask(chromium: Chromium) -> AsyncIterator[Ask]:
    """Asks while the person is at the browser. What a test that fails leaves behind ends with it."""
    tasks: list[asyncio.Task[Any]] = []

    def ask(question: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(question)
        tasks.append(task)
        return task

    yield ask
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def people(house: House) -> None:
    """Ann and Ben have passwords here."""
    for username in (ANN, BEN):
        house.entra.add_user(username, password=PASSWORD)
