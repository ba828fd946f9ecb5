"""A user's own test file, with the fixtures that come with the package."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

USERS_TESTS = """
import asyncio

import pytest

from aiomsal import AuthorityUnavailable, ConfidentialClient, DeviceCode, PublicClient, TokenManager

GRAPH = "https://graph.microsoft.com/.default"


def make(fake_entra, clock, **options):
    app = fake_entra.add_application()
    client = ConfidentialClient(
        app.client_id, app.client_secret, authority=fake_entra.authority(), http_client=fake_entra.http_client(),
        clock=clock,
    )
    return TokenManager(client, clock=clock, **options)


def test_a_day_passes_in_no_time(fake_entra, fake_clock):
    async def day():
        async with make(fake_entra, fake_clock) as tokens:
            for _ in range(24):
                await asyncio.gather(*(tokens.get(GRAPH) for _ in range(100)))
                fake_clock.advance(3600)

    asyncio.run(day())
    assert fake_entra.count("token.client_credentials") == 24


def test_a_server_behind_https(fake_entra, fake_clock):
    app = fake_entra.add_application()
    with fake_entra.serve() as server:
        client = ConfidentialClient(
            app.client_id, app.client_secret, authority=server.authority(), ca_file=server.ca_file,
            instance_discovery=False, clock=fake_clock,
        )
        tokens = TokenManager(client, clock=fake_clock)
        assert asyncio.run(tokens.get(GRAPH)).expires_at == fake_clock() + 3600
    assert fake_entra.count("token") == 1


def test_a_user_signs_in(fake_entra):
    fake_entra.add_user("me@home.example")
    app = fake_entra.add_application(public=True)
    fake_entra.configure(device_code_interval=0)
    sign_in = DeviceCode(lambda prompt: fake_entra.approve_device_code(prompt.user_code, "me@home.example"))
    client = PublicClient(
        app.client_id, authority=fake_entra.authority(), http_client=fake_entra.http_client(), sign_in=sign_in
    )
    token = asyncio.run(TokenManager(client).get("User.Read"))
    assert token.account.username == "me@home.example"


def test_a_test_that_leaves_a_request_hanging_hangs_nobody(fake_entra, fake_clock):
    fake_entra.fault("token", hang=True)
    tokens = make(fake_entra, fake_clock, acquire_timeout=0.1)

    async def ask():
        with pytest.raises(AuthorityUnavailable):
            await tokens.get(GRAPH)
        fake_entra.close()  # as the fixture does after the test

    asyncio.run(ask())


@pytest.fixture
def service(fake_entra, fake_clock):
    return make(fake_entra, fake_clock)


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_has_a_server_of_its_own(attempt, service, fake_entra):
    assert fake_entra.count() == 0
    asyncio.run(service.get(GRAPH))
    assert fake_entra.count("token") == 1
"""


def test_a_user_s_tests_pass_with_nothing_but_the_package_installed(tmp_path: Path) -> None:
    (tmp_path / "test_ours.py").write_text(USERS_TESTS, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
    without = [part for plugin in ("cacheprovider", "asyncio", "anyio") for part in ("-p", f"no:{plugin}")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *without, "--rootdir", ".", "."],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert "warning" not in done.stdout
