"""Everything together: managers, clients, real MSAL, and FakeEntra over HTTPS on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiomsal.testing import ClientCertificate
from aiomsal.testing.pytest_plugin import fake_clock, fake_entra
from tests.end_to_end.support import House

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.testing import FakeClock, FakeEntra

__all__ = ["fake_clock", "fake_entra"]  # the plugin itself is not loaded where the package is not installed


@pytest.fixture(scope="session")
def certificate() -> ClientCertificate:
    return ClientCertificate.new()


@pytest.fixture
def house(fake_entra: FakeEntra, fake_clock: FakeClock) -> Iterator[House]:
    """A server behind HTTPS, and managers that trust it; all on one clock."""
    with fake_entra.serve() as server:
        yield House(fake_entra, server, fake_clock)
        fake_entra.close()  # what still waits there would keep its worker threads
