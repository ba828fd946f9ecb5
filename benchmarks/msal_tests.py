"""MSAL's own offline tests, from its source distribution: do they pass through the facade as they do without it?

The package index is asked for that distribution, so this runs only if it is named. In the place of the network is a
FakeEntra; a test that wants more of it fails either way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import msal

from benchmarks.report import Report, Row

PROJECT = Path(__file__).parent.parent
ON_THE_NETWORK = ("e2e", "benchmark")

# What its tests import, and the distribution leaves out.
HELPERS = """
import requests


class MinimalResponse:
    def __init__(self, requests_resp=None, status_code=None, text=None, headers=None):
        self.status_code = status_code or requests_resp.status_code
        self.text = text if text is not None else requests_resp.text
        self.headers = {} if headers is None else headers
        self._raw_resp = requests_resp

    def raise_for_status(self):
        if self._raw_resp is not None:
            self._raw_resp.raise_for_status()
        if self.status_code >= 400:
            raise Exception("Error")


class MinimalHttpClient:
    def __init__(self, verify=True, proxies=None, timeout=None):
        self.session = requests.Session()

    def post(self, url, params=None, data=None, headers=None, **kwargs):
        return MinimalResponse(requests_resp=self.session.post(url, params=params, data=data, headers=headers))

    def get(self, url, params=None, headers=None, **kwargs):
        return MinimalResponse(requests_resp=self.session.get(url, params=params, headers=headers))

    def close(self):
        self.session.close()
"""
OFFLINE = """
import io

import requests
from aiomsal.testing import FakeEntra

entra = FakeEntra()
to_loopback = requests.adapters.HTTPAdapter.send


def send(adapter, request, **options):
    if request.url.startswith(("http://localhost", "http://127.0.0.1", "https://localhost", "https://127.0.0.1")):
        return to_loopback(adapter, request, **options)
    body = request.body or b""
    try:
        answer = entra.handle(
            request.method, request.url, dict(request.headers), body.encode() if isinstance(body, str) else body
        )
    except ValueError as error:
        raise requests.ConnectionError(error) from error
    response = requests.Response()
    response.status_code, response.url, response.request = answer.status, request.url, request
    response.headers.update(answer.headers)
    response.raw = io.BytesIO(answer.body)
    return response


requests.adapters.HTTPAdapter.send = send
"""


def run() -> Report:
    """Once each, in processes of their own."""
    with tempfile.TemporaryDirectory() as directory:
        home = _unpacked(Path(directory))
        plain, awaited = _results(home, ()), _results(home, ("-p", "benchmarks.driver"))
    different = sorted(test for test in {*plain, *awaited} if plain.get(test) != awaited.get(test))
    for test in different:
        print(f"  {test}: {plain.get(test)} without the facade, {awaited.get(test)} with it", file=sys.stderr)
    rows = (
        Row("tests", len(plain), "", 1, least=True),
        Row("of these, pass", sum(how == "passed" for how in plain.values()), "", 1, least=True),
        Row("of these, end otherwise through the facade", len(different), "", 0),
    )
    return Report("msal_tests", f"do the tests of MSAL {msal.__version__} pass through the facade?", rows)


def _unpacked(directory: Path) -> Path:
    wanted = f"msal=={msal.__version__}"
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else [shutil.which("pip") or "pip"]  # uv's have none
    fetch = ("download", "-q", "--no-deps", "--no-binary", "msal", "--dest", str(directory), wanted)
    try:
        subprocess.run([*pip, *fetch], check=True, env={**os.environ, "PYTHONPATH": ""})
    except (OSError, subprocess.CalledProcessError):
        sys.exit(f"pip could not fetch the source distribution of {wanted}: this needs pip, and its package index")
    [archive] = directory.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    home = directory / archive.name.removesuffix(".tar.gz")
    (home / "tests" / "__init__.py").write_text("import unittest\n")
    (home / "tests" / "http_client.py").write_text(HELPERS)
    (home / "offline.py").write_text(OFFLINE)
    return home


def _results(home: Path, options: tuple[str, ...]) -> dict[str, str]:
    files = sorted(
        path for path in (home / "tests").glob("test_*.py") if not any(n in path.stem for n in ON_THE_NETWORK)
    )
    report = home / "report.xml"
    paths = [str(home), str(PROJECT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    without = ("-p", "no:cacheprovider", "-p", "no:asyncio")
    command = ("-m", "pytest", "-q", "-p", "offline", *without, "--continue-on-collection-errors", "-c", os.devnull)
    subprocess.run(
        [sys.executable, *command, "--rootdir", str(home), f"--junitxml={report}", *options, *map(str, files)],
        cwd=home,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return {
        f"{case.get('classname')}.{case.get('name')}": case[0].tag if len(case) and case[0].tag in _BAD else "passed"
        for case in ET.parse(report).iter("testcase")
    }


_BAD = {"failure", "error", "skipped"}
