"""A request between its arrival and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RefusedError, error_response
from .gate import Waiter
from .log import RequestRecord, kept, kept_parameters
from .routes import Route, route
from .state import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .faults import Effects, Faults
    from .http import HttpRequest, HttpResponse
    from .log import Entry, Log
    from .routes import Handler
    from .state import State


class Arrival:
    """A request that has arrived and is on its way to its answer: the face waits as it likes, then calls `answer`."""

    __slots__ = ("_effects", "_entry", "_form", "_handler", "_request", "_route", "_state", "waiter")

    def __init__(
        self, request: HttpRequest, state: State, faults: Faults, log: Log, handler: Handler | None = None
    ) -> None:
        self._request = request
        self._state = state
        self._form = request.form()
        self._route: Route = route(request, self._form)
        self._handler = handler or self._route.handler
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
        refusal = outcome.refusal if outcome and self._route.kind == "authorize" else None
        if outcome and not (refusal or outcome.lost):
            response = outcome.response(request, now)
        else:
            call = Call(request, self._route.tenant, self._form, now, refusal, self._effects.answer_for)
            try:
                response = self._handler(self._state, call)
            except RefusedError as refused:
                response = error_response(refused.error, request, now)
        if outcome and outcome.lost:
            message = "FakeEntra did what was asked and lost the answer, as it was told to"
            raise ConnectionResetError(message)
        self._entry.answered(response.status, response.error)
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
        kept_parameters(form),
    )
