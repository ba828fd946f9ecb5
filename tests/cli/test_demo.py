"""`aiomsal demo`: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from aiomsal.cli.demo import demo
from aiomsal.cli.naive import THREADS
from aiomsal.cli.scenes import SCENES, Figure, Scene
from aiomsal.cli.screen import Screen
from aiomsal.cli.stage import SCOPE
from aiomsal.testing import FakeEntraProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiomsal.cli.stage import Stage


def scene_of(*figures: Figure) -> Scene:
    async def play(_stage: Stage) -> tuple[Figure, ...]:
        return figures

    return Scene("a scene", "something is promised", play)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class NoAuthority(FakeEntraProcess):
    def start(self) -> None:
        raise OSError("no port is free")


class NoticedAuthority(FakeEntraProcess):
    """Remembers its process, to ask later how it ended."""

    last: NoticedAuthority

    def start(self) -> None:
        super().start()
        NoticedAuthority.last = self
        self.child = self._process

    @property
    def gone(self) -> bool:
        assert self.child is not None
        return self.child.poll() is not None


# -- the whole of it -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_the_demo_keeps_every_promise_and_prints_its_table() -> None:
    # With settings of the machine that would come between MSAL and localhost, if they were let.
    foreign = {"REQUESTS_CA_BUNDLE": os.devnull, "HTTPS_PROXY": "http://proxy.invalid:1"}
    done = subprocess.run(
        [sys.executable, "-m", "aiomsal", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **foreign},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout, "nobody watches"
    assert "\r" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 80
    assert "All 11 promises kept" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    for name in (scene.name for scene in SCENES):
        assert any(row[: len(name.split())] == name.split() and row[-1] == "kept" for row in rows), name
    assert ["the", "same,", "naive", "with", "a", "shared", "task", "999", "0"] in rows
    naive = {tuple(row[:-4]): row[-4] for row in rows if row[-2:] == ["1", "kept"]}
    # As many as there are threads, if the machine starts them all before the first answer comes.
    assert 1 < int(naive["cold", "start", "token", "requests"]) <= THREADS
    assert 1 < int(naive["sign-in", "codes", "shown", "to", "the", "person"]) <= THREADS
    assert 1 < int(naive["window", "windows", "opened", "for", "the", "person"]) <= THREADS


# -- how it ends -----------------------------------------------------------------------------------------------------


def test_kept_promises_give_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo([scene_of(Figure("requests", 32, 1, promised=1), Figure("stall", 0.9, 0.2, unit="ms"))]) == 0
    assert "All 1 promises kept" in capsys.readouterr().out


def test_one_broken_promise_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Figure("requests", 32, 2, promised=1)
    assert demo([scene_of(Figure("errors", 5, 0, promised=0)), scene_of(broken)]) == 1
    shown = capsys.readouterr().out
    assert "1 BROKEN" in shown
    assert "1 of 2 promises BROKEN" in shown


def test_an_authority_that_does_not_start_gives_a_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo([], make_entra=NoAuthority) == 2
    assert capsys.readouterr().err == "aiomsal demo: the fake authority could not be started: no port is free\n"


@pytest.mark.parametrize(
    "play", [lambda: None, lambda: signal.raise_signal(signal.SIGINT)], ids=["to the end", "interrupted"]
)
def test_however_it_ends_the_authority_is_gone(play: Callable[[], None]) -> None:
    async def scene(_stage: Stage) -> tuple[Figure, ...]:
        play()
        return ()

    demo([Scene("a scene", "it may be interrupted", scene)], make_entra=NoticedAuthority)
    assert NoticedAuthority.last.gone


def test_ctrl_c_ends_it_with_status_130_though_threads_still_wait_for_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def scene(stage: Stage) -> tuple[Figure, ...]:
        naive, _ = await stage.rivals()
        gate = stage.entra.hold("token")

        async def call(number: int) -> str:
            if number:
                return await naive.token(SCOPE)
            await asyncio.to_thread(gate.wait_for, THREADS - 1)
            signal.raise_signal(signal.SIGINT)
            return ""

        await stage.measure("naive", 100, call)
        return ()

    assert demo([Scene("a scene", "the authority hangs", scene)], make_entra=NoticedAuthority) == 130
    assert capsys.readouterr().out.endswith("\nStopped.\n")
    assert NoticedAuthority.last.gone


def test_the_process_of_the_authority_does_not_hear_ctrl_c(capfd: pytest.CaptureFixture[str]) -> None:
    async def scene(stage: Stage) -> tuple[Figure, ...]:
        child = NoticedAuthority.last.child
        assert child is not None
        child.send_signal(signal.SIGINT)
        return (Figure("requests", 0, stage.entra.count(), promised=0),)  # it answers still

    assert demo([Scene("a scene", "a terminal signals all", scene)], make_entra=NoticedAuthority) == 0
    assert capfd.readouterr().err == ""


def test_it_ends_without_a_traceback_when_its_reader_leaves() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "aiomsal", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert (run.wait(30), run.stderr.read()) == (1, "")


def test_the_environment_and_the_logs_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull)
    environment, handlers = os.environ.copy(), logging.getLogger().handlers[:]
    demo([], make_entra=NoAuthority)
    assert os.environ.copy() == environment
    assert logging.getLogger().handlers == handlers


# -- the screen ------------------------------------------------------------------------------------------------------


def test_only_a_terminal_is_coloured_and_not_one_that_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain, asked = Terminal(), io.StringIO(), Terminal()
    Screen(coloured).head("a heading")
    Screen(plain).head("a heading")
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(asked).head("a heading")
    assert coloured.getvalue() == "\x1b[1ma heading\x1b[0m\n"
    assert plain.getvalue() == asked.getvalue() == "a heading\n"


def test_progress_is_shown_in_place_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    terminal, shown = Terminal(), threading.Event()

    def doing() -> str:
        shown.set()
        return f"{'a long story ' * 10}"

    with Screen(terminal).progress("naive", doing):
        assert shown.wait(10)
    *states, last = terminal.getvalue().split("\r\x1b[K")
    assert last == ""
    assert all(len(state) < 40 and "\n" not in state for state in states)
    assert re.fullmatch(r"   naive +\d+\.\d s  a long story a lo.*", states[1])


def test_progress_is_not_shown_where_nobody_watches() -> None:
    out = io.StringIO()
    with Screen(out).progress("naive", lambda: "working"):
        pass
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure("n", 0, 9_968), "9,968"),
        (Figure("t", 0, 1.234, unit="s"), "1.23 s"),
        (Figure("t", 0, 0.2345, unit="ms"), "234 ms"),
        (Figure("t", 0, 0.00012, unit="ms"), "0.1 ms"),
    ],
)
def test_figures_are_shown_in_their_unit(figure: Figure, shown: str) -> None:
    assert figure.shown(figure.ours) == shown


def test_the_rows_of_the_table_are_aligned() -> None:
    out = io.StringIO()
    Screen(out).table([("a scene", (Figure("requests", 32, 1, promised=1), Figure("slowest", 0.4, 0.3, unit="ms")))])
    assert out.getvalue().splitlines() == [
        "                                                     naive   aiomsal  promised",
        "a scene       requests                                  32         1  1 kept",
        "              slowest                               400 ms    300 ms",
    ]


def test_every_scene_promises_something_and_fits_the_table() -> None:
    assert all(len(scene.name) < 14 for scene in SCENES)
    assert all(len(scene.title) < 77 and len(scene.note) < 77 for scene in SCENES)
