"""The endpoints that a browser comes to: each leads to the next page, or back to the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .authorize import authorize
from .deviceauth import enter_user_code
from .pages import page
from .visits import OVER, choose, decide, enter

if TYPE_CHECKING:
    from .http import HttpResponse
    from .state import Call, State


def authorize_page(state: State, call: Call) -> HttpResponse:
    """Answer the authorization endpoint."""
    return page(authorize(state, call))


def device_page(state: State, call: Call) -> HttpResponse:
    """Answer the verification URI of device codes (RFC 8628, section 3.3)."""
    return page(enter_user_code(state, call))


def sign_in_page(state: State, call: Call) -> HttpResponse:
    """Answer the buttons of all pages but the first."""
    form = call.form
    visit = state.visits.find(form.get("visit", ""))
    if visit is None:
        return page(OVER)
    before = visit.sign_in
    if {"cancel", "decline"} & form.keys():
        step = decide(state, call, visit, yes=False)
    elif {"accept", "approve"} & form.keys():
        step = decide(state, call, visit, yes=True)
    elif "account" in form:
        step = choose(state, call, visit, form["account"])
    else:
        step = enter(state, call, visit, form.get("username", ""), form.get("password", ""))
    if visit.sign_in in (None, before):
        return page(step)
    return page(step, state.browsers.remember(call.request.headers, visit.sign_in))
