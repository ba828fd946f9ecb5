"""What a store holds: keys, token records and sessions, to bytes and back.

A token record is one request's token and dies with it. A session is a client's own bytes under a random identifier;
the key of a user's token record contains it, so deleting the session orphans its tokens.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Final, NamedTuple, cast

from ._token import Account, Token, TokenRequest

PREFIX: Final = "aiomsal/v1"
_TOKEN_FORMAT: Final = 1
_DATES: Final = ("expires_at", "refresh_at", "obtained_at")
_SESSION_FORMAT: Final = b"aiomsal-session/1 "


class Session(NamedTuple):
    """A session as stored."""

    id: str
    """Random, made with the session: it changes when a session is deleted and made anew."""
    data: bytes
    """The client's own."""

    def __repr__(self) -> str:
        return f"<Session of {len(self.data)} bytes>"


def new_session(data: bytes) -> Session:
    """A session that did not exist before."""
    return Session(os.urandom(16).hex(), data)


def session_record_key(session_key: str) -> str:
    """Where a session is kept."""
    return f"{PREFIX}/session/{_digest(session_key)}"


def token_record_key(request: TokenRequest, session: Session | None) -> str:
    """Where a request's token is kept; the same in every process that shares the store."""
    parts = json.dumps([request._replace(generation=0), session.id if session else None], separators=(",", ":"))
    return f"{PREFIX}/token/{_digest(parts)}"


def flow_record_key(state: str) -> str:
    """Where it is noted that the web sign-in with this state has been completed."""
    return f"{PREFIX}/flow/{_digest(state)}"


def dump_session(session: Session) -> bytes:
    """The record of a session."""
    return _SESSION_FORMAT + session.id.encode() + b"\n" + session.data


def load_session(record: bytes) -> Session:
    """The session in a record; ValueError if it is none of this version's."""
    head, separator, data = record.partition(b"\n")
    if not separator or not head.startswith(_SESSION_FORMAT):
        raise ValueError("not a session record of this version")
    return Session(head.removeprefix(_SESSION_FORMAT).decode("ascii"), data)


def dump_token(token: Token) -> bytes:
    """The record of a token: JSON with a format version."""
    fields = {field.name: getattr(token, field.name) for field in dataclasses.fields(token)}
    return json.dumps({"v": _TOKEN_FORMAT, **fields}, separators=(",", ":")).encode()


def load_token(record: bytes) -> Token:
    """The token in a record; ValueError if it is none of this version's."""
    try:
        fields = json.loads(record)
        if fields.pop("v") != _TOKEN_FORMAT:
            raise ValueError("not a token record of this version")
        fields["scopes"] = tuple(_strings(fields["scopes"]))
        if fields["account"] is not None:
            fields["account"] = Account(*_strings(fields["account"]))
        for name in _DATES:
            if not isinstance(fields[name], (int, float)):
                raise TypeError("a date of the wrong type")
            fields[name] = float(fields[name])
        _strings([value for name, value in fields.items() if name not in {*_DATES, "scopes", "account"}])
        return Token(**fields)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("not a token record") from error


def _strings(values: object) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in cast("list[object]", values)):
        raise TypeError("fields of the wrong type")
    return cast("list[str]", values)


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
