"""What is done to requests besides answering them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import EntraError, error_response
from .gate import Gate
from .http import HttpResponse, type_html
from .log import kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .directory import User
    from .http import HttpRequest
    from .log import RequestRecord

_GARBAGE = b"<html><head><title>Sign in to the network</title></head><body>Not the JSON you wanted.</body></html>"
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class Outcome:
    """How a request ends instead of being answered properly."""

    reset: bool = False
    garbage: bool = False
    status: int = 0
    retry_after: float | str | None = None
    error: EntraError | None = None
    lost: bool = False
    """It is answered properly after all, and the answer gets lost on its way."""

    @property
    def refusal(self) -> EntraError | None:
        """Return the error, where it is nothing but that; the sign-in page tells such a one in its own way."""
        return None if self.status or self.retry_after is not None else self.error

    @property
    def oauth_error(self) -> EntraError | None:
        """Return the error in the body of the response; None where there is none."""
        if self.reset or self.garbage or self.lost:
            return None
        return (self.error or EntraError(90055 if self.status == _TOO_MANY_REQUESTS else 90033)).completed()

    def response(self, request: HttpRequest, now: float) -> HttpResponse:
        """Return what the client reads; raise ConnectionResetError if it reads nothing."""
        if self.reset:
            message = "FakeEntra reset the connection, as it was told to"
            raise ConnectionResetError(message)
        error = self.oauth_error
        if error is None:
            return HttpResponse(200, (type_html,), _GARBAGE)
        headers = () if self.retry_after is None else (("Retry-After", _seconds(self.retry_after)),)
        return error_response(error, request, now, status=self.status, headers=headers)


def _seconds(retry_after: float | str) -> str:
    return retry_after if isinstance(retry_after, str) else f"{retry_after:g}"


@dataclass(eq=False)
class Rule:
    """A fault that waits for its requests. `times` counts down; None is for ever."""

    kind: str
    times: int | None = None
    match: Callable[[RequestRecord], bool] | None = None
    latency: float = 0.0
    skew: float = 0.0
    gate: Gate | None = None
    outcome: Outcome | None = None
    answer_for: User | None = None

    def applies(self, record: RequestRecord, kinds: frozenset[str]) -> bool:
        return self.kind in kinds and self.times != 0 and (self.match is None or self.match(record))


@dataclass
class Effects:
    """All that is done to one request."""

    latency: float = 0.0
    skew: float = 0.0
    gates: list[Gate] = field(default_factory=list[Gate])
    outcome: Outcome | None = None
    answer_for: User | None = None


class Faults:
    """The rules in force, in the order in which they were made. That list is the mutable state; one lock guards it.

    Latencies and skews add up, and every gate must be passed; but one outcome ends a request, so the oldest rule that
    has one decides, and younger ones keep theirs for the next request.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def remove(self, gate: Gate) -> None:
        """Drop the rule of a gate that nobody shall come to any more."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule.gate is not gate]

    def clear(self, kind: str) -> None:
        """Drop the rules of `kind` and of all below it, and let those go who wait because of them."""
        with self._lock:
            gone = [rule for rule in self._rules if kind in kinds_of(rule.kind)]
            self._rules = [rule for rule in self._rules if rule not in gone]
        for rule in gone:
            if rule.gate:
                rule.gate.release()

    def effects(self, record: RequestRecord) -> Effects:
        """Return what is to be done to this request, and count it as done."""
        effects = Effects()
        if not self._rules:
            return effects
        kinds = frozenset(kinds_of(record.kind))
        with self._lock:
            for rule in list(self._rules):
                if (rule.outcome and effects.outcome) or not rule.applies(record, kinds):
                    continue
                effects.latency += rule.latency
                effects.skew += rule.skew
                effects.outcome = effects.outcome or rule.outcome
                effects.answer_for = effects.answer_for or rule.answer_for
                if rule.gate:
                    effects.gates.append(rule.gate)
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0 and rule.gate is None:
                        self._rules.remove(rule)
        return effects


def new_rule(
    kind: str,
    *,
    times: int | None,
    match: Callable[[RequestRecord], bool] | None,
    latency: float,
    hang: bool,
    reset: bool,
    garbage: bool,
    status: int,
    retry_after: float | str | None,
    error: EntraError | None,
    skew: float,
    lost: bool,
    answer_for: User | None,
) -> Rule:
    """Return the rule that these keywords of `FakeEntra.fault` ask for, or raise ValueError."""
    answered = bool(status or error or retry_after is not None)
    ends = sum((hang, reset, garbage, answered, lost))
    if not (latency or skew or answer_for or ends):
        message = "say what goes wrong: latency, hang, reset, garbage, status, error, lost, answer_for or skew"
        raise ValueError(message)
    if ends > 1:
        message = "a request ends in one way: choose one of hang, reset, garbage, lost, and status or error"
        raise ValueError(message)
    if retry_after is not None and not (status or error):
        status = _TOO_MANY_REQUESTS
    if times is not None and times < 1:
        message = f"times is how many requests it happens to, one or more, not {times}"
        raise ValueError(message)
    if latency < 0:
        message = f"latency is in seconds and cannot be negative: {latency}"
        raise ValueError(message)
    outcome = None
    if reset or garbage or answered or lost:
        outcome = Outcome(reset, garbage, status, retry_after, error, lost)
    return Rule(kind, times, match, latency, skew, Gate(kind) if hang else None, outcome, answer_for)
