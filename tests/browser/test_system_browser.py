"""`Browser()` as it is: what the standard library's `webbrowser` starts, and waits for until its windows are closed."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from aiomsal.testing import FakeEntra
from tests.end_to_end.support import ANN, until

from .chromium import ARGUMENTS, Chromium, driven, redirect_uri_in
from .support import OPENED, PASSWORD, REDEEMED, SIGNED_IN

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .chromium import Programs

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

    def __init__(self, programs: Programs, directory: Path, *more_arguments: str) -> None:
        self._profile = directory / "profile"
        self._started = directory / "started"
        self.command = directory / "browser"
        arguments = [
            programs.browser,
            *ARGUMENTS,
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile}",
            *more_arguments,
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        shutil.rmtree(self._profile, ignore_errors=True)  # pytest would keep it


@asynccontextmanager
async def running(*args: str, browser: SystemBrowser) -> AsyncIterator[Process]:
    """A program of this Python's, on a machine whose browser is this one."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *args,
        env={**os.environ, "BROWSER": str(browser.command)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_a_program_opens_the_browser_of_the_machine_once_and_ends_before_it(
    programs: Programs, tmp_path: Path
) -> None:
    with FakeEntra() as entra, entra.serve() as server:
        entra.add_user(ANN, password=PASSWORD)
        app = entra.add_application(public=True)
        internet = f"--ip-address-space-overrides=127.0.0.1:{urlsplit(server.url).port}=public"
        args = "-W", "error", "-c", PROGRAM, app.client_id, server.authority(), server.ca_file
        with SystemBrowser(programs, tmp_path, internet) as browser:
            async with running(*args, browser=browser) as program:
                with driven(programs, attach_to=await browser.address()) as driver, Chromium(driver) as chromium:
                    await chromium.sees("Sign in")
                    # The listener is reached where pages of the internet may not reach this machine in other ways.
                    script = "return fetch(args[0], {mode: 'no-cors'}).then(answer => answer.type, error => error.name)"
                    assert await chromium.runs(script, redirect_uri_in(await chromium.address())) == "TypeError"
                    await chromium.signs_in(ANN, PASSWORD)
                    said, _ = await program.communicate()
                    assert (program.returncode, said.decode().split()) == (0, ["1", ANN])
                    await chromium.sees(SIGNED_IN)  # the browser is still there
        assert (len(browser.processes), entra.count(OPENED), entra.count(REDEEMED)) == (1, 1, 1)
