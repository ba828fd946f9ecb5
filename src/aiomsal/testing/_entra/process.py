"""The HTTPS server in a process of its own, driven from here by the same methods."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from .brain import FakeEntra

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .directory import User
    from .log import RequestRecord
    from .state import Settings
    from .steps import AuthorizationAnswer

    P = ParamSpec("P")
    R = TypeVar("R")

_SLICE = 0.05  # what may take long is waited for in slices, so that other threads can drive the server meanwhile


def _forwarded(method: Callable[Concatenate[FakeEntra, P], R]) -> Callable[Concatenate[FakeEntraProcess, P], R]:
    """Return a method that has that method of the FakeEntra called in its process, and returns what it returns."""

    def call(self: FakeEntraProcess, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self.ask(method.__name__, args, kwargs))

    functools.update_wrapper(call, method)
    return call


class FakeEntraProcess:
    """A FakeEntra that serves HTTPS from a process of its own: for benchmarks and demonstrations.

    `with FakeEntraProcess() as entra:` it has the methods of FakeEntra, and `url`, `ca_file` and `authority` of its
    server. Arguments travel by pickle, so `match=` is a function of an importable module. Its clock is the
    computer's. The process raises its limit of open files as far as it may, and ends when this one does. Methods may
    be called from any thread, and block it for a fraction of a millisecond; `authorize` as long as the page takes.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """ "https://localhost:PORT" """
        self.ca_file = ""
        """The path of the PEM file with the certificate authority to trust."""
        self.tenant_id = ""
        """The GUID of the home tenant."""

    add_tenant = _forwarded(FakeEntra.add_tenant)
    add_user = _forwarded(FakeEntra.add_user)
    disable_user = _forwarded(FakeEntra.disable_user)
    add_application = _forwarded(FakeEntra.add_application)
    configure = _forwarded(FakeEntra.configure)
    approve_device_code = _forwarded(FakeEntra.approve_device_code)
    deny_device_code = _forwarded(FakeEntra.deny_device_code)
    require_interaction = _forwarded(FakeEntra.require_interaction)
    revoke_refresh_tokens = _forwarded(FakeEntra.revoke_refresh_tokens)
    fault = _forwarded(FakeEntra.fault)
    clear_faults = _forwarded(FakeEntra.clear_faults)
    count = _forwarded(FakeEntra.count)
    forget_requests = _forwarded(FakeEntra.forget_requests)

    @property
    def settings(self) -> Settings:
        """Return how tokens and codes are issued at present."""
        return cast("Settings", self.ask("settings", (), {}))

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """Return the last 20,000 requests in order of arrival."""
        return cast("tuple[RequestRecord, ...]", self.ask("requests", (), {}))

    def hold(self, kind: str, *, match: Callable[[RequestRecord], bool] | None = None) -> RemoteGate:
        """Let requests of a kind arrive and wait, as long as the returned gate, a context manager, is closed."""
        return RemoteGate(self, kind, cast("int", self.ask("hold", (kind,), {"match": match})))

    def authorize(self, auth_uri: str, user: User | str | None = None, *, decline: bool = False) -> AuthorizationAnswer:
        """Be the user in the window that an application opened at `auth_uri`: see `FakeEntra.authorize`."""
        number = self.ask("authorize", (auth_uri, user), {"decline": decline})
        while not (done := cast("list[AuthorizationAnswer]", self.ask("authorized", (number, _SLICE), {}))):
            pass
        return done[0]

    def authority(self, tenant: str = "") -> str:
        """Return the URL of a tenant on this server, the home tenant by default."""
        return f"{self.url}/{tenant or self.tenant_id}"

    def start(self) -> None:
        """Start the process; return when it accepts connections, in about half a second."""
        if self._process:
            message = "this process already runs; make another FakeEntraProcess"
            raise RuntimeError(message)
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aiomsal.testing._entra.process_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self.url, self.ca_file, self.tenant_id = cast("tuple[str, str, str]", self.ask("where", (), {}))

    def stop(self) -> None:
        """End the process. To stop twice does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def ask(self, name: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> object:
        """Have a method called over there, and return what it returns or raise what it raises."""
        try:
            question = pickle.dumps((name, args, kwargs))  # whole, before anything is sent
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            message = f"an argument of {name} cannot be pickled; match= is a function of an importable module: {error}"
            raise TypeError(message) from error
        with self._lock:
            process = self._process
            if not (process and process.stdin and process.stdout):
                message = "the process does not run: enter it first, `with FakeEntraProcess() as entra:`"
                raise RuntimeError(message)
            try:
                process.stdin.write(question)
                process.stdin.flush()
                done, value = pickle.load(process.stdout)  # noqa: S301  written by our own child
            except (EOFError, OSError) as error:
                message = f"the process of this FakeEntra has ended (exit status {process.poll()})"
                raise RuntimeError(message) from error
        if not done:
            raise value
        return value


class RemoteGate:
    """The Gate of a FakeEntraProcess: see `Gate`."""

    def __init__(self, owner: FakeEntraProcess, kind: str, number: int) -> None:
        """Speak for gate `number` over there."""
        self._owner, self._kind, self._number = owner, kind, number

    @property
    def waiting(self) -> int:
        """Return how many requests wait here now."""
        return cast("int", self._owner.ask("gate", (self._number, "waiting"), {}))

    def wait_for(self, n: int, timeout: float = 10.0) -> None:
        """Return when at least `n` requests wait here; raise TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if self._owner.ask("gate", (self._number, "waited_for", n, max(0.0, min(_SLICE, left))), {}):
                return
            if left <= 0:
                message = f"{self.waiting} of {n} requests wait at the gate for {self._kind!r} after {timeout} s"
                raise TimeoutError(message)

    def release(self, n: int | None = None) -> int:
        """Let the `n` that wait longest go, and return how many went; with no `n`, open the gate for good."""
        return cast("int", self._owner.ask("gate", (self._number, "release", n), {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owner.ask("gate", (self._number, "close"), {})
