"""What every store must do. A store joins by adding how it is made to `STORES`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal.stores import ANY, MemoryStore

from .support import Caller, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiomsal.stores import TokenStore

STORES: list[Callable[[], TokenStore]] = [MemoryStore]
LATER = 4e9  # when no value of a test has expired


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest) -> TokenStore:
    made: TokenStore = request.param()
    return made


async def test_what_was_never_written_is_not_there(store: TokenStore) -> None:
    assert await store.get("key") is None


@pytest.mark.parametrize("value", [b"", b"value", bytes(range(256)) * 400])
async def test_a_value_comes_back_as_it_was_written(store: TokenStore, value: bytes) -> None:
    assert await store.set("key", value) is True
    assert await store.get("key") == value
    assert await store.set("key", b"another", expires_at=LATER) is True
    assert await store.get("key") == b"another"
    assert await store.get("another key") is None


@pytest.mark.parametrize("key", ["a", "aiomsal/v1/token/" + "0" * 64, "!~" * 100])
async def test_any_printable_key_does(store: TokenStore, key: str) -> None:
    assert await store.set(key, b"value")
    assert await store.get(key) == b"value"


async def test_a_value_is_written_only_over_what_was_expected(store: TokenStore) -> None:
    assert await store.set("key", b"one", expected=b"something") is False
    assert await store.get("key") is None
    assert await store.set("key", b"one", expected=None) is True
    assert await store.set("key", b"two", expected=None) is False
    assert await store.set("key", b"two", expected=b"something") is False
    assert await store.get("key") == b"one"
    assert await store.set("key", b"two", expected=b"one", expires_at=LATER) is True
    assert await store.set("key", b"three", expected=ANY) is True
    assert await store.get("key") == b"three"


async def test_an_empty_value_is_not_the_same_as_none(store: TokenStore) -> None:
    assert await store.set("key", b"")
    assert await store.get("key") == b""
    assert await store.set("key", b"x", expected=None) is False
    assert await store.delete("key", expected=None) is False
    assert await store.set("key", b"x", expected=b"") is True


async def test_a_value_is_deleted_only_if_it_is_what_was_expected(store: TokenStore) -> None:
    await store.set("key", b"one")
    assert await store.delete("key", expected=b"two") is False
    assert await store.delete("key", expected=None) is False
    assert await store.get("key") == b"one"
    assert await store.delete("key", expected=b"one") is True
    assert await store.get("key") is None
    await store.set("key", b"one")
    assert await store.delete("key") is True
    assert await store.get("key") is None


async def test_deleting_what_is_not_there_is_done_already(store: TokenStore) -> None:
    for expected in (ANY, None, b"one"):
        assert await store.delete("key", expected=expected) is True


async def test_locks_exclude_and_tell_those_who_do_not_wait(store: TokenStore) -> None:
    async with store.lock("key") as mine:
        assert mine is True
        async with store.lock("key", wait=False) as other:
            assert other is False
        async with store.lock("another key", wait=False) as other:
            assert other is True
    async with store.lock("key", wait=False) as mine:
        assert mine is True


async def test_a_lock_is_free_after_an_error_and_after_a_cancellation(store: TokenStore) -> None:
    with pytest.raises(LookupError):
        async with store.lock("key"):
            raise LookupError
    with anyio.move_on_after(0.001):
        async with store.lock("key"):
            await anyio.sleep_forever()
    async with store.lock("key", wait=False) as mine:
        assert mine is True


async def test_one_who_waits_for_a_lock_gets_it_and_one_who_leaves_does_not(store: TokenStore) -> None:
    log: list[str] = []

    async def take(name: str) -> None:
        async with store.lock("key") as mine:
            assert mine is True
            log.append(name)

    async with anyio.create_task_group() as group, store.lock("key"):
        first = Caller(group, lambda: take("first"))
        await settle()
        second = Caller(group, lambda: take("second"))
        await settle()
        first.leave()
        await settle()
        assert log == []
    assert (first.outcome, second.outcome, log) == ("left", "value", ["second"])


def test_of_many_threads_that_expect_the_same_one_writes(store: TokenStore, backend: str) -> None:
    rounds, threads = 200, 4
    together = threading.Barrier(threads)
    written: list[tuple[int, int]] = []

    async def write(name: int) -> None:
        for number in range(rounds):
            together.wait(20)
            before = str(number - 1).encode() if number else None
            if await store.set("key", str(number).encode(), expected=before):
                written.append((number, name))

    workers = [
        threading.Thread(
            target=anyio.run, args=(write, name), kwargs={"backend": "trio" if backend == "trio" else "asyncio"}
        )
        for name in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert sorted(number for number, _ in written) == list(range(rounds))


# -- in memory -------------------------------------------------------------------------------------------------------


async def test_the_session_written_longest_ago_is_forgotten_when_there_is_no_room() -> None:
    store = MemoryStore(max_sessions=2)
    await store.set("a", b"1")
    await store.set("b", b"1")
    await store.set("a", b"2")
    assert await store.set("b", b"2", expected=b"wrong") is False  # writes nothing, and makes nothing younger
    await store.set("c", b"1")
    assert [await store.get(key) for key in "abc"] == [b"2", None, b"1"]


@pytest.mark.parametrize("bound", [0, -1])
def test_a_store_for_no_session_is_refused(bound: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MemoryStore(max_sessions=bound)


async def test_a_store_shows_no_session() -> None:
    store = MemoryStore()
    await store.set("key", b"refresh-token")
    assert repr(store) == "<MemoryStore of 1>"
    assert repr(ANY) == "ANY"


def test_what_the_store_does_never_suspends() -> None:
    store = MemoryStore()
    for operation in (store.set("key", b"value"), store.get("key"), store.delete("key")):
        with pytest.raises(StopIteration):
            operation.send(None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "delete"]),
            st.sampled_from("ab"),
            st.sampled_from([ANY, None, b"1", b"2"]),
            st.sampled_from([b"1", b"2"]),
        )
    )
)
async def test_whatever_is_done_it_behaves_as_a_dict_would(steps: list[tuple[str, str, object, bytes]]) -> None:
    for make in STORES:
        store, model = make(), dict[str, bytes]()
        for what, key, expected, value in steps:
            if what == "set":
                done = expected is ANY or model.get(key) == expected
                if done:
                    model[key] = value
                assert await store.set(key, value, expected=expected) is done  # type: ignore[arg-type]
            else:
                done = expected is ANY or key not in model or model[key] == expected
                if done:
                    model.pop(key, None)
                assert await store.delete(key, expected=expected) is done  # type: ignore[arg-type]
            assert [await store.get(each) for each in "ab"] == [model.get(each) for each in "ab"]
