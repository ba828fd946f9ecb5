"""Who must be asked before more is issued: MFA, consent, Conditional Access."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import EntraError, RefusedError

if TYPE_CHECKING:
    from .directory import User
    from .scopes import Scopes


@dataclass(frozen=True)
class _Requirement:
    order: int
    user: str
    scope: str
    error: EntraError


class Interactions:
    """What is required of whom. A sign-in that came after the requirement satisfies it. One lock guards the list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requirements: list[_Requirement] = []

    def require(self, order: int, user: User | None, scope: str, error: EntraError) -> None:
        with self._lock:
            self._requirements.append(_Requirement(order, user.object_id if user else "", scope, error))

    def check(self, user: User, scopes: Scopes, signed_in: int) -> None:
        """Refuse if something is required of this user, for these scopes, since the sign-in."""
        for requirement in list(self._requirements):
            if (
                requirement.order > signed_in
                and requirement.user in ("", user.object_id)
                and (not requirement.scope or scopes.contains(requirement.scope))
            ):
                raise RefusedError(requirement.error.code, error=requirement.error)
