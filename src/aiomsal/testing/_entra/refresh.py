"""Refresh tokens: issued, redeemed, rotated, revoked."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import RefusedError

if TYPE_CHECKING:
    from .directory import User
    from .signins import SignIn


@dataclass(eq=False)
class Family:
    """All refresh tokens that descend from one sign-in. Mutable: revoked, once."""

    sign_in: SignIn
    client_id: str
    revoked: bool = False

    @property
    def user(self) -> User:
        """Return whose they are."""
        return self.sign_in.user


@dataclass(eq=False)
class RefreshToken:
    """What a refresh token stands for. Mutable: used, once, where rotation is strict."""

    family: Family
    scope: str
    expires_at: float
    used: bool = False


class RefreshTokens:
    """Those issued, by their text. One lock guards the dictionary and what is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, RefreshToken] = {}

    def issue(self, family: Family, scope: str, expires_at: float) -> str:
        """Return a new refresh token of a family."""
        text = f"1.{secrets.token_urlsafe(48)}"
        with self._lock:
            self._tokens[text] = RefreshToken(family, scope, expires_at)
        return text

    def find(self, text: str, client_id: str, now: float) -> RefreshToken:
        """Return what `text` stands for, or refuse it. One that comes again after its only use revokes its family."""
        with self._lock:
            token = self._tokens.get(text)
            if token is None or token.family.client_id != client_id:
                raise RefusedError(70000)
            _refuse_used(token)
            if token.family.revoked:
                raise RefusedError(50173)
            if now >= token.expires_at:
                raise RefusedError(700082)
            return token

    def use_up(self, token: RefreshToken) -> None:
        """Let a refresh token never work again; of two who come at once, the second has come again."""
        with self._lock:
            _refuse_used(token)
            token.used = True

    def revoke(self, user: User) -> int:
        """Revoke every family of a user and return how many refresh tokens that ends."""
        with self._lock:
            ended = [
                token
                for token in self._tokens.values()
                if token.family.user.object_id == user.object_id and not token.family.revoked and not token.used
            ]
            for token in ended:
                token.family.revoked = True
            return len(ended)


def _refuse_used(token: RefreshToken) -> None:
    if token.used:
        token.family.revoked = True
        raise RefusedError(70000, "The refresh token was used before; all that descend from its sign-in are revoked.")
