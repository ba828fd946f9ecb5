"""The shelf: a store that fails is passed over, or raised, as it was told."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal._errors import StoreError
from aiomsal._records import Session, dump_session, dump_token, session_record_key
from aiomsal._shelf import Shelf
from aiomsal._token import Token
from aiomsal.stores import ANY, Expected, MemoryStore

from .support import Caller, settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TOKEN = Token("access-token", 2.0, 1.5, 1.0)
SESSION = Session("id", b"refresh-token")


class Broken(Exception):
    """What the store's library raises."""


class Store:
    """A store in memory, each of whose methods can be broken, or answer with something else."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.values: dict[str, Any] = {}
        self.expiries: list[float | None] = []
        self.locks: list[str] = []

    def _do(self, what: str) -> None:
        if what in self.broken:
            raise Broken("refresh-token in its message")

    async def get(self, key: str) -> Any:
        self._do("get")
        return self.values.get(key)

    async def set(self, key: str, value: bytes, *, expires_at: float | None = None, expected: Expected = ANY) -> bool:
        self._do("set")
        if expected is not ANY and self.values.get(key) != expected:
            return False
        self.values[key] = value
        self.expiries.append(expires_at)
        return True

    async def delete(self, key: str, *, expected: Expected = ANY) -> bool:
        self._do("delete")
        if expected is not ANY and self.values.get(key, expected) != expected:
            return False
        self.values.pop(key, None)
        return True

    def lock(self, key: str, *, wait: bool = True) -> AbstractAsyncContextManager[bool]:
        self._do("lock")
        return self._locked(wait)

    @asynccontextmanager
    async def _locked(self, wait: bool) -> AsyncGenerator[bool]:
        self._do("enter")
        self.locks.append("taken")
        try:
            yield wait
        finally:
            self.locks.append("released")
            self._do("exit")


async def test_what_is_put_is_found_again() -> None:
    store = Store()
    shelf = Shelf(store, raising=True)
    assert await shelf.token("key") is None
    await shelf.put_token("key", TOKEN)
    assert await shelf.token("key") == TOKEN
    assert store.expiries == [2.0]
    assert store.values["key"] == dump_token(TOKEN)
    assert shelf.keeps_tokens
    assert not Shelf(MemoryStore(), raising=True).keeps_tokens


async def test_a_session_is_written_only_over_the_one_it_was_made_from() -> None:
    store = Store()
    shelf = Shelf(store, raising=True)
    newer, other = Session("id", b"newer"), Session("other", b"")
    assert await shelf.session("session key") is None
    assert not await shelf.swap_session("session key", SESSION, newer)
    assert await shelf.swap_session("session key", None, SESSION)
    assert not await shelf.swap_session("session key", None, other)
    assert not await shelf.swap_session("session key", other, None)
    assert await shelf.session("session key") == SESSION
    assert await shelf.swap_session("session key", SESSION, newer)
    assert store.values == {session_record_key("session key"): dump_session(newer)}
    assert store.expiries == [None, None]
    assert await shelf.swap_session("session key", newer, None)
    assert store.values == {}


OPERATIONS = {
    "get": [lambda shelf: shelf.token("key")],
    "set": [lambda shelf: shelf.put_token("key", TOKEN), lambda shelf: shelf.swap_session("key", None, SESSION)],
    "delete": [lambda shelf: shelf.swap_session("key", SESSION, None)],
}


@pytest.mark.parametrize("method", OPERATIONS)
async def test_a_store_that_fails_is_counted_logged_and_passed_over(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(Store(method), raising=False)
    with caplog.at_level(logging.DEBUG):
        answers = [await operation(shelf) for operation in OPERATIONS[method]]
    assert answers == {"get": [None], "set": [None, True], "delete": [True]}[method]
    assert shelf.failures == len(answers)
    assert [record.levelname for record in caplog.records if record.name == "aiomsal"] == ["WARNING"] * len(answers)
    assert "Broken" in caplog.text
    assert "refresh-token" not in caplog.text


@pytest.mark.parametrize("method", OPERATIONS)
async def test_a_store_that_fails_raises_if_told_to_with_its_own_error_as_the_cause(method: str) -> None:
    shelf = Shelf(Store(method), raising=True)
    for number, operation in enumerate(OPERATIONS[method], 1):
        with pytest.raises(StoreError, match="Broken") as raised:
            await operation(shelf)
        assert isinstance(raised.value.__cause__, Broken)
        assert "refresh-token" not in str(raised.value)
        assert shelf.failures == number


@pytest.mark.parametrize("raising", [False, True])
async def test_a_session_that_cannot_be_read_is_not_taken_for_nobody(
    raising: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(Store("get"), raising=raising)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError, match="Broken") as raised:
        await shelf.session("key")
    assert isinstance(raised.value.__cause__, Broken)
    assert "refresh-token" not in caplog.text + str(raised.value)
    assert shelf.failures == 1


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\xff\xfe", b"[" * 100_000, "text"])
async def test_a_record_that_is_none_is_a_failure_of_the_store(garbage: Any) -> None:
    stores = Store(), Store()
    for store in stores:
        store.values = {"key": garbage, session_record_key("key"): garbage}
    serving, raising = Shelf(stores[0], raising=False), Shelf(stores[1], raising=True)
    assert await serving.token("key") is None
    assert await serving.session("key") is None
    assert serving.failures == 2
    assert stores[0].values == {"key": garbage}  # a session that nobody can read stands in nobody's way
    with pytest.raises(StoreError):
        await raising.token("key")
    with pytest.raises(StoreError):
        await raising.session("key")


@pytest.mark.parametrize("wait", [True, False])
async def test_the_lock_tells_whether_it_was_got(wait: bool) -> None:
    store = Store()
    async with Shelf(store, raising=True).lock("key", wait=wait) as mine:
        assert mine is wait
        assert store.locks == ["taken"]
    assert store.locks == ["taken", "released"]


@pytest.mark.parametrize("method", ["lock", "enter", "exit"])
async def test_a_lock_that_fails_does_not_keep_the_body_from_its_work(method: str) -> None:
    shelf = Shelf(Store(method), raising=False)
    for wait in (True, False):
        worked = False
        async with shelf.lock("key", wait=wait) as mine:
            worked = True
            assert mine is (wait if method == "exit" else True)
        assert worked
    assert shelf.failures == 2


@pytest.mark.parametrize("method", ["lock", "enter", "exit"])
async def test_a_lock_that_fails_raises_if_told_to(method: str) -> None:
    shelf = Shelf(Store(method), raising=True)
    worked = False
    with pytest.raises(StoreError, match="Broken") as raised:
        async with shelf.lock("key", wait=True):
            worked = True
    assert worked is (method == "exit")
    assert isinstance(raised.value.__cause__, Broken)
    assert shelf.failures == 1


@pytest.mark.parametrize("raising", [True, False], ids=["raise", "serve"])
@pytest.mark.parametrize("method", ["nothing", "lock", "enter", "exit"])
@pytest.mark.parametrize("error", [LookupError("the body's"), Broken("the body's"), KeyboardInterrupt("the body's")])
async def test_an_error_in_the_body_passes_unchanged(raising: bool, method: str, error: BaseException) -> None:
    store = Store(method)
    shelf = Shelf(store, raising=raising)
    begun = False
    with pytest.raises((type(error), StoreError)) as raised:
        async with shelf.lock("key", wait=True):
            begun = True
            raise error
    if begun:
        assert raised.value is error
        assert store.locks == ([] if method in ("lock", "enter") else ["taken", "released"])
    else:
        assert raising
        assert method in ("lock", "enter")
    assert shelf.failures == (method != "nothing")


@pytest.mark.parametrize("raising", [True, False], ids=["raise", "serve"])
@pytest.mark.parametrize("method", ["nothing", "exit"])
async def test_a_cancellation_of_the_body_passes_unchanged(raising: bool, method: str) -> None:
    store = Store(method)
    shelf = Shelf(store, raising=raising)

    async def hold() -> None:
        async with shelf.lock("key", wait=True):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        caller = Caller(group, hold)
        await settle()
        caller.leave()
    assert (caller.outcome, caller.error) == ("left", None)
    assert store.locks == ["taken", "released"]
    assert shelf.failures == (method == "exit")
