"""What may come over one connection to the loopback listener: bytes in, bytes out, and no sockets."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl

import h11

from ._pages import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._pages import Shown

MOST_HEAD: Final = 32 * 1024
"""Bytes of a request line and its headers: browsers send the cookies of all that ever ran on this localhost."""
MOST_BYTES: Final = 128 * 1024
"""Bytes of a request altogether. Codes have one or two thousand."""
_MOST_FIELDS: Final = 100
_FORM: Final = b"application/x-www-form-urlencoded"


class Expected(NamedTuple):
    """How the answer that is waited for is known."""

    port: int
    state: str

    def __repr__(self) -> str:
        return f"Expected(port={self.port})"


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(status)
        self.page = refused(status, why)


class Conversation:
    """One connection, on which one request is heard and answered.

    Invariant: only a POST to "/" of this very port, in the form and with the state expected, is taken for an answer;
    whatever else comes is answered here, and never twice. The mutable state is h11's, and what was received so far.
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._received = 0
        self._method = b""
        self._body = bytearray()

    def receive(self, data: bytes) -> Mapping[str, str] | bytes | None:
        """What follows from these bytes (none: the client will send no more). It raises nothing.

        Returns:
            None: more is to come.
            bytes: the response that ends the conversation; empty if there is nothing to say.
            a mapping: the form that is the answer. Say with `reply` how it went.
        """
        self._received += len(data)
        try:
            if self._received > MOST_BYTES:
                raise _Refused(413, "It is too long.")
            self._http.receive_data(data)
            return self._advance()
        except h11.RemoteProtocolError as error:
            return self.reply(refused(error.error_status_hint, "It is not HTTP as browsers speak it."))
        except _Refused as refusal:
            return self.reply(refusal.page)

    def reply(self, page: Shown) -> bytes:
        """The response that ends the conversation."""
        body = page.html()
        headers = [*page.headers, ("Content-Length", str(len(body))), ("Connection", "close")]
        if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "POST"))
        head = h11.Response(status_code=page.status, headers=headers, reason=HTTPStatus(page.status).phrase)
        said = self._http.send(head)
        if self._method != b"HEAD":
            said += self._http.send(h11.Data(data=body))
        return said + self._http.send(h11.EndOfMessage())

    def _advance(self) -> Mapping[str, str] | bytes | None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._method = event.method
                # h11 has a limit for what is incomplete only: what is too long would depend on how it is split.
                if self._received - len(self._http.trailing_data[0]) > MOST_HEAD:
                    raise _Refused(431, "It is too long.")
                self._check(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return self._answer()
            elif isinstance(event, h11.ConnectionClosed):
                return b""
            else:
                return None

    def _check(self, request: h11.Request) -> None:
        """Refuse by its head what cannot be an answer, before its body is read."""
        headers = dict(request.headers)
        port = "" if self._expected.port == 80 else f":{self._expected.port}"  # as browsers write it
        here = {f"{name}{port}".encode() for name in ("localhost", "127.0.0.1")}
        # A name that somebody's DNS lets point here would make that site's scripts ours (DNS rebinding).
        if headers.get(b"host", b"").lower() not in here:
            raise _Refused(421, "It was sent to another host.")
        if request.target != b"/":
            raise _Refused(404, "There is nothing at this address.")
        if request.method != b"POST":
            raise _Refused(405, "This address only takes the answer of a sign-in.")
        if b"expect" in headers:  # no browser asks before it sends
            raise _Refused(417, "Send it without asking first.")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _FORM:
            raise _Refused(415, "It is not a form.")
        if int(headers.get(b"content-length", b"0")) > MOST_BYTES:
            raise _Refused(413, "It is too long.")

    def _answer(self) -> Mapping[str, str]:
        try:
            # Browsers send ASCII, whatever is in the form.
            fields = parse_qsl(
                self._body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
            )
        except ValueError:
            raise _Refused(400, "The form cannot be read.") from None
        answer = dict(fields)
        if len(answer) != len(fields):  # whoever reads it must not see another one of two than we do
            raise _Refused(400, "A field of the form is there twice.")
        state = answer.get("state", "")
        if not state or not hmac.compare_digest(state.encode(), self._expected.state.encode()):
            raise _Refused(400, "It belongs to another sign-in. If you are signing in, do so in the newest window.")
        if bool(answer.get("code")) == bool(answer.get("error")):
            raise _Refused(400, "It holds neither a code nor an error, or both.")
        return answer
