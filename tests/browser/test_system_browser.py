"""`Browser()` as it is: what the standard library's `webbrowser` starts, and waits for until its windows are closed."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from aiomsal.testing import FakeEntra
from tests.end_to_end.support import ANN, until

from .chromium import ARGUMENTS, Chromium, Programs, driven
from .support import OPENED, PASSWORD, REDEEMED, SIGNED_IN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import asyncio, sys
from aiomsal import Browser, PublicClient, TokenManager

async def main(client_id, authority, ca_file):
    client = PublicClient(
        client_id, authority=authority, ca_file=ca_file, instance_discovery=False, sign_in=Browser()
    )
    tokens = TokenManager(client)
    some = await asyncio.gather(*[tokens.get("User.Read") for _ in range(200)])
    print(len({token.value for token in some}), some[0].account.username)

asyncio.run(main(*sys.argv[1:]))
"""


class SystemBrowser:
    """A command that starts a browser of its own, and runs as long as that does."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self._programs = programs
        self._profile = directory / "profile"
        self._started = directory / "started"
        self.command = directory / "browser"
        arguments = [
            programs.browser,
            *ARGUMENTS,
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile}",
        ]
        started = shlex.quote(str(self._started))
        self.command.write_text(f'#!/bin/sh\necho $$ >>{started}\nexec {shlex.join(arguments)} "$@" >/dev/null 2>&1\n')
        self.command.chmod(0o700)

    @property
    def processes(self) -> list[int]:
        """Those it has started."""
        return [int(line) for line in self._started.read_text().split()] if self._started.exists() else []

    async def address(self) -> str:
        """Where it listens for a driver, when it does."""
        file = self._profile / "DevToolsActivePort"
        await until(lambda: file.exists() and "\n" in file.read_text())
        return f"127.0.0.1:{file.read_text().split()[0]}"

    def end(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)


@pytest.fixture
def system_browser(programs: Programs, tmp_path: Path) -> Iterator[SystemBrowser]:
    browser = SystemBrowser(programs, tmp_path)
    yield browser
    browser.end()


async def test_a_program_opens_the_browser_of_the_machine_once_and_ends_before_it(
    programs: Programs, system_browser: SystemBrowser
) -> None:
    with FakeEntra() as entra, entra.serve() as server:
        entra.add_user(ANN, password=PASSWORD)
        app = entra.add_application(public=True)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", PROGRAM, app.client_id, server.authority(), server.ca_file),
            env={**os.environ, "BROWSER": str(system_browser.command)},
            stdout=asyncio.subprocess.PIPE,
        )
        with driven(programs, attach_to=await system_browser.address()) as driver, Chromium(driver) as chromium:
            await chromium.signs_in(ANN, PASSWORD)
            await chromium.sees(SIGNED_IN)
            said, _ = await program.communicate()
            assert await chromium.count("body") == 1  # it is still there
        assert (program.returncode, said.decode().split()) == (0, ["1", ANN])
        assert (len(system_browser.processes), entra.count(OPENED), entra.count(REDEEMED)) == (1, 1, 1)
