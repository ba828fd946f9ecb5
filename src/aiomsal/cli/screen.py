"""What the demo writes: plain text for 80 columns, a line that changes in place where somebody watches, a table."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import TextIO

    from aiomsal.cli.scenes import Figure

WIDTH: Final = 79
LABEL: Final = 9
_TICK: Final = 0.1  # seconds between two states of the line that changes
_BOLD, _GREEN, _RED = "1", "32", "31"


class Screen:
    """A terminal, or a file where nothing moves and nothing is coloured. The mutable state is what it has written."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")

    def say(self, text: str = "") -> None:
        """Write a paragraph, wrapped; or an empty line."""
        for line in textwrap.wrap(text, WIDTH) or [""]:
            self._line(line)

    def lines(self, *lines: str) -> None:
        """Write lines as they are."""
        for line in lines:
            self._line(line)

    def head(self, text: str) -> None:
        """Write a heading."""
        self._line(self._painted(text, _BOLD))

    def outcome(self, who: str, text: str) -> None:
        """Write what one way of the two came to."""
        self._line(f"   {who:<{LABEL}}{text}")

    @contextmanager
    def progress(self, who: str, doing: Callable[[], str]) -> Generator[None]:
        """Meanwhile show, where somebody watches, how long it has taken and what it has come to; leave nothing."""
        if not self._live:
            yield
            return
        done = threading.Event()
        start = time.monotonic()

        def tick() -> None:
            while not done.wait(_TICK):
                line = f"   {who:<{LABEL}}{time.monotonic() - start:4.1f} s  {doing()}"
                self._out.write(f"\r\x1b[K{line[: self._width()]}")
                self._out.flush()

        # A thread, and not a task: the event loop is what is being measured.
        ticker = threading.Thread(target=tick, name="aiomsal-demo-progress", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
            self._out.write("\r\x1b[K")
            self._out.flush()

    def table(self, parts: Iterable[tuple[str, tuple[Figure, ...]]]) -> None:
        """Write the figures of all scenes, each scene by its name."""
        self._line(self._painted(f"{'':<50}{'naive':>8}{'aiomsal':>10}  promised", _BOLD))
        for name, figures in parts:
            for number, figure in enumerate(figures):
                self._line(self._row("" if number else name, figure))

    def _row(self, name: str, figure: Figure) -> str:
        row = f"{name:<14}{figure.what:<36}{figure.shown(figure.naive):>8}{figure.shown(figure.ours):>10}"
        if figure.promised is None:
            return row
        kept = self._painted("kept", _GREEN) if figure.holds else self._painted("BROKEN", _RED)
        return f"{row}  {figure.shown(figure.promised)} {kept}"

    @staticmethod
    def _width() -> int:
        """What is longer than the terminal is wide would not be written over by the next."""
        return min(WIDTH, shutil.get_terminal_size().columns - 1)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _line(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()
