"""`python -m benchmarks [name ...] [--json FILE]`: exit status 1 if a figure is not reached."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Report

NAMES = ("hot", "crowd", "leave", "refresh", "keys", "memory", "imports", "facade")
ON_REQUEST = ("msal_tests",)
"""Which run only if they are named: they want the package index."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = ", ".join([*NAMES, *ON_REQUEST])
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"which ({known}); the first {len(NAMES)} if none is named"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in (*NAMES, *ON_REQUEST)]:
        parser.error(f"no benchmark is called {', '.join(unknown)}: there are {known}")
    reports: list[Report] = []
    for name in arguments.names or NAMES:
        start = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        report = importlib.import_module(f"benchmarks.{name}").run()
        reports.append(report)
        print(f"{report.table()}\n  ({time.perf_counter() - start:.0f} s)\n", flush=True)
    if arguments.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        rows = {
            report.name: [{**dataclasses.asdict(row), "holds": row.holds} for row in report.rows] for report in reports
        }
        arguments.json.write_text(json.dumps({**machine, "benchmarks": rows}, indent=2) + "\n")
    missed = [row.what for report in reports for row in report.rows if row.holds is False]
    if missed:
        print(f"not reached: {'; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
