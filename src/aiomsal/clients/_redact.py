"""Keeping secrets out of what is shown: exception texts, causes, logs."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN: Final = "[hidden]"

SECRET_FIELDS: Final = (
    "client_secret",
    "client_assertion",
    "refresh_token",
    "device_code",
    "code",
    "code_verifier",
    "assertion",
    "password",
)
"""The fields of a token request whose value an error description must not echo."""

_SECRETS: Final = re.compile(
    r"eyJ[\w-]{5,}(?:\.[\w-]*)+"  # a JSON web token, or the beginning of one
    r"|[\w.~+/=-]{100,}"  # refresh tokens and codes of the platform: opaque, and longer than anything one would say
    r"|(?<=//)[^/\s@]+(?=@)"  # user and password in a URL
)
_LONGEST: Final = 2000


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """One line of bounded length without these secrets, nor anything that looks like one."""
    for secret in sorted(map(str, secrets), key=len, reverse=True):
        if len(secret) >= 4:  # shorter ones are no secrets, and would tear the sentence to pieces
            text = text.replace(secret, HIDDEN)
    return " ".join(_SECRETS.sub(HIDDEN, text).split())[:_LONGEST]


class ForeignError(Exception):
    """What another library raised, in words: type, message, and where, but none of the objects it held.

    requests' exceptions hold the request and its body, json's hold the document, and every frame of a traceback the
    local variables, tokens among them, which error reporters print.
    """


def in_words(error: BaseException, *, where: bool = True) -> ForeignError:
    """What happened, as a cause that can be chained and holds nothing; `where` adds the lines of code it came from."""
    kind = type(error)
    foreign = ForeignError(f"{kind.__module__}.{kind.__qualname__}: {scrubbed(str(error), ())}")
    if where:
        foreign.add_note("".join(traceback.format_tb(error.__traceback__)).rstrip())
    return foreign
