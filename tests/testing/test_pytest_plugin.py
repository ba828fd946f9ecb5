from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from aiomsal.testing import FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def clock_of_a_fixture(fake_clock: FakeClock) -> FakeClock:
    return fake_clock


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=50
    )


def test_both_fixtures_share_one_clock(fake_entra: FakeEntra, fake_clock: FakeClock) -> None:
    assert fake_entra.clock is fake_clock


def test_a_clock_that_another_fixture_asked_for_is_shared_too(
    fake_entra: FakeEntra, clock_of_a_fixture: FakeClock
) -> None:
    assert fake_entra.clock is clock_of_a_fixture


def test_alone_it_uses_the_computers_clock(fake_entra: FakeEntra) -> None:
    assert fake_entra.clock is time.time


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    heavy = "{'cryptography', 'h11', 'jwt', 'msal', 'requests', 'aiomsal.testing._entra'}"
    program = (
        "import sys, pytest; before = set(sys.modules); import aiomsal.testing.pytest_plugin;"
        f"print(sorted((set(sys.modules) - before) & {heavy}))"
    )
    done = run("-c", program)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_test_of_a_user_gets_its_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "leaked = []\n"
        "def test_one(fake_entra, fake_clock):\n"
        "    app = fake_entra.add_application()\n"
        "    fake_entra.fault('token', status=500)\n"
        "    leaked.append(fake_entra)\n"
        "def test_two(fake_entra):\n"
        "    assert fake_entra is not leaked[0]\n"
        "    assert fake_entra.count() == 0\n",
        encoding="utf-8",
    )
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))  # to install aiomsal is to have it
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_every_public_name_can_be_had_and_has_a_docstring() -> None:
    import aiomsal.testing

    for name in aiomsal.testing.__all__:
        assert getattr(aiomsal.testing, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = aiomsal.testing.Nothing
