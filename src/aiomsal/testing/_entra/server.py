"""The face over HTTPS on loopback, with a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .connection import Connection
from .tls import make_server_context

if TYPE_CHECKING:
    from types import TracebackType

    from .brain import FakeEntra

_BACKLOG = 16 * 1024  # as many as the system allows: thousands of clients connect at once
_PATIENCE = 10.0


class EntraServer:
    """A FakeEntra behind https://localhost. Enter it to start it; leave it to end it and remove its files.

    Its `url` and `ca_file` are there while it serves. A requests.Session trusts it with `verify=ca_file`, and then
    needs `trust_env=False`, or the environment's own certificates win; an SSL context, with `load_verify_locations`.
    MSAL asks Microsoft about hosts it does not know: pass it `instance_discovery=False`.
    """

    def __init__(self, entra: FakeEntra, port: int) -> None:
        """Be ready to serve `entra`; port 0 is whichever is free."""
        self._entra = entra
        self._port = port
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._url = ""
        self._ca_file = ""

    @property
    def url(self) -> str:
        """Return "https://localhost:PORT"."""
        return self._serving(self._url)

    @property
    def ca_file(self) -> str:
        """Return the path of the PEM file with the certificate authority to trust."""
        return self._serving(self._ca_file)

    def authority(self, tenant: str = "") -> str:
        """Return the URL of a tenant on this server, the home tenant by default."""
        return f"{self.url}/{tenant or self._entra.tenant_id}"

    def start(self) -> None:
        """Start to serve; return when connections are accepted."""
        if self._thread:
            message = "this server already serves; ask FakeEntra.serve() for another"
            raise RuntimeError(message)
        self._directory = tempfile.TemporaryDirectory(prefix="fake-entra-")
        listener = socket.create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
        context, ca_file = make_server_context(Path(self._directory.name))
        self._ca_file = str(ca_file)
        self._url = f"https://localhost:{listener.getsockname()[1]}"
        started = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            connections: set[Connection] = set()
            server = await self._loop.create_server(
                lambda: Connection(self._entra, context, connections), sock=listener, backlog=_BACKLOG
            )
            started.set()
            await self._stop.wait()
            server.close()
            for connection in list(connections):
                connection.close()
            await asyncio.sleep(0)  # the transports close in the loop's next turn

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="FakeEntra", daemon=True)
        self._thread.start()
        if not started.wait(_PATIENCE):
            message = f"the server did not start within {_PATIENCE} s"
            raise TimeoutError(message)

    def stop(self) -> None:
        """End it: connections are closed, files removed. To stop twice does nothing."""
        if self._thread and self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE)
        if self._directory:
            self._directory.cleanup()
        self._thread = self._loop = self._stop = self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _serving(self, value: str) -> str:
        if not self._thread:
            message = "this server does not serve: enter it first, `with entra.serve() as server:`"
            raise RuntimeError(message)
        return value
