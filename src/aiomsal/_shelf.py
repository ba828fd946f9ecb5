"""A store as the manager sees it: whole records in, whole records out, and failures dealt with as it was told."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from ._errors import StoreError
from ._records import dump_session, dump_token, load_session, load_token, session_record_key
from .stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ._records import Session
    from ._token import Token
    from .stores import TokenStore

logger = logging.getLogger("aiomsal")

T = TypeVar("T")


class Shelf:
    """Records in a store. A store that fails is counted and logged, and passed over unless `raising`.

    Its mutable state is the counter; everything else is the store's. Any thread, any event loop.
    """

    def __init__(self, store: TokenStore, *, raising: bool) -> None:
        self._store = store
        self.raising = raising
        self.keeps_tokens = not isinstance(store, MemoryStore)  # what is in memory is not kept twice
        self.failures = 0

    async def token(self, key: str) -> Token | None:
        """The token recorded, None also where the store failed or what it has is no token."""
        record = await self._tried(lambda: self._store.get(key), otherwise=None)
        return None if record is None else self._read(load_token, record)

    async def put_token(self, key: str, token: Token) -> None:
        """Record a token until it expires."""
        record = dump_token(token)
        await self._tried(lambda: self._store.set(key, record, expires_at=token.expires_at), otherwise=False)

    async def session(self, session_key: str) -> Session | None:
        """The session recorded, None also where what the store has is no session.

        Raises:
            StoreError: the store failed, in any mode: it must not be taken for "nobody has signed in", which would
                have a person asked, or a sign-out believed.
        """
        key = session_record_key(session_key)
        try:
            record = await self._store.get(key)
        except Exception as error:
            self._failed(error, raising=False)
            words = "the token store failed, and who has signed in is known to it alone: try again when it is back"
            raise StoreError(f"{words} ({type(error).__name__})", code="store") from error
        if record is None:
            return None
        session = self._read(load_session, record)
        if session is None:  # what nobody can read would stand in the way of every session to come
            await self._tried(lambda: self._store.delete(key, expected=record), otherwise=False)
        return session

    async def swap_session(
        self, session_key: str, before: Session | None, after: Session | None, *, sure: bool = False
    ) -> bool:
        """Write a session, or delete it, if it is as it was before; true also where the store failed and may.

        Raises:
            StoreError: the store failed, and the caller must be `sure`: a sign-out must not be believed.
        """
        key = session_record_key(session_key)
        expected = None if before is None else dump_session(before)
        if after is None:
            return await self._tried(lambda: self._store.delete(key, expected=expected), otherwise=True, sure=sure)
        record = dump_session(after)
        return await self._tried(lambda: self._store.set(key, record, expected=expected), otherwise=True, sure=sure)

    async def claim(self, key: str, expires_at: float) -> bool:
        """Take what can be taken once; true also where the store failed and may."""
        return await self._tried(
            lambda: self._store.set(key, b"taken", expires_at=expires_at, expected=None), otherwise=True
        )

    @asynccontextmanager
    async def lock(self, key: str, *, wait: bool) -> AsyncGenerator[bool]:
        """The store's lock; where that fails the body goes on without it."""
        async with AsyncExitStack() as stack:
            try:
                mine = await stack.enter_async_context(self._store.lock(key, wait=wait))
            except Exception as error:  # noqa: BLE001 -- whatever a store's library raises
                self._failed(error)
                mine = True
            undisturbed = False
            try:
                yield mine
                undisturbed = True
            finally:
                try:
                    await stack.aclose()
                except Exception as error:  # noqa: BLE001 -- as above
                    self._failed(error, raising=undisturbed)  # the body's own error, or cancellation, goes first

    async def _tried(self, operation: Callable[[], Awaitable[T]], *, otherwise: T, sure: bool = False) -> T:
        try:
            return await operation()
        except Exception as error:
            self._failed(error)
            if sure:
                words = "the token store failed, and still has what was to be removed: try again when it is back"
                raise StoreError(f"{words} ({type(error).__name__})", code="store") from error
            return otherwise

    def _read(self, load: Callable[[bytes], T], record: bytes) -> T | None:
        try:
            return load(record)
        except (TypeError, ValueError) as error:  # not bytes, or not ours
            self._failed(error)
            return None

    def _failed(self, error: Exception, *, raising: bool = True) -> None:
        self.failures += 1
        if self.raising and raising:
            raise StoreError(f"the token store failed: {type(error).__name__}; its own error is the cause") from error
        logger.warning("the token store failed (%s): going on without it", type(error).__name__)
