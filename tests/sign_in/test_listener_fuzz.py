"""Whatever bytes come, and however they are split: no exception, no forgery, an end within the limits.

And the answer is always taken.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomsal.sign_in._conversation import MOST_BYTES, Conversation, Expected
from tests.sign_in.support import FORM, STATE, Response, request

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT = 49152
# Each of four tests: with CI set, more than ten thousand inputs in all.
MANY = settings(max_examples=3000 if os.environ.get("CI") else 150, derandomize=True)

ANSWER = request(PORT)
STATES = st.one_of(
    st.just(STATE), st.just(STATE), st.text(max_size=40), st.sampled_from([STATE[:-1], STATE + "\x00", ""])
)
NAMES = st.one_of(st.sampled_from(["state", "code", "error", "State", "state[]", " state"]), st.text(max_size=8))
FIELDS = st.lists(st.tuples(NAMES, st.one_of(STATES, st.text(max_size=20))), max_size=8)
CUTS = st.lists(st.integers(0, 2000), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


def converse(parts: list[bytes], *, eof: bool = True) -> Mapping[str, str] | bytes | None:
    """What comes of it: the end of the conversation, checked to be one."""
    conversation = Conversation(Expected(PORT, STATE))
    for part in [*parts, b""] if eof else parts:
        outcome = conversation.receive(part)
        if isinstance(outcome, bytes):
            if outcome:
                response = Response(outcome)
                assert response.status >= 400
                response.check(head_only=not response.body)
                assert STATE not in outcome.decode()
            return outcome
        if outcome is not None:
            return outcome
    assert not eof, "no more can come, and it waits for more"
    assert sum(map(len, parts)) <= MOST_BYTES
    return None


def check_no_forgery(outcome: Mapping[str, str] | bytes | None, data: bytes) -> None:
    if outcome is None or isinstance(outcome, bytes):
        return
    assert outcome["state"] == STATE
    assert bool(outcome.get("code")) != bool(outcome.get("error"))
    assert data.startswith(b"POST / HTTP/1."), "only what is posted here is an answer"
    # read by somebody else, and more literally: the state is in the body as it is, or escaped
    server = h11.Connection(h11.SERVER, 1 << 20)
    server.receive_data(data)
    body = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Request | h11.Data)
        if isinstance(event, h11.Request):
            hosts = [value.lower() for name, value in event.headers if name == b"host"]
            assert hosts in ([b"localhost:%d" % PORT], [b"127.0.0.1:%d" % PORT])
        else:
            body += event.data
    fields = parse_qsl(body.decode("ascii"), keep_blank_values=True)
    assert [value for name, value in fields if name == "state"] == [STATE]
    assert len(fields) == len(outcome)


@MANY
@given(st.binary(max_size=600), CUTS, st.booleans())
@example(bytes(MOST_BYTES + 1), [], False)
def test_any_bytes(data: bytes, cuts: list[int], eof: bool) -> None:
    check_no_forgery(converse(pieces(data, cuts), eof=eof), data)


TOKENS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b"\xff", b":", b"&", b"=", b"%", b";", b"0", b"-1", b"+"),
        *(b"\r\n\r\n", b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Host: localhost\r\n"),
        *(
            b"Connection: keep-alive\r\n",
            b"Expect: 100-continue\r\n",
            b"Upgrade: h2c\r\n",
            b"GET",
            b"HEAD",
            b"HTTP/1.0",
        ),
        *(f"state={STATE}".encode(), b"&state=x", b"%00", b"%ED%A0%80", b"&code=", b"&error=x", ANSWER),
    ]
)
PLACE = st.integers(0, len(ANSWER))
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("delete"), PLACE, st.integers(1, 40)),
        st.tuples(st.just("insert"), PLACE, st.one_of(TOKENS, st.binary(min_size=1, max_size=4))),
        st.tuples(st.just("replace"), PLACE, st.one_of(TOKENS, st.binary(min_size=1, max_size=4))),
        st.tuples(st.just("repeat"), PLACE, st.integers(1, 40)),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[tuple[str, int, int | bytes]]) -> bytes:
    for kind, place, what in changes:
        before, after = data[:place], data[place:]
        if isinstance(what, int):
            data = before + (after[what:] if kind == "delete" else after[:what] + after)
        else:
            data = before + what + (after if kind == "insert" else after[len(what) :])
    return data


@MANY
@given(CHANGES, CUTS, st.booleans())
def test_an_answer_that_was_tampered_with(
    changes: list[tuple[str, int, int | bytes]], cuts: list[int], eof: bool
) -> None:
    data = changed(ANSWER, changes)
    whole = converse([data], eof=eof)
    check_no_forgery(whole, data)
    assert converse(pieces(data, cuts), eof=eof) == whole, "how it is split makes no difference"


@MANY
@given(
    FIELDS, st.sampled_from([urlencode, lambda fields: "&".join("=".join(map(quote, each)) for each in fields)]), CUTS
)
def test_any_form(fields: list[tuple[str, str]], encode: object, cuts: list[int]) -> None:
    assert callable(encode)
    data = request(PORT, encode(fields))
    outcome = converse(pieces(data, cuts))
    names = [name for name, _ in fields]
    form = dict(fields)
    is_answer = (
        form.get("state") == STATE
        and len(set(names)) == len(names)
        and bool(form.get("code")) != bool(form.get("error"))
    )
    assert outcome == form if is_answer else isinstance(outcome, bytes)


VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@MANY
@given(st.sampled_from(["code", "error"]), VALUES, st.dictionaries(st.sampled_from("abc"), VALUES), CUTS, st.booleans())
@example("code", "x" * 60000, {}, [], False)
def test_the_answer_is_taken_however_it_is_split(
    kind: str, value: str, more: dict[str, str], cuts: list[int], eof: bool
) -> None:
    form = {kind: value, "state": STATE, **more}
    data = request(PORT, form)
    assert converse(pieces(data, cuts), eof=eof) == form
    escaped = "&".join(f"{name}={quote_plus(text, safe='')}" for name, text in form.items())
    assert converse(pieces(request(PORT, escaped), cuts), eof=eof) == form


def test_the_answer_is_taken_byte_by_byte_and_cut_in_two_anywhere() -> None:
    assert converse([bytes([byte]) for byte in ANSWER], eof=False) == FORM
    for place in range(len(ANSWER)):
        assert converse([ANSWER[:place], ANSWER[place:]] if place else [ANSWER], eof=False) == FORM
        half = converse([ANSWER[:place]] if place else [])
        assert isinstance(half, bytes), "half of it is no answer"
