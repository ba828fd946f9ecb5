"""Each backend of the core's tests is the one its id says, and both the plugins and hypothesis run there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio
import pytest
import sniffio
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from types import ModuleType


async def test_the_backend_is_the_one_the_id_says(backend: str) -> None:
    if backend == "trio":
        assert sniffio.current_async_library() == "trio"
        return
    assert sniffio.current_async_library() == "asyncio"
    loop = asyncio.get_running_loop()
    assert type(loop).__module__.startswith("uvloop") == (backend == "uvloop")

    ran = False

    async def runs_at_once_if_eager() -> None:
        nonlocal ran
        ran = True

    task = asyncio.create_task(runs_at_once_if_eager())
    assert ran == (backend == "eager")
    await task


@pytest.mark.asyncio
async def test_a_mark_of_its_own_keeps_a_test_of_the_core_on_asyncio() -> None:
    assert type(asyncio.current_task()) is asyncio.Task


@settings(max_examples=5)
@given(numbers=st.lists(st.integers(), max_size=3))
async def test_hypothesis_runs_coroutines_on_every_backend(numbers: list[int]) -> None:
    gathered: list[int] = []

    async def gather(number: int) -> None:
        gathered.append(number)

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(gather, number)
    assert sorted(gathered) == sorted(numbers)


@pytest.mark.asyncio
async def test_what_blocks_the_loop_raises(our_frame: ModuleType) -> None:
    from blockbuster import BlockingError

    with pytest.raises(BlockingError, match=r"time\.sleep"):
        our_frame.call(time.sleep, 0.0001)
    await asyncio.to_thread(our_frame.call, time.sleep, 0.0001)


@pytest.fixture
def our_frame() -> ModuleType:
    """A module that calls what it is given, and lies in `aiomsal` as far as its frames tell."""
    from pathlib import Path
    from types import ModuleType

    import aiomsal

    module = ModuleType("aiomsal._blocking")
    assert aiomsal.__file__ is not None
    path = Path(aiomsal.__file__).with_name("_blocking.py")
    exec(compile("def call(function, *args): return function(*args)", str(path), "exec"), module.__dict__)
    return module


def test_the_network_is_out_of_reach() -> None:
    import socket

    with pytest.raises(RuntimeError, match="loopback only"):
        socket.create_connection(("login.microsoftonline.com", 443), timeout=1)
    with socket.socket() as connection, pytest.raises(RuntimeError, match="loopback only"):
        connection.connect(("192.0.2.1", 443))


def test_loopback_is_in_reach() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
        server.accept()[0].close()
