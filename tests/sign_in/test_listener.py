"""The loopback listener, by raw sockets: whatever else comes does no harm, and the wait goes on."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute

from aiomsal import SignInError
from aiomsal.sign_in import _reception
from aiomsal.sign_in._conversation import MOST_BYTES, MOST_HEAD, Conversation, Expected
from aiomsal.sign_in._reception import MOST_CONNECTIONS
from tests.core.support import settle
from tests.sign_in.support import (
    DONE,
    FORM,
    PATIENCE,
    STATE,
    Response,
    Sitting,
    connect,
    exchange,
    heard,
    nobody_listens,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio

FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"
TLS_HELLO = bytes.fromhex("160301020001 0001fc0303".replace(" ", "")) + bytes(range(256)) * 2


def with_form(**changes: str | None) -> Callable[[int], bytes]:
    form = {name: value for name, value in {**FORM, **changes}.items() if value is not None}
    return lambda port: request(port, form)


def raw_form(form: str | bytes) -> Callable[[int], bytes]:
    return lambda port: request(port, form)


def sent(**changes: Any) -> Callable[[int], bytes]:
    return lambda port: request(port, **changes)


NOT_THE_ANSWER: dict[str, tuple[Callable[[int], bytes], int]] = {
    # where and how
    "a page that is asked for": (sent(form="", line="GET / HTTP/1.1"), 405),
    "a favicon": (sent(form="", line="GET /favicon.ico HTTP/1.1"), 404),
    "OPTIONS": (sent(form="", line="OPTIONS / HTTP/1.1", headers=("Origin: https://evil.example",)), 405),
    "OPTIONS *": (sent(form="", line="OPTIONS * HTTP/1.1"), 404),
    "the answer by PUT": (sent(line="PUT / HTTP/1.1"), 405),
    "the answer in lower case": (sent(line="post / HTTP/1.1"), 405),
    "the answer in the URL": (sent(form="", line=f"GET /?code=c&state={STATE} HTTP/1.1"), 404),
    "the answer in the URL, posted": (sent(form="", line=f"POST /?code=c&state={STATE} HTTP/1.1"), 404),
    "another path": (sent(line="POST /callback HTTP/1.1"), 404),
    "two slashes": (sent(line="POST // HTTP/1.1"), 404),
    "a proxy's form of the URL": (sent(line="POST http://localhost/ HTTP/1.1"), 404),
    "CONNECT": (sent(form="", line="CONNECT localhost:443 HTTP/1.1"), 404),
    "an upgrade": (sent(form="", line="GET / HTTP/1.1", headers=("Connection: upgrade", "Upgrade: websocket")), 405),
    "an answer that asks first": (sent(headers=(FORM_TYPE, "Expect: 100-continue")), 417),
    # to whom
    "another host": (sent(host="evil.example"), 421),
    "another host with a prefix of ours": (sent(host="localhost.evil.example"), 421),
    "another port": (sent(host="localhost:1"), 421),
    "no port": (lambda port: request(port, host=f"x:{port}").replace(f"x:{port}".encode(), b"localhost"), 421),
    "the other loopback": (sent(host="[::1]"), 421),
    "no host": (sent(host=None), 400),
    "no host, before hosts were": (sent(host=None, line="POST / HTTP/1.0"), 421),
    "two hosts": (sent(headers=(FORM_TYPE, "Host: localhost:1")), 400),
    # in what form
    "JSON": (sent(headers=("Content-Type: application/json",)), 415),
    "what a script may post anywhere": (sent(headers=("Content-Type: text/plain",)), 415),
    "several parts": (sent(headers=("Content-Type: multipart/form-data; boundary=x",)), 415),
    "no type": (sent(headers=()), 415),
    # with what in it
    "nothing": (raw_form(""), 400),
    "another state": (with_form(state="b3VycyBpcyBhbm90aGVy"), 400),
    "no state": (with_form(state=None), 400),
    "an empty state": (with_form(state=""), 400),
    "the beginning of the state": (with_form(state=STATE[:-1]), 400),
    "more than the state": (with_form(state=STATE + "A"), 400),
    "the state in other cases": (with_form(state=STATE.swapcase()), 400),
    "the state and a blank": (with_form(state=STATE + " "), 400),
    "a state that is not ASCII": (with_form(state="é" * len(STATE)), 400),
    "a state with a surrogate": (raw_form(f"code=c&state={STATE}%ED%A0%80"), 400),
    "a state that is not UTF-8": (raw_form("code=c&state=%FF"), 400),
    "a field that is not UTF-8": (raw_form(f"code=c%FF&state={STATE}"), 400),
    "bytes that no browser sends": (raw_form(f"code=c\xe9&state={STATE}".encode("latin-1")), 400),
    "the state twice": (raw_form(f"code=c&state={STATE}&state={STATE}"), 400),
    "the state and another": (raw_form(f"code=c&state=x&state={STATE}"), 400),
    "the state and an empty one": (raw_form(f"code=c&state={STATE}&state="), 400),
    "two codes": (raw_form(f"code=c&code=d&state={STATE}"), 400),
    "any field twice": (raw_form(f"code=c&state={STATE}&iss=a&iss=b"), 400),
    "neither code nor error": (with_form(code=None), 400),
    "an empty code": (with_form(code=""), 400),
    "both code and error": (with_form(error="access_denied"), 400),
    "a hundred fields": (raw_form("&".join([f"code=c&state={STATE}", *(f"f{n}=" for n in range(100))])), 400),
    # how much, and what kind of HTTP
    "a body that is too long": (lambda port: request(port, form=b"", length=MOST_BYTES + 1), 413),
    "a body longer than any": (lambda port: request(port, form=b"", length=10**19), 413),
    "a length of too many digits": (lambda port: request(port, form=b"", length=10**30), 400),
    "a negative length": (lambda port: request(port, form=b"", length=-1), 400),
    "two lengths": (sent(headers=(FORM_TYPE, "Content-Length: 3")), 400),
    "chunks without end": (
        sent(form=(b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 5, headers=(FORM_TYPE, "Transfer-Encoding: chunked")),
        413,
    ),
    "no chunks": (sent(form=b"zz\r\n", headers=(FORM_TYPE, "Transfer-Encoding: chunked")), 400),
    "compressed": (sent(headers=(FORM_TYPE, "Transfer-Encoding: gzip")), 501),
    "a head that is too long": (sent(headers=(FORM_TYPE, "Cookie: " + "x" * MOST_HEAD)), 431),
    "a line that is too long": (lambda port: b"POST /" + b"x" * (MOST_HEAD + 100), 431),
    "HTTP/2": (lambda port: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421),
    "HTTP/0.9": (lambda port: b"GET /\r\n\r\n", 400),
    "TLS": (lambda port: TLS_HELLO, 400),
    "zeros": (lambda port: bytes(1000), 400),
    "empty lines": (lambda port: b"\r\n\r\n\r\n", 400),
    "a header's continuation": (sent(headers=(FORM_TYPE, "X: a", "\tb\x00")), 400),
    "a header without a name": (sent(headers=(FORM_TYPE, ": x")), 400),
}


@pytest.mark.parametrize("case", NOT_THE_ANSWER)
async def test_what_is_not_the_answer_is_refused_and_the_wait_goes_on(case: str) -> None:
    made, status = NOT_THE_ANSWER[case]
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        response = Response(await exchange(sitting.port, made(sitting.port)))
        response.check()
        assert response.status == status
        assert ("allow" in response.headers) == (status == 405)
        assert not any(value in response.body for value in (STATE, "evil", "c0de")), "it says nothing back"
        assert sitting.authority.redeemed == []
        assert sitting.outcome == "waiting"
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert sitting.value is DONE
    assert sitting.authority.redeemed == [FORM]


async def test_a_head_request_is_answered_without_a_page() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        response = Response(await exchange(sitting.port, request(sitting.port, "", line="HEAD / HTTP/1.1")))
        response.check(head_only=True)
        assert response.status == 405
        assert int(response.headers["content-length"]) > 0
        sitting.leave()


CHUNKED = b"5\r\ncode=\r\n4;x=y\r\nc0de\r\n%x\r\n&session_state=s&state=%b\r\n0\r\nX: y\r\n\r\n"

THE_ANSWER: dict[str, Callable[[int], bytes]] = {
    "as browsers send it": sent(
        headers=(FORM_TYPE, "Origin: https://login.microsoftonline.com", "Upgrade-Insecure-Requests: 1", "Cookie: a=b")
    ),
    "from a page that hides itself": sent(headers=(FORM_TYPE, "Origin: null")),
    "to the address": sent(host="127.0.0.1"),
    "to the name in capitals": sent(host="LOCALHOST"),
    "with a character set": sent(headers=("content-type: Application/X-WWW-Form-URLencoded; charset=UTF-8",)),
    "in chunks": sent(
        form=CHUNKED % (len(f"&session_state=s&state={STATE}"), STATE.encode()),
        headers=(FORM_TYPE, "Transfer-Encoding: chunked"),
    ),
    "by HTTP/1.0": sent(line="POST / HTTP/1.0"),
    "with the cookies of many others": sent(headers=(FORM_TYPE, "Cookie: " + "x" * (MOST_HEAD - 500))),
    "with more after it": lambda port: request(port) + request(port) + b"\x00garbage",
}


@pytest.mark.parametrize("case", THE_ANSWER)
async def test_the_answer_is_taken(case: str) -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        await exchange(sitting.port, THE_ANSWER[case](sitting.port))
        await sitting.over()
    assert sitting.value is DONE
    assert sitting.authority.redeemed == [FORM]


def test_where_no_state_is_expected_none_is_enough() -> None:
    for data in (request(1, {"code": "c", "state": ""}), request(1, {"code": "c"})):
        assert isinstance(Conversation(Expected(1, "")).receive(data), bytes)


def test_on_the_port_of_http_browsers_leave_the_port_out() -> None:
    data = request(80).replace(b"localhost:80", b"localhost")
    assert b"Host: localhost\r\n" in data
    assert Conversation(Expected(80, STATE)).receive(data) == FORM


async def test_an_error_is_an_answer_too() -> None:
    form = {"error": "access_denied", "error_description": "AADSTS65004: <b>no</b> é", "state": STATE}
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.error = refusal = SignInError("the person declined: <script>alert('1')</script> & more")
        await sitting.opened()
        response = Response(await exchange(sitting.port, request(sitting.port, form)))
        await sitting.over()
    assert sitting.error is refusal
    assert sitting.authority.redeemed == [form]
    response.check()
    assert response.status == 400
    assert "The sign-in did not succeed" in response.body
    assert "the person declined: &lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; more" in response.body


# -- one after another, and at once ----------------------------------------------------------------------------------


async def test_only_one_request_is_heard_on_a_connection() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        wrong = request(sitting.port, {**FORM, "state": "another"})
        data = await exchange(sitting.port, wrong + request(sitting.port), request(sitting.port))
        assert data.count(b"HTTP/1.1 ") == 1
        assert Response(data).status == 400
        assert sitting.authority.redeemed == []
        sitting.leave()


async def test_the_second_answer_is_refused_while_the_first_is_redeemed() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.park()
        await sitting.opened()
        async with await connect(sitting.port) as first:
            await first.send(request(sitting.port))
            await sitting.authority.redeeming.wait()
            second = Response(await exchange(sitting.port, request(sitting.port, {**FORM, "code": "another"})))
            second.check()
            assert second.status == 409
            sitting.authority.release.set()
            assert Response(await heard(first)).status == 200
        await sitting.over()
    assert sitting.authority.redeemed == [FORM]


async def test_the_page_comes_after_the_token_and_tells_the_truth() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.park()
        await sitting.opened()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port))
            await sitting.authority.redeeming.wait()
            await settle()
            with anyio.move_on_after(0), pytest.raises(anyio.WouldBlock):
                await stream.receive()
                raise AssertionError("a page before anybody knows how it went")
            sitting.authority.release.set()
            response = Response(await heard(stream))
        await sitting.over()
    response.check()
    assert response.status == 200
    assert "You are signed in" in response.body


async def test_a_browser_that_does_not_read_holds_up_nobody() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port))
            await sitting.over()
            assert sitting.value is DONE
            assert Response(await heard(stream)).status == 200, "it was sent all the same"


async def test_a_browser_that_takes_nothing_more_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the system's buffer were full: the page is given up, and the token comes."""
    real = _reception.Conversation.reply
    monkeypatch.setattr(_reception.Conversation, "reply", lambda *args: real(*args) + bytes(64 * 1024 * 1024))
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port))
            await sitting.over()
            assert sitting.value is DONE


@pytest.mark.parametrize("reset", [False, True])
async def test_a_browser_that_has_gone_leaves_the_token(reset: bool) -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.park()
        await sitting.opened()
        stream = await connect(sitting.port)
        await stream.send(request(sitting.port))
        await sitting.authority.redeeming.wait()
        if reset:
            linger_to_reset(stream)
        await stream.aclose()
        await settle()
        sitting.authority.release.set()
        await sitting.over()
    assert sitting.value is DONE


def linger_to_reset(stream: SocketStream) -> None:
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# -- slow, silent, broken and many -----------------------------------------------------------------------------------


async def test_an_answer_that_comes_byte_by_byte_is_taken() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        data = request(sitting.port)
        async with await connect(sitting.port) as stream:
            for place in range(len(data)):
                await stream.send(data[place : place + 1])
            assert Response(await heard(stream)).status == 200
        await sitting.over()
    assert sitting.authority.redeemed == [FORM]


async def test_an_answer_stays_an_answer_when_nobody_was_expected_any_more() -> None:
    with _reception.listen(0) as listener, _reception.Reception(listener, STATE) as reception:
        port = _reception.port_of(listener)
        async with anyio.create_task_group() as group:
            group.start_soon(reception.serve)
            async with await connect(port) as stream:
                await stream.send(request(port))
                answer = await reception.answer(PATIENCE)
                reception.give_up(OSError("open has failed"))
                assert await reception.answer(PATIENCE) is answer
                assert answer is not None
                assert answer.params == FORM
                assert repr(answer) == "<Answer>"
                group.cancel_scope.cancel()


async def test_the_other_direction_may_be_closed_behind_the_answer() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        assert Response(await exchange(sitting.port, request(sitting.port), eof=True)).status == 200
        await sitting.over()
    assert sitting.value is DONE


@pytest.mark.parametrize("part", [1, 20, -1], ids=["a byte", "a line", "all but a byte"])
async def test_half_a_request_is_told_so(part: int) -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        response = Response(await exchange(sitting.port, request(sitting.port)[:part], eof=True))
        response.check()
        assert response.status == 400
        assert sitting.outcome == "waiting"
        sitting.leave()


async def test_who_connects_and_says_nothing_is_told_nothing() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        assert await exchange(sitting.port, eof=True) == b""
        assert sitting.outcome == "waiting"
        sitting.leave()


@pytest.mark.parametrize("part", [0, 20], ids=["silent", "half"])
async def test_a_connection_has_its_time_and_no_more(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reception, "CONNECTION_TAKES", 0.02)
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as stream:
            if part:
                await stream.send(request(sitting.port)[:part])
            assert await heard(stream) == b""
        assert sitting.outcome == "waiting"
        sitting.leave()


async def test_the_answer_s_connection_makes_room_for_nobody() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.park()
        await sitting.opened()
        async with await connect(sitting.port) as answer:
            await answer.send(request(sitting.port))
            await sitting.authority.redeeming.wait()
            silent = [await connect(sitting.port) for _ in range(MOST_CONNECTIONS + 1)]
            assert await heard(silent[0]) == b""
            sitting.authority.release.set()
            assert Response(await heard(answer)).status == 200
            for stream in silent:
                await stream.aclose()
        await sitting.over()


async def test_many_that_say_nothing_starve_nobody() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        silent = [await connect(sitting.port) for _ in range(MOST_CONNECTIONS + 10)]
        for stream in silent[:10]:
            assert await heard(stream) == b"", "the first make room for the last"
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
        for stream in silent:
            assert await heard(stream) == b""
            await stream.aclose()


async def test_who_has_just_spoken_is_not_the_one_that_makes_room() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        data = request(sitting.port)
        speaker = await connect(sitting.port)
        before = [await connect(sitting.port) for _ in range(MOST_CONNECTIONS - 1)]
        await exchange_nothing(sitting.port, before)
        await speaker.send(data[:30])
        await settle()
        after = [await connect(sitting.port) for _ in range(MOST_CONNECTIONS - 1)]
        for stream in before[1:]:
            assert await heard(stream) == b""
        await speaker.send(data[30:])
        assert Response(await heard(speaker)).status == 200
        await sitting.over()
        for stream in (speaker, *before, *after):
            await stream.aclose()


async def test_who_has_gone_takes_nobody_s_room() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        data = request(sitting.port)
        async with await connect(sitting.port) as slow:
            await slow.send(data[:30])
            await settle()
            for _ in range(MOST_CONNECTIONS + 1):
                assert await exchange(sitting.port, eof=True) == b""
            await slow.send(data[30:])
            assert Response(await heard(slow)).status == 200
        await sitting.over()


async def exchange_nothing(port: int, streams: list[SocketStream]) -> None:
    """Return when all of these have been accepted: the first of them goes, and is answered."""
    await streams[0].send_eof()
    assert await heard(streams[0]) == b""


async def test_a_crowd_of_broken_connections_does_no_harm() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()

        async def break_off(number: int) -> None:
            stream = await connect(sitting.port)
            await stream.send(request(sitting.port)[: number * 2])
            linger_to_reset(stream)
            await stream.aclose()

        async with anyio.create_task_group() as crowd:
            for number in range(60):
                crowd.start_soon(break_off, number)
        assert sitting.outcome == "waiting"
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert sitting.authority.redeemed == [FORM]


async def test_a_machine_out_of_files_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accept` fails while the process has too many files open; the browser's connection waits in the backlog."""
    real = socket.socket.accept
    failing = [OSError(24, "Too many open files"), OSError(23, "Too many open files in system")]

    def accept(listener: socket.socket) -> Any:
        if failing:
            raise failing.pop()
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert failing == []


async def test_who_leaves_before_being_accepted_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reception, "_PAUSE", 3600.0)
    real = socket.socket.accept
    failing = [ConnectionAbortedError(), BlockingIOError()]

    def accept(listener: socket.socket) -> Any:
        if failing:
            raise failing.pop()
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert failing == []


async def test_something_to_read_that_is_not_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may say that there is something, and think better of it (select(2), BUGS)."""
    failing = [BlockingIOError(), BlockingIOError()]
    real = socket.socket.recv

    def recv(connection: socket.socket, *args: Any) -> bytes:
        if failing and connection.getsockname()[1] == sitting.port:
            raise failing.pop()
        return real(connection, *args)

    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        monkeypatch.setattr(socket.socket, "recv", recv)
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert failing == []


async def test_who_is_refused_may_finish_and_is_not_reset() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        data = request(sitting.port, b"x" * (MOST_BYTES - 1000), line="POST /elsewhere HTTP/1.1")
        async with await connect(sitting.port) as stream:
            await stream.send(data)
            await stream.send_eof()
            response = b""
            with anyio.fail_after(PATIENCE), pytest.raises(anyio.EndOfStream):
                while True:
                    response += await stream.receive()
        assert Response(response).status == 404
        sitting.leave()


async def test_who_is_refused_and_does_not_finish_is_cut_off() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port, line="POST /elsewhere HTTP/1.1"))
            with anyio.fail_after(PATIENCE), pytest.raises(anyio.BrokenResourceError):
                while True:
                    await stream.send(bytes(MOST_BYTES))
        sitting.leave()


# -- the port --------------------------------------------------------------------------------------------------------


async def test_the_port_is_free_and_everybody_gone_when_it_is_over() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as silent:
            await exchange(sitting.port, request(sitting.port))
            await sitting.over()
            assert await nobody_listens(sitting.port)
            assert await heard(silent) == b""
    assert sitting.value is DONE


async def test_a_fixed_port_serves_one_sign_in_after_another() -> None:
    async with anyio.create_task_group() as group:
        port = 0
        for _ in range(5):
            sitting = await Sitting(group, port=port).opened()
            assert port in (0, sitting.port)
            port = sitting.port
            await exchange(port, request(port))
            await sitting.over()
            assert sitting.value is DONE


async def test_whoever_leaves_frees_the_port() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        async with await connect(sitting.port) as half:
            await half.send(request(sitting.port)[:30])
            await settle()
            sitting.leave()
            await sitting.over()
            assert sitting.outcome == "left"
            assert await nobody_listens(sitting.port)
            assert await heard(half) == b""
        again = await Sitting(group, port=sitting.port).opened()
        again.leave()


async def test_a_connection_that_comes_as_somebody_leaves_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """One that comes in the turn in which `accept` is cancelled is lost by asyncio, which says so in its log."""
    for turns in range(5):
        async with anyio.create_task_group() as group:
            sitting = await Sitting(group).opened()
            with socket.create_connection(("127.0.0.1", sitting.port)) as late:
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                sitting.leave()
                await sitting.over()
                late.settimeout(PATIENCE)
                with contextlib.suppress(ConnectionResetError):
                    assert await anyio.to_thread.run_sync(late.recv, 1) == b""
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_whoever_leaves_during_the_redemption_tells_the_browser() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.park()
        await sitting.opened()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port))
            await sitting.authority.redeeming.wait()
            sitting.leave()
            await sitting.over()
            assert sitting.outcome == "left"
            assert sitting.authority.cancelled == 1
            assert await nobody_listens(sitting.port)
            response = Response(await heard(stream))
    response.check()
    assert response.status == 400
    assert "abandoned" in response.body


async def test_the_port_is_free_when_nobody_came_in_time() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group, timeout=0.02)
        await sitting.over()
        assert isinstance(sitting.error, SignInError)
        assert sitting.error.code == "timeout"
        assert "0.02 seconds" in str(sitting.error)
        assert await nobody_listens(sitting.port)


async def test_the_port_is_free_when_there_is_no_sign_in_page() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.refuses_to_start = OSError("no metadata")
        await sitting.over()
        assert sitting.error is sitting.authority.refuses_to_start
        assert sitting.urls == []
        assert await nobody_listens(sitting.port)


async def test_a_port_that_somebody_has_is_said_to_be_taken() -> None:
    async with anyio.create_task_group() as group:
        first = await Sitting(group).opened()
        second = Sitting(group, port=first.port)
        await second.over()
        assert isinstance(second.error, SignInError)
        assert second.error.code == "no_port"
        assert f"port {first.port} of 127.0.0.1" in str(second.error)
        assert "leave out port=" in str(second.error)
        assert second.authority.redirect_uris == []
        assert Response(await exchange(first.port, request(first.port))).status == 200
        await first.over()
        assert first.value is DONE


def test_it_listens_on_loopback_only() -> None:
    with _reception.listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_patience_suffices() -> None:
    assert _reception.CONNECTION_TAKES > PATIENCE, "or these tests measure it"
