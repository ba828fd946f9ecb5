"""The MSAL token cache that lives for one acquisition.

It shows MSAL the refresh tokens and accounts of a session, and neither shows nor keeps an access token. Both classes
are MSAL's own with little changed, made when MSAL is imported, in a worker thread. Which methods of the cache MSAL
calls has been the same from MSAL 1.34 to 1.39; `tests/clients` asks the installed one.
"""

# MSAL has no types: what its methods return is given one at once, and what pyright makes of its generator is not it.
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from aiomsal._token import decode_claims

from ._exchange import current
from ._session import ACCESS_TOKEN, IDENTITY, REFRESH_TOKEN, REFRESHED, SIGNED_IN, Entries, Entry, age, dump, read

if TYPE_CHECKING:
    from collections.abc import Iterator


class SessionCache(Protocol):
    """The part of MSAL's token cache that MSAL's application calls, and the session that it is filled from."""

    def search(self, credential_type: str, *args: Any, **kwargs: Any) -> Iterator[Entry]: ...
    def add(self, event: Entry, now: float | None = None) -> None: ...
    def modify(self, credential_type: str, old_entry: Entry, new_key_value_pairs: Entry | None = None) -> None: ...
    def entry(self, credential_type: str, key: str, default: Any) -> Any: ...
    def load(self, session: bytes) -> None: ...
    def dump(self) -> bytes: ...


def session_cache_class() -> type[SessionCache]:
    """The class of a cache for one acquisition. In a worker thread: it imports MSAL."""
    from msal import TokenCache

    class OneSession(TokenCache):  # type: ignore[misc]  # a base class without types
        def add(self, event: Entry, now: float | None = None) -> None:
            # MSAL logs the event; and it would parse an expiry that may be absurd, for a token it is not to keep.
            response = {name: value for name, value in event.get("response", {}).items() if name != "access_token"}
            event = {**event, "response": response, "data": {}}
            tenant = decode_claims(str(response.get("id_token", ""))).get("tid")
            if tenant:  # it would file the account under the authority's path: a domain, or "common"
                event["token_endpoint"] = f"https://{event['environment']}/{tenant}"
            super().add(event, now=now)

        def modify(self, credential_type: str, old_entry: Entry, new_key_value_pairs: Entry | None = None) -> None:
            if credential_type == ACCESS_TOKEN:  # none is kept, so MSAL goes to the authority each time
                return
            if credential_type == REFRESH_TOKEN and new_key_value_pairs:
                now = repr(time.time())  # one that a refresh brings is of the same sign-in as the one it replaces
                own = {SIGNED_IN: old_entry.get(SIGNED_IN, now), REFRESHED: now}
                new_key_value_pairs = {**new_key_value_pairs, **own}
            super().modify(credential_type, old_entry, new_key_value_pairs)

        def entry(self, credential_type: str, key: str, default: Any) -> Any:
            return self._get(credential_type, key, default)

        def load(self, session: bytes) -> None:
            for kind, entries in read(session).items():
                for entry in entries:
                    super().modify(kind, entry, entry)

        def dump(self) -> bytes:
            entries: Entries = {kind: list(super(OneSession, self).search(kind)) for kind in IDENTITY}
            entries[REFRESH_TOKEN].sort(key=age)  # the newest of an account comes last, and stays
            return dump(entries)

    return OneSession


def shared_cache() -> object:
    """The cache that MSAL's application is given: each thread finds that of its own call behind it.

    In a worker thread: it imports MSAL.
    """
    from msal import TokenCache

    class Shared(TokenCache):  # type: ignore[misc]  # a base class without types
        def search(self, credential_type: str, *args: Any, **kwargs: Any) -> Iterator[Entry]:
            return current.get().cache.search(credential_type, *args, **kwargs)

        def add(self, event: Entry, now: float | None = None) -> None:
            current.get().cache.add(event, now)

        def modify(self, credential_type: str, old_entry: Entry, new_key_value_pairs: Entry | None = None) -> None:
            current.get().cache.modify(credential_type, old_entry, new_key_value_pairs)

        def _get(self, credential_type: str, key: str, default: Any = None) -> Any:
            return current.get().cache.entry(credential_type, key, default)

    return Shared()
