"""The command `aiomsal`. Whatever a subcommand needs is imported when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status, 0 for success."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command == "demo":
        try:
            from aiomsal.cli.demo import demo

            return demo()
        except KeyboardInterrupt:  # while it was loading
            return 130
        except BrokenPipeError:  # whoever read what we print has left
            import os
            import sys

            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails again, flushing at its end
            return 1
    parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    import argparse
    from importlib.metadata import version

    parser = argparse.ArgumentParser(
        prog="aiomsal", description="Tokens of the Microsoft identity platform for asyncio, on MSAL Python."
    )
    parser.add_argument("--version", action="version", version=f"aiomsal {version('aiomsal')}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    what = "see in half a minute what the library is for; needs no tenant and no internet"
    commands.add_parser("demo", help=what, description=f"{what[0].upper()}{what[1:]}.")
    return parser
