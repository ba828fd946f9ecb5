"""MSAL's throttling, with all that a request says in its key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT: Final = 1_024
_MSALS_OWN: Final = ("POST ", " 429/5xx/Retry-After")
_CHANGES_EACH_TIME: Final = ("client_assertion",)
LONGEST_PATIENCE: Final = 3_600
"""Seconds of Retry-After that are believed; MSAL believes as many."""


class HttpCache(dict[str, Any]):
    """MSAL's `http_cache`, but for its memory of refusals: the key of these omits who is asked for.

    What stays is metadata, and requests that were answered by a 400, whose key is the whole request.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if not (key.startswith(_MSALS_OWN[0]) and key.endswith(_MSALS_OWN[1])):
            super().__setitem__(key, value)


class Throttled:
    """An HTTP client that repeats a refusal (429, 5xx, any with Retry-After) to equal requests while it is told to.

    The mutable state is these refusals, bounded, under a lock held for dictionary work only.
    """

    def __init__(self, client: Any, patience: int, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._refusals: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def post(self, url: str, **options: Any) -> Any:
        """POST, as MSAL calls it."""
        key = _key(url, options)
        with self._lock:
            until, refusal = self._refusals.get(key, (0.0, None))
        now = self._clock()
        if until - LONGEST_PATIENCE <= now < until:  # a clock that was set back must not make it last
            return refusal
        response = self._client.post(url, **options)
        patience = self._told(response)
        if patience > 0:
            with self._lock:
                self._refusals[key] = (now + patience, response)
                self._refusals.move_to_end(key)
                while len(self._refusals) > KEPT:
                    self._refusals.popitem(last=False)
        return response

    def _told(self, response: Any) -> float:
        """For how many seconds not to ask again."""
        status = int(response.status_code)
        headers = cast("Mapping[str, str]", getattr(response, "headers", None) or {})
        retry_after = {name.lower(): value for name, value in headers.items()}.get("retry-after")
        if status < 400 or (status != 429 and status < 500 and retry_after is None):
            return 0  # a token, above all, is nobody's but theirs who asked for it
        try:
            return min(LONGEST_PATIENCE, int(retry_after)) if retry_after is not None else self._patience
        except ValueError:  # a date
            return self._patience


def _key(url: str, options: Mapping[str, Any]) -> bytes:
    data = options.get("data")
    if isinstance(data, dict):
        items = cast("dict[str, Any]", data)
        data = sorted((name, str(value)) for name, value in items.items() if name not in _CHANGES_EACH_TIME)
    return sha256(repr((url, options.get("params"), data)).encode("utf-8", "surrogatepass")).digest()
