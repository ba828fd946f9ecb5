"""The browser of this machine, if it has one with windows."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Final

from aiomsal._spawn import here

logger = logging.getLogger("aiomsal")

_IN_A_TERMINAL: Final = frozenset({"browsh", "edbrowse", "elinks", "links", "links2", "lynx", "netrik", "w3m"})


async def open_browser(url: str, name: str | None = None) -> bool:
    """Have the standard library's `webbrowser` open a URL; False if there is no browser, or none but in a terminal.

    It may take as long as the browser is open, in a thread that holds up nobody: neither the end of the program, nor
    whoever leaves.
    """
    waiter = here().waiter()
    opened: list[bool] = []

    def work() -> None:
        try:
            opened.append(_open(url, name))
        except Exception as error:  # noqa: BLE001 -- for us it comes to the same: no browser
            logger.debug("webbrowser raised %s", type(error).__name__)  # and not its text: the URL may be in it
        waiter.home.call_soon(waiter.wake)

    # No pool's thread: Python waits for these at its end, and anyio has but forty for the whole program.
    threading.Thread(target=work, name="aiomsal-browser", daemon=True).start()
    await waiter.wait()
    return opened == [True]


def _open(url: str, name: str | None) -> bool:
    import webbrowser  # asks the desktop for its settings: not on the event loop

    browser = webbrowser.get(name) if name else webbrowser.get()
    names = {Path(name).name for name in _names(getattr(browser, "name", ""))}
    return not names & _IN_A_TERMINAL and browser.open(url)  # one in a terminal would take the program's own


def _names(name: str) -> set[str]:
    """What a command is called, and what it really is: Debian's www-browser may be any."""
    path = shutil.which(name)
    return {name} if path is None else {name, os.path.realpath(path)}
