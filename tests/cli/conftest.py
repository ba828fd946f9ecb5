"""What is different for the command."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def loop_never_blocks() -> None:
    """Not here: the demo gives its authority orders from the event loop, between two measurements."""
