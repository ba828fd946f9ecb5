"""The command line itself: cheap to import, helpful without arguments."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from aiomsal.cli import main


def test_without_a_command_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "usage: aiomsal" in shown
    assert "demo" in shown


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"aiomsal {version('aiomsal')}\n"


def test_an_unknown_command_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dance"])
    assert ended.value.code == 2
    assert "dance" in capsys.readouterr().err


def test_ctrl_c_while_the_demo_loads_gives_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("aiomsal.cli.demo.demo", interrupted)
    assert main(["demo"]) == 130


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "aiomsal", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"aiomsal {version('aiomsal')}\n"


def test_importing_it_loads_neither_the_demo_nor_argparse() -> None:
    program = "import sys, aiomsal.cli; print('aiomsal.cli.demo' in sys.modules, 'argparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
