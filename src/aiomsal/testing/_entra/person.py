"""A user at the sign-in page, without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .authorize import authorize
from .pages import page
from .steps import AskConsent, AskSignIn, AuthorizationAnswer, Told
from .visits import decide, enter

if TYPE_CHECKING:
    from .directory import User
    from .http import HttpResponse
    from .state import Call, State
    from .steps import Step


class Person:
    """Answers an authorization request as a user who signs in and consents, or as somebody who declines.

    Mutable: where it ended, once it has.
    """

    def __init__(self, user: User | None) -> None:
        """Be that user; None is somebody who declines."""
        self._user = user
        self._end: Step | None = None

    def visit(self, state: State, call: Call) -> HttpResponse:
        """Go through the pages, as what answers the request."""
        step = authorize(state, call)
        while isinstance(step, AskSignIn | AskConsent):
            visit = state.visits.find(step.visit)
            assert visit
            if self._user is None or isinstance(step, AskConsent):
                step = decide(state, call, visit, yes=self._user is not None)
                continue
            step = enter(state, call, visit, self._user.username, self._user.password)
            if isinstance(step, AskSignIn):
                break
        self._end = step
        return page(step)

    def answer(self) -> AuthorizationAnswer:
        """Return what the browser brings to the application; raise ValueError where it would show a page instead."""
        step = self._end
        if isinstance(step, AuthorizationAnswer):
            return step
        shown = "an error that is not about signing in"
        if isinstance(step, AskSignIn):
            shown = step.message
        elif isinstance(step, Told):
            shown = step.text
        message = f"the sign-in page does not go on to the application, it shows: {shown}"
        raise ValueError(message)
