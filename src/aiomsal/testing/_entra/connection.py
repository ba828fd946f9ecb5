"""One connection of the HTTPS server: TLS, HTTP/1.1 with keep-alive, and one request at a time.

TLS is done here, on memory buffers, and not by asyncio: that keeps 256 KiB for each connection, and FakeEntra is to
hold ten thousand. Everything is callbacks on the loop: a request that waits costs an object and no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import h11

from .http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from .arrival import Arrival
    from .brain import FakeEntra

_READ_SIZE = 16 * 1024
_MOST_BODY = 1024 * 1024
_TOO_LARGE = HttpResponse(413, (), b"")


class Connection(asyncio.Protocol):
    """Invariant: at most one request of a connection is with the brain, and it leaves the gates when the client does.

    Its mutable state is the transport, TLS and HTTP machines, the request being read, and the one being answered.
    """

    def __init__(self, entra: FakeEntra, context: ssl.SSLContext, open_connections: set[Connection]) -> None:
        self._entra = entra
        self._loop = asyncio.get_running_loop()
        self._open_connections = open_connections
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._secure = False
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._arrival: Arrival | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    # Bytes in, bytes out

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._secure:
                self._tls.do_handshake()
                self._secure = True
            while self._read():
                pass
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # a client that does not trust the authority, or speaks no TLS
            self._flush()
            self.close()
            return
        self._flush()
        self._advance()

    def _read(self) -> bool:
        data = self._tls.read(_READ_SIZE)
        self._http.receive_data(data)
        return bool(data)  # nothing: the client has said that no more will come

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open_connections.discard(self)
        if self._timer:
            self._timer.cancel()
        if self._arrival:
            self._arrival.waiter.leave()
        self._transport = self._arrival = self._timer = None

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport:
            self._transport.write(self._outgoing.read())

    # Requests

    def _advance(self) -> None:
        """Read on until a request is whole, the client has to send more, or an answer is awaited."""
        while self._transport and not self._arrival:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                self.close()
                return
            if isinstance(event, h11.Request):
                self._head = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > _MOST_BODY:
                    self._send(_TOO_LARGE)
                    self.close()
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._arrive()
            elif isinstance(event, h11.ConnectionClosed):
                self.close()
                return
            else:  # NEED_DATA, or PAUSED
                return

    def _arrive(self) -> None:
        assert self._head
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in self._head.headers}
        path, _, query = self._head.target.decode("ascii").partition("?")
        base = f"https://{headers.get('host', 'localhost')}"
        request = HttpRequest(self._head.method.decode("ascii"), base, path, query, headers, bytes(self._body))
        self._arrival = arrival = self._entra.arrive(request)
        if arrival.waiter.ready:
            self._released(arrival)
        else:
            arrival.waiter.when_ready(lambda: self._wake(arrival))

    def _wake(self, arrival: Arrival) -> None:
        """Come back to the loop from whichever thread opened the gate; a loop that has ended has no client left."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._released_late, arrival)

    def _released_late(self, arrival: Arrival) -> None:
        self._released(arrival)
        self._advance()

    def _released(self, arrival: Arrival) -> None:
        """Answer, after the latency; a client that has gone in the meantime is not answered."""
        if self._arrival is not arrival:
            return
        if arrival.latency:
            self._timer = self._loop.call_later(arrival.latency, self._answer_late, arrival)
        else:
            self._answer(arrival)

    def _answer_late(self, arrival: Arrival) -> None:
        self._timer = None
        if self._arrival is arrival:
            self._answer(arrival)
            self._advance()  # the client may have sent its next request already

    def _answer(self, arrival: Arrival) -> None:
        try:
            response = arrival.answer()
        except ConnectionResetError:
            self._reset()
            return
        self._arrival = None
        self._send(response)

    def _send(self, response: HttpResponse) -> None:
        headers = [*response.headers, ("Content-Length", str(len(response.body)))]
        http = self._http
        parts = [http.send(h11.Response(status_code=response.status, headers=headers))]
        parts += [http.send(h11.Data(data=response.body)), http.send(h11.EndOfMessage())]
        self._tls.write(b"".join(part for part in parts if part))
        self._flush()
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        elif http.our_state is h11.MUST_CLOSE:
            self.close()

    def _reset(self) -> None:
        """Abort: closing a socket while it lingers for no time makes TCP send a reset."""
        if self._transport:
            set_linger_to_reset(self._transport)
            self._transport.abort()


def set_linger_to_reset(transport: asyncio.Transport) -> None:
    """Make closing this transport a reset, which the client sees as one, instead of an orderly end."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
