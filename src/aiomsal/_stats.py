"""What a manager tells of itself."""

from __future__ import annotations

from typing import NamedTuple


class Stats(NamedTuple):
    """What a manager holds and has done, counted since it was made."""

    tokens: int
    """Tokens held in memory now."""
    flights: int
    """Acquisitions aloft now."""
    acquired: int
    """Tokens that came from the authority."""
    failed: int
    """Acquisitions that ended in an error, those of the next line included."""
    refresh_failed: int
    """Those for a token that still worked: no caller saw the error."""
    evicted: int
    """Tokens given up for want of room (`max_tokens`)."""
    store_failures: int
    """Operations of the token store that failed."""
