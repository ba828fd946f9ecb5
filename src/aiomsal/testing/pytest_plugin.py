"""The pytest plugin: `fake_clock` and `fake_entra`.

Every pytest run in an environment with aiomsal imports this module, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import FakeClock, FakeEntra


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that starts at the present time and moves only by `advance` and `set`."""
    from ._clock import FakeClock

    return FakeClock()


@pytest.fixture
def fake_entra(request: pytest.FixtureRequest) -> Iterator[FakeEntra]:
    """A new FakeEntra, which lets go all that waits in it when the test ends.

    Its clock is `fake_clock` if the test (or a fixture of the test) asks for that too, and the computer's otherwise.
    """
    from ._entra.brain import FakeEntra

    if "fake_clock" in request.fixturenames:
        clock: FakeClock = request.getfixturevalue("fake_clock")
        entra = FakeEntra(clock=clock)
    else:
        entra = FakeEntra()
    with entra:
        yield entra
