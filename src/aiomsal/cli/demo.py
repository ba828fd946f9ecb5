"""`aiomsal demo`: what the library is for, beside the naive way, live, against an authority of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiomsal.cli.naive import THREADS
from aiomsal.cli.scenes import SCENES
from aiomsal.cli.screen import Screen
from aiomsal.cli.stage import LATENCY, Stage
from aiomsal.testing import FakeEntraProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from aiomsal.cli.scenes import Figure, Scene

KEPT, BROKEN, UNABLE, INTERRUPTED = 0, 1, 2, 130
_FOREIGN: Final = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


def demo(scenes: Sequence[Scene] = SCENES, *, make_entra: Callable[[], FakeEntraProcess] = FakeEntraProcess) -> int:
    """Play the scenes; return the exit status.

    That is 0 if every promise was kept, 1 if one was not, 2 if the authority could not be started, 130 after Ctrl-C.
    """
    screen = Screen()
    start = time.monotonic()
    entra = make_entra()
    try:
        with _undisturbed():
            try:
                entra.start()
            except (OSError, RuntimeError) as error:
                print(f"aiomsal demo: the fake authority could not be started: {error}", file=sys.stderr)
                return UNABLE
            _introduce(screen)
            played = asyncio.run(_play(Stage(entra, screen), scenes))
    except KeyboardInterrupt:
        screen.lines("", "Stopped.")
        return INTERRUPTED
    finally:
        entra.stop()
    return _conclude(screen, played, time.monotonic() - start)


def _introduce(screen: Screen) -> None:
    screen.head("aiomsal demo: one token request for a thousand coroutines")
    screen.say()
    screen.say(
        "A fake Microsoft Entra ID serves HTTPS on localhost, in a process of its own: no tenant, no internet. It "
        f"takes {1000 * LATENCY:.0f} ms for a token, and counts its requests."
    )
    screen.say()
    screen.outcome("naive", "await asyncio.to_thread(app.acquire_token_for_client, scopes)")
    screen.outcome("", f"with one MSAL application, built beforehand, and {THREADS} threads")
    screen.outcome("aiomsal", "await tokens.get(scope)")


async def _play(stage: Stage, scenes: Sequence[Scene]) -> list[tuple[str, tuple[Figure, ...]]]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "naive"))
    played: list[tuple[str, tuple[Figure, ...]]] = []
    try:
        stage.slow_down()
        for number, scene in enumerate(scenes, 1):
            stage.screen.say()
            stage.screen.head(f"{number}  {scene.title}")
            if scene.note:
                stage.screen.lines(f"   {scene.note}")
            played.append((scene.name, await scene.play(stage)))
    except BaseException:
        stage.entra.stop()  # or the naive way's threads would wait for their answers, and Python for them
        raise
    return played


def _conclude(screen: Screen, played: Sequence[tuple[str, tuple[Figure, ...]]], seconds: float) -> int:
    screen.say()
    screen.table(played)
    screen.say()
    promises = [figure for _, figures in played for figure in figures if figure.promised is not None]
    broken = sum(not figure.holds for figure in promises)
    kept = f"All {len(promises)} promises kept" if not broken else f"{broken} of {len(promises)} promises BROKEN"
    screen.lines(
        f"{kept}, in {seconds:.0f} s.",
        "Requests were counted by the authority. Times vary with the machine; in the",
        "repository, `python -m benchmarks` measures them with care.",
    )
    return BROKEN if broken else KEPT


@contextmanager
def _undisturbed() -> Generator[None]:
    """Let nothing of this machine's settings come between MSAL and localhost, and no log line into the picture."""
    before = os.environ.copy()
    for name in _FOREIGN:  # in MSAL's hands they win over the CA file it is given
        os.environ.pop(name, None)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost"
    silence = logging.NullHandler()  # where no handler is, Python writes warnings to the terminal
    logging.getLogger().addHandler(silence)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(silence)
        os.environ.clear()
        os.environ.update(before)
