"""A person's way through the sign-in pages: who are you, may it have this, thank you."""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import EntraError, RefusedError
from .interactions import CONSENT
from .signins import SignIn
from .steps import AskConsent, AskSignIn, Told

if TYPE_CHECKING:
    from .http import JsonObject
    from .scopes import Scopes
    from .state import Call, State
    from .steps import Step


@dataclass(frozen=True, kw_only=True)
class Purpose(ABC):
    """What a person signs in for."""

    client_id: str
    scopes: Scopes
    claims: JsonObject
    prompt: str = ""
    """OpenID Connect Core, section 3.1.2.1."""
    login_hint: str = ""
    max_age: int | None = None
    """How many seconds ago the sign-in may have been."""
    for_device: bool = False
    """Whether it is about another device: nobody goes straight through."""

    @abstractmethod
    def approve(self, state: State, call: Call, sign_in: SignIn) -> Step:
        """Go on as that user."""

    @abstractmethod
    def decline(self, state: State, call: Call) -> Step:
        """Go on as a user who does not want it."""

    @abstractmethod
    def cancel(self, state: State, call: Call) -> Step:
        """Go on as somebody who did not even sign in."""


@dataclass(eq=False)
class Visit:
    """One way through the pages. Mutable: who has signed in, once somebody has."""

    key: str
    purpose: Purpose
    sign_in: SignIn | None = None


class Visits:
    """Those under way. One lock guards the dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: dict[str, Visit] = {}

    def open(self, purpose: Purpose) -> Visit:
        visit = Visit(secrets.token_urlsafe(24), purpose)
        with self._lock:
            self._visits[visit.key] = visit
        return visit

    def find(self, key: str) -> Visit | None:
        with self._lock:
            return self._visits.get(key)

    def close(self, visit: Visit) -> bool:
        """End a visit and say whether it was still under way: of two clicks on a button, the second finds nothing."""
        with self._lock:
            return self._visits.pop(visit.key, None) is not None


OVER = Told("This sign-in is over", "It was completed or cancelled. Close this window, and start again if you need to.")


def begin(state: State, call: Call, purpose: Purpose) -> Step:
    """Let a person come; who is known to the browser may go straight through."""
    known = state.browsers.signed_in(call.request.headers)
    fitting = [sign_in for sign_in in known if _fits(purpose, sign_in, call.now)]
    if purpose.prompt == "none":
        return _pass_silently(state, call, purpose, fitting)
    visit = state.visits.open(purpose)
    if len(fitting) == 1 and purpose.prompt in ("", "consent") and _suffices(state, purpose, fitting[0]):
        return _go_on(state, call, visit, fitting[0])
    hint = purpose.login_hint or (fitting[0].user.username if len(fitting) == 1 and not purpose.prompt else "")
    choice = known if purpose.prompt == "select_account" or (len(fitting) > 1 and not purpose.prompt) else ()
    return AskSignIn(visit.key, hint, tuple(sign_in.user.username for sign_in in choice))


def enter(state: State, call: Call, visit: Visit, username: str, password: str) -> Step:
    """Sign in; the page comes again, with a message, for who could not."""
    user = state.directory.find_user(username)
    try:
        if user is None:
            raise RefusedError(50034, f"The user account '{username}' does not exist in the directory.")
        if user.password and not secrets.compare_digest(password.encode(), user.password.encode()):
            raise RefusedError(50126)
        state.directory.check_enabled(user)
    except RefusedError as refused:
        return AskSignIn(visit.key, username, message=str(refused))
    sign_in = SignIn(user, state.next_in_order(), call.now, visit.purpose.claims)
    return _go_on(state, call, visit, sign_in)


def choose(state: State, call: Call, visit: Visit, username: str) -> Step:
    """Go on with one of the accounts that the browser knows; who has to sign in again is asked to."""
    for sign_in in state.browsers.signed_in(call.request.headers):
        named = sign_in.user.username == username
        if named and _is_recent(visit.purpose, sign_in, call.now) and _suffices(state, visit.purpose, sign_in):
            return _go_on(state, call, visit, sign_in)
    return AskSignIn(visit.key, username)


def decide(state: State, call: Call, visit: Visit, *, yes: bool) -> Step:
    """Answer the question for consent or approval; no sooner, it is cancelled."""
    if not state.visits.close(visit):
        return OVER
    purpose, sign_in = visit.purpose, visit.sign_in
    if sign_in is None:
        return purpose.cancel(state, call)
    if not yes:
        return purpose.decline(state, call)
    state.interactions.consent(sign_in.user, purpose.scopes)
    return purpose.approve(state, call, sign_in)


def _go_on(state: State, call: Call, visit: Visit, sign_in: SignIn) -> Step:
    purpose, visit.sign_in = visit.purpose, sign_in
    outstanding = state.interactions.outstanding(sign_in, purpose.scopes, purpose.claims)
    if purpose.for_device or purpose.prompt == "consent" or any(error.code == CONSENT for error in outstanding):
        scopes = purpose.scopes.asked
        return AskConsent(visit.key, sign_in.user.username, purpose.client_id, scopes, purpose.for_device)
    if not state.visits.close(visit):
        return OVER
    return purpose.approve(state, call, sign_in)


def _pass_silently(state: State, call: Call, purpose: Purpose, fitting: list[SignIn]) -> Step:
    """Answer prompt=none, where nobody may be asked anything."""
    if len(fitting) != 1:
        raise RefusedError(50058)
    try:
        state.directory.check_enabled(fitting[0].user)
        state.interactions.check(fitting[0], purpose.scopes, purpose.claims)
    except RefusedError as refused:
        error = refused.error
        name = "consent_required" if error.code == CONSENT else "interaction_required"
        raise RefusedError(
            error.code, error=EntraError(error.code, name, error.description, error.suberror, error.claims)
        ) from refused
    return purpose.approve(state, call, fitting[0])


def _fits(purpose: Purpose, sign_in: SignIn, now: float) -> bool:
    hint = purpose.login_hint.lower()
    return hint in ("", sign_in.user.username.lower()) and _is_recent(purpose, sign_in, now)


def _is_recent(purpose: Purpose, sign_in: SignIn, now: float) -> bool:
    return purpose.max_age is None or now - sign_in.at <= purpose.max_age


def _suffices(state: State, purpose: Purpose, sign_in: SignIn) -> bool:
    """Say whether this sign-in will do, apart from consent: nobody has disabled the user or required another."""
    try:
        state.directory.check_enabled(sign_in.user)
    except RefusedError:
        return False
    outstanding = state.interactions.outstanding(sign_in, purpose.scopes, purpose.claims)
    return all(error.code == CONSENT for error in outstanding)
