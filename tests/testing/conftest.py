"""FakeEntra driven by real MSAL, as its users drive it."""

from __future__ import annotations

import pytest

from aiomsal.testing import ClientCertificate
from aiomsal.testing.pytest_plugin import fake_clock, fake_entra

__all__ = ["fake_clock", "fake_entra"]  # the plugin itself is not loaded where the package is not installed


@pytest.fixture(scope="session")
def certificate() -> ClientCertificate:
    return ClientCertificate.new()


@pytest.fixture(scope="session")
def other_certificate() -> ClientCertificate:
    return ClientCertificate.new()
