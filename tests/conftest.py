"""What holds for every test: its backend, no blocked loop, no network, no settings of this machine's environment.

A test is a plain `async def`; where it lies decides what runs it. In `tests/core` it runs on every backend below
(by anyio's plugin), elsewhere on asyncio (by pytest-asyncio). A mark of its own, `pytest.mark.anyio` or
`pytest.mark.asyncio`, overrules that.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# -- backends --------------------------------------------------------------------------------------------------------

CORE = Path(__file__).parent / "core"


def eager_event_loop() -> asyncio.AbstractEventLoop:
    """An asyncio loop whose tasks run up to their first real wait before `create_task` returns."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


# What does not exist here is left out, not skipped: hundreds of lines that say so would hide the one that matters.
BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {"asyncio": ("asyncio", {})}
if sys.version_info >= (3, 12):
    BACKENDS["eager"] = ("asyncio", {"loop_factory": eager_event_loop})
if sys.platform != "win32" and sys.implementation.name == "cpython":
    BACKENDS["uvloop"] = ("asyncio", {"use_uvloop": True})
BACKENDS["trio"] = ("trio", {})


# Hypothesis refuses fixtures of function scope; what this one returns is the same for a whole module anyway.
@pytest.fixture(scope="module", params=BACKENDS.values(), ids=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def backend(anyio_backend: Any) -> str:
    """The backend of a test of the core by its id: "asyncio", "eager", "uvloop" or "trio"."""
    return next(name for name, made in BACKENDS.items() if made is anyio_backend)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> None:
    """Give each coroutine to one of the two plugins, before either looks at it."""
    if not collector.istestfunction(obj, name):
        return
    inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    if not inspect.iscoroutinefunction(inner):
        return
    marks = {mark.name for mark in (*collector.iter_markers(), *getattr(obj, "pytestmark", ()))}
    if not marks & {"anyio", "asyncio"}:
        in_core = collector.path.is_relative_to(CORE)
        (pytest.mark.anyio if in_core else pytest.mark.asyncio)(obj)


# -- nothing blocks the event loop -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loop_never_blocks() -> Iterator[Any]:
    """Raise `blockbuster.BlockingError` in whatever blocks an asyncio loop with a frame of ours on the stack.

    Not in tests themselves: they read files and join threads on purpose. Not in `aiomsal.testing`: what starts a
    server there is called by tests in the same way. Trio's loop is not watched (blockbuster knows asyncio only); the
    same code runs on asyncio beside it.
    """
    if sys.implementation.name != "cpython":  # blockbuster replaces methods of C types, which only CPython lets it
        yield None
        return
    from blockbuster import blockbuster_ctx

    with blockbuster_ctx("aiomsal", excluded_modules=["aiomsal.testing"]) as blockbuster:
        yield blockbuster


# -- no network but loopback -----------------------------------------------------------------------------------------


def is_loopback(host: object) -> bool:
    if host is None or host in ("", b""):  # "any address", to bind to
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def refuse_the_network(event: str, args: tuple[Any, ...]) -> None:
    # An audit hook and not a patched method: it sees each socket made through Python, of trio, urllib3 and asyncio
    # alike, and nothing can put the original back. (uvloop connects beneath it; a name it must have resolved first.)
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # a path: a Unix socket
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not is_loopback(host):
        msg = f"a test may reach loopback only, and this one wanted {host!r} ({event}): use FakeEntra"
        raise RuntimeError(msg)


sys.addaudithook(refuse_the_network)


# -- nothing of this machine's environment ---------------------------------------------------------------------------

FOREIGN_SETTINGS = {
    # certificates: requests and ssl would trust what the machine says, and not FakeEntra
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    # proxies
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    # where MSAL and azure-identity look for themselves
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSAL_FORCE_REGION",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "REGION_NAME",
    # what turns asyncio's debug mode on, and a task's cost up
    "PYTHONASYNCIODEBUG",
}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in FOREIGN_SETTINGS or name.upper().startswith(("AIOMSAL_", "AZURE_")):
            monkeypatch.delenv(name)


# -- hypothesis ------------------------------------------------------------------------------------------------------

# No deadline for one example: on a busy machine it measures the machine, and each test has a timeout anyway.
# A machine that is busy makes examples slowly: that is no fault of the test.
BUSY = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "aiomsal", hypothesis.settings(), deadline=None, print_blob=True, suppress_health_check=BUSY
)
hypothesis.settings.load_profile("aiomsal")
