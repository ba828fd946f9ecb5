"""Authorization codes: issued once, redeemed once (RFC 6749, section 4.1; RFC 7636)."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import RefusedError
from .keys import b64url

if TYPE_CHECKING:
    from .signins import SignIn


@dataclass(eq=False)
class AuthorizationCode:
    """What a code stands for. Mutable: redeemed, once."""

    client_id: str
    redirect_uri: str
    scope: str
    challenge: str = field(repr=False)
    nonce: str = field(repr=False)
    max_age: int | None
    sign_in: SignIn
    expires_at: float
    redeemed: bool = False


class AuthorizationCodes:
    """Those issued, by their text. One lock guards the dictionary and what is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, AuthorizationCode] = {}

    def issue(self, code: AuthorizationCode) -> str:
        text = f"1.{secrets.token_urlsafe(48)}"
        with self._lock:
            self._codes[text] = code
        return text

    def redeem(self, text: str, client_id: str, redirect_uri: str, verifier: str, now: float) -> AuthorizationCode:
        """Return what `text` stands for, once; refuse it to all but who asked for it. A refusal does not use it up."""
        with self._lock:
            code = self._codes.get(text)
            if code is None or code.client_id != client_id:
                raise RefusedError(70000)
            if code.redeemed:
                raise RefusedError(54005)
            if now >= code.expires_at:
                raise RefusedError(70008)
            if redirect_uri != code.redirect_uri:
                raise RefusedError(500112)
            # A verifier where there was no challenge: somebody took the challenge away (RFC 9700, section 2.1.1).
            if (s256(verifier) if verifier else "") != code.challenge:
                raise RefusedError(501481)
            code.redeemed = True
            return code


def s256(verifier: str) -> str:
    """Return the challenge that belongs to a verifier (RFC 7636, section 4.2)."""
    return b64url(hashlib.sha256(verifier.encode()).digest())
