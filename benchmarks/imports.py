"""What `import aiomsal` costs, and what it loads."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.report import Report, Row, median_ratio

HEAVY = ("msal", "requests", "httpx", "cryptography")
PROBE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
LOADED = f"import aiomsal, json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"


def _python(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def run() -> Report:
    """Fresh interpreters, in turn, with everything compiled, as it is wherever a program starts twice."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return _run(environment)


def _run(environment: dict[str, str]) -> Report:
    names = {
        "aiomsal": "aiomsal",
        "anyio, asyncio": "anyio, asyncio",
        "msal": "msal",
        "azure-identity": "azure.identity.aio",
    }
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names.values():
        _python(f"import {name}", environment)  # so that every .pyc is there
    for _ in range(15):
        for name, modules in names.items():
            times[name].append(float(_python(PROBE.format(modules), environment)))
    loaded = json.loads(_python(LOADED, environment))
    rows = [Row(f"import {name}", statistics.median(each) * 1000, "ms") for name, each in times.items()]
    rows.append(
        Row("import aiomsal / import anyio, asyncio", median_ratio(times["aiomsal"], times["anyio, asyncio"]), "x", 1.3)
    )
    rows.append(Row(f"of {', '.join(HEAVY)} loaded", len(loaded), "", 0))
    return Report("imports", "what does `import aiomsal` cost?", tuple(rows))
