"""Several event loops, forks, closing, and what a dropped manager leaves behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

import anyio
import anyio.lowlevel
import pytest

from aiomsal import FlightAborted, TokenManager
from aiomsal.testing import FakeClock
from aiomsal.testing._scripted import ScriptedClient, script_of
from tests.core.manager_support import ALICE, SCOPE, START, Call, Rig, at_once, people, settle


def test_loops_one_after_another_share_tokens() -> None:
    client = ScriptedClient(script=script_of())
    tokens = TokenManager(client)
    source = tokens.source(SCOPE)
    for _ in range(3):
        assert asyncio.run(tokens.get(SCOPE)).value == "token-1"
        assert asyncio.run(source.get()).value == "token-1"
    assert len(client.acquisitions) == 1


def test_four_cold_loops_in_threads_make_one_acquisition() -> None:
    client = ScriptedClient()
    tokens = TokenManager(client)
    got: list[str] = []
    start = threading.Barrier(5)

    async def crowd() -> None:
        start.wait()
        got.extend(token.value for token in await asyncio.gather(*(tokens.get(SCOPE) for _ in range(50))))

    def aboard() -> int:
        return sum(len(flight.passengers) for flight in tokens._flights._flights())

    threads = [threading.Thread(target=asyncio.run, args=(crowd(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    deadline = time.monotonic() + 30
    while aboard() < 200 or not client.parked:
        assert time.monotonic() < deadline
    client.parked[0].land()
    for thread in threads:
        thread.join(30)
    assert got == ["token-1"] * 200
    assert len(client.acquisitions) == 1


FORK = """
import asyncio, os, sys
from aiomsal import TokenManager
from aiomsal.testing._scripted import ScriptedClient

client = ScriptedClient()
tokens = TokenManager(client)

async def child():
    # the parent's token is there, its flight is not, and neither is its lock
    assert (await tokens.get("held")).value == "token-1"
    call = asyncio.ensure_future(tokens.get("aloft"))
    while len(client.acquisitions) < 3:
        await asyncio.sleep(0)
    client.acquisitions[2].land()
    assert (await call).value == "token-3"
    assert tokens.stats().flights == 0

async def parent():
    client._script = lambda acquisition: acquisition.land()
    await tokens.get("held")
    client._script = None
    call = asyncio.ensure_future(tokens.get("aloft"))
    while not client.parked:
        await asyncio.sleep(0)
    with tokens._flights.guard():
        pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(None)
        try:
            asyncio.run(child())
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    client.acquisitions[1].land()
    assert (await call).value == "token-2"
    return os.waitstatus_to_exitcode(status)

sys.exit(asyncio.run(parent()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_works_and_so_does_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_closing_lets_flights_finish_and_hands_out_nothing_afterwards() -> None:
    rig = Rig()
    await rig.hold("held")
    source = rig.tokens.source("held")
    await source.get()
    async with anyio.create_task_group() as group:
        aboard = Call(group, rig.tokens.get, SCOPE)
        acquisition = await rig.parked()
        closing = Call(group, rig.tokens.aclose)  # type: ignore[arg-type]
        await settle()
        assert not acquisition.over
        acquisition.land()
    assert aboard.value == "token-2"
    assert closing.outcome is None
    for call in (rig.tokens.get("held"), rig.tokens.get(SCOPE), rig.tokens.get_silent("x"), source.get()):
        with pytest.raises(FlightAborted, match="closed"):
            await call
    assert rig.tokens.stats().tokens == rig.tokens.stats().flights == 0
    await rig.tokens.aclose()
    assert rig.asked == 2


async def test_closing_is_bounded_and_what_lands_afterwards_is_saved_but_not_handed_out() -> None:
    rig = people(absorbs=True, acquire_timeout=0.02)
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        aboard = Call(group, rig.tokens.get, "mail")
        acquisition = await rig.parked()
        await rig.tokens.aclose()
        await settle()
        assert isinstance(aboard.error, Exception)
        acquisition.land()
    await settle()
    assert rig.client.refresh_token(await rig.session(), ALICE) == f"refresh-{acquisition.number}"
    assert rig.tokens.stats().tokens == 0
    with pytest.raises(FlightAborted):
        await rig.tokens.get("mail")


async def test_a_manager_closes_at_the_end_of_a_with_block() -> None:
    rig = Rig(script=script_of())
    async with rig.tokens as tokens:
        assert (await tokens.get(SCOPE)).value == "token-1"
    with pytest.raises(FlightAborted):
        await tokens.get(SCOPE)


def test_closing_from_another_loop_is_harmless() -> None:
    tokens = TokenManager(ScriptedClient(script=script_of()))
    asyncio.run(tokens.get(SCOPE))
    asyncio.run(tokens.aclose())
    asyncio.run(tokens.aclose())
    with pytest.raises(FlightAborted):
        asyncio.run(tokens.get(SCOPE))


# -- dropped ---------------------------------------------------------------------------------------------------------


async def test_a_dropped_manager_leaves_nothing_in_the_loop() -> None:
    references = []
    for _ in range(3):
        rig = people()
        await rig.enrol(ALICE)
        await rig.hold("mail")
        await rig.tokens.source("mail").get()
        async with anyio.create_task_group() as group:
            left = Call(group, rig.tokens.get, "left")
            acquisition = await rig.parked()
            left.scope.cancel()
        acquisition.land()
        await settle()
        rig.clock.advance(3400)
        at_once(rig.tokens.get("mail"))
        (await rig.parked()).land()
        await settle()
        references += [weakref.ref(rig.tokens), weakref.ref(rig.client)]
        del rig, left, acquisition, group
    await settle()
    for _ in range(3):
        gc.collect()
        await anyio.lowlevel.checkpoint()
    assert [reference() for reference in references] == [None] * 6


async def test_the_constructor_touches_no_loop_and_no_clock() -> None:
    clock = FakeClock(START)
    assert repr(TokenManager(ScriptedClient(clock=clock), clock=clock)).startswith("<TokenManager of <ScriptedClient")
