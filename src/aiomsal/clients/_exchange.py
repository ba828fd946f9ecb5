"""One conversation with the authority, as the worker thread that holds it sees it."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._session_cache import SessionCache


@dataclass(frozen=True, slots=True)
class Reply:
    """What the authority answered, in the shape that MSAL reads; MSAL's own result leaves out most of it."""

    url: str
    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """The JSON object in it; empty if there is none."""
    retry_after: float | None = None
    """Seconds of patience it asked for."""

    def raise_for_status(self) -> None:
        """MSAL calls it for a status it cannot use."""
        if self.status_code >= 400:
            raise OSError(f"HTTP {self.status_code}")


class Exchange:
    """What one call brings to MSAL and takes from it besides arguments and result.

    MSAL's applications are shared by all calls of a client, so what is one call's own reaches their cache, transport
    and credential through a context variable. Made for one call, and used in its worker thread only.
    """

    __slots__ = ("answered", "assertion", "cache", "correlation_id", "reply", "started", "trouble")

    def __init__(self, cache: SessionCache, started: float) -> None:
        self.correlation_id = str(uuid.uuid4())
        self.cache = cache
        self.assertion = ""
        """The client assertion of this call; never shown."""
        self.reply: Reply | None = None
        """The last reply: the token endpoint's, if it got that far."""
        self.trouble = ""
        """Why the last request brought no reply at all; empty if it did."""
        self.started = started
        """Epoch seconds before anything was sent, and after everything had come."""
        self.answered = started


current: ContextVar[Exchange] = ContextVar("aiomsal_exchange")
"""The exchange of this worker thread."""
