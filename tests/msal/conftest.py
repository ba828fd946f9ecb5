"""The facade driven by real MSAL against FakeEntra; MSAL itself is what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiomsal.testing.pytest_plugin import fake_clock, fake_entra

from .support import ANN, BEN, REDIRECT_URI

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

__all__ = ["fake_clock", "fake_entra"]  # the plugin itself is not loaded where the package is not installed


@pytest.fixture
def service(fake_entra: FakeEntra) -> Application:
    return fake_entra.add_application()


@pytest.fixture
def program(fake_entra: FakeEntra) -> Application:
    """A public client, and Ann and Ben who may use it."""
    fake_entra.add_user(ANN, password="correct horse")
    fake_entra.add_user(BEN)
    return fake_entra.add_application(public=True)


@pytest.fixture
def website(fake_entra: FakeEntra) -> Application:
    """A confidential client, and Ann and Ben who sign in there."""
    fake_entra.add_user(ANN)
    fake_entra.add_user(BEN)
    return fake_entra.add_application(redirect_uris=[REDIRECT_URI])
