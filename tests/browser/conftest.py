"""One Chromium for all tests of this folder, which forgets everything between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Chromium, Programs, driven, missing
from tests.browser.support import PASSWORD
from tests.end_to_end.conftest import fake_clock, fake_entra, house
from tests.end_to_end.support import ANN, BEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.chrome.webdriver import WebDriver

    from tests.end_to_end.support import House

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


@pytest.fixture
def people(house: House) -> None:
    """Ann and Ben have passwords here."""
    for username in (ANN, BEN):
        house.entra.add_user(username, password=PASSWORD)
