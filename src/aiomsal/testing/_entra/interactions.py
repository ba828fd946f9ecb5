"""Who must be asked before more is issued: MFA, consent, Conditional Access."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from .errors import EntraError, RefusedError

if TYPE_CHECKING:
    from .directory import User
    from .http import JsonObject
    from .scopes import Scopes
    from .signins import SignIn

CONSENT = 65001


@dataclass(eq=False)
class _Requirement:
    """Mutable: who has consented, where it is consent that is required."""

    order: int
    user: str
    scope: str
    claims: JsonObject
    """Concerns only requests that carry these."""
    error: EntraError
    brought: JsonObject
    """Satisfied only by a sign-in that brought these."""
    consented: set[str] = field(default_factory=set[str])

    def concerns(self, user: User, scopes: Scopes, claims: JsonObject) -> bool:
        return (
            self.user in ("", user.object_id)
            and (not self.scope or scopes.contains(self.scope))
            and _contains(claims, self.claims)
        )

    def satisfied_by(self, sign_in: SignIn) -> bool:
        if self.error.code == CONSENT:
            return sign_in.user.object_id in self.consented
        return self.order <= sign_in.order and _contains(sign_in.claims, self.brought)


class Interactions:
    """What is required of whom. One lock guards the list and what is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requirements: list[_Requirement] = []

    def require(
        self, order: int, user: User | None, scope: str, claims: JsonObject, error: EntraError, brought: JsonObject
    ) -> None:
        """Require a sign-in that comes after `order` and brought what it must; or consent, if the error is that."""
        requirement = _Requirement(order, user.object_id if user else "", scope, claims, error, brought)
        with self._lock:
            self._requirements.append(requirement)

    def outstanding(self, sign_in: SignIn, scopes: Scopes, claims: JsonObject) -> list[EntraError]:
        """Return what a request on the strength of this sign-in lacks, in the order in which it was required."""
        with self._lock:
            return [
                requirement.error
                for requirement in self._requirements
                if requirement.concerns(sign_in.user, scopes, claims) and not requirement.satisfied_by(sign_in)
            ]

    def check(self, sign_in: SignIn, scopes: Scopes, claims: JsonObject) -> None:
        """Refuse a request on the strength of this sign-in if something is outstanding."""
        for error in self.outstanding(sign_in, scopes, claims):
            raise RefusedError(error.code, error=error)

    def consent(self, user: User, scopes: Scopes) -> None:
        """Note that a user consents to these scopes."""
        with self._lock:
            for requirement in self._requirements:
                if requirement.error.code == CONSENT and requirement.concerns(user, scopes, requirement.claims):
                    requirement.consented.add(user.object_id)


def _contains(whole: object, part: object) -> bool:
    """Say whether `part` is in `whole`, as JSON: each member of an object, anything else as it is."""
    if not isinstance(part, dict):
        return whole == part
    if not isinstance(whole, dict):
        return False
    there = cast("JsonObject", whole)
    return all(name in there and _contains(there[name], value) for name, value in cast("JsonObject", part).items())
