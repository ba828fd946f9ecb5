"""A request between its arrival and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RefusedError, error_response
from .gate import Waiter
from .log import RequestRecord, kept
from .routes import Route, route
from .state import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .faults import Effects, Faults
    from .http import HttpRequest, HttpResponse
    from .log import Entry, Log
    from .state import State


class Arrival:
    """A request that has arrived and is on its way to its answer: the face waits as it likes, then calls `answer`."""

    __slots__ = ("_effects", "_entry", "_form", "_request", "_route", "_state", "waiter")

    def __init__(self, request: HttpRequest, state: State, faults: Faults, log: Log) -> None:
        self._request = request
        self._state = state
        self._form = request.form()
        self._route: Route = route(request, self._form)
        record = _record(self._request, self._form, self._route, state.clock())
        self._entry: Entry = log.add(record)
        self._effects: Effects = faults.effects(record)
        self.waiter = Waiter(self._effects.gates)

    @property
    def latency(self) -> float:
        """Return how many seconds the answer takes, once the waiter is ready."""
        return self._effects.latency

    def answer(self) -> HttpResponse:
        """Do what was asked and return the answer; raise ConnectionResetError where the client shall get none."""
        now = self._state.clock() + self._effects.skew
        request, outcome = self._request, self._effects.outcome
        error = outcome.oauth_error if outcome else None
        try:
            if outcome:
                response = outcome.response(request, now)
            else:
                call = Call(request, self._route.tenant, self._form, now)
                response = self._route.handler(self._state, call)
        except RefusedError as refused:
            error = refused.error
            response = error_response(error, request, now)
        self._entry.answered(response.status, error.error if error else "")
        return response


def _record(request: HttpRequest, form: Mapping[str, str], where: Route, now: float) -> RequestRecord:
    get = form.get
    return RequestRecord(
        where.kind,
        where.tenant,
        now,
        get("client_id", ""),
        get("grant_type", ""),
        get("scope", ""),
        get("claims", ""),
        kept(request.headers),
    )
