"""The end: closing in flight, from elsewhere, twice; dropping everything; and an interpreter that exits at once."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aiomsal import FlightAborted, Token

from .support import (
    GRAPH,
    VAULT,
    Caller,
    Person,
    approving,
    arrived,
    crowd,
    one_token,
    run_asyncio,
    run_trio,
    run_uvloop,
    settle,
    until,
)

if TYPE_CHECKING:
    from .support import House

TOKEN = "token.client_credentials"
RUNNERS = [run_asyncio, run_uvloop, run_trio]


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aiomsal")]


# -- aclose ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_closing_lets_those_aboard_have_their_tokens(house: House) -> None:
    tokens = house.service()
    with house.entra.hold(TOKEN) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get, scope) for _ in range(50) for scope in (GRAPH, VAULT)]
            await arrived(gate, 2)
            closings = [Caller(group, tokens.aclose) for _ in range(3)]
            await settle()
            assert not any(each.over for each in (*callers, *closings))
            late = Caller(group, tokens.get, "api://late/.default")
            await until(lambda: late.over)
            gate.release()
    assert len({caller.token.value for caller in callers}) == 2
    assert [closing.outcome for closing in closings] == [None] * 3
    assert isinstance(late.outcome, FlightAborted)
    for call in (tokens.get, tokens.get_silent):
        with pytest.raises(FlightAborted, match="closed"):
            await call(GRAPH)
    assert house.entra.count("token") == 2
    assert (tokens.stats().tokens, tokens.stats().flights) == (0, 0)


@pytest.mark.anyio
async def test_closing_waits_no_longer_than_acquire_timeout(house: House) -> None:
    tokens = house.service(acquire_timeout=0.3)
    with house.entra.hold(TOKEN) as gate:
        async with anyio.create_task_group() as group:
            callers = [Caller(group, tokens.get, GRAPH) for _ in range(20)]
            await arrived(gate)
            await tokens.aclose()
            assert gate.waiting == 1
    assert {type(caller.outcome).__name__ for caller in callers} <= {"FlightAborted", "AuthorityUnavailable"}
    assert all(isinstance(caller.outcome, Exception) for caller in callers)


@pytest.mark.anyio
async def test_a_with_block_ends_with_everything_landed(house: House) -> None:
    house.entra.configure(refresh_in=1800)
    async with house.service() as tokens:
        old = await tokens.get(GRAPH)
        house.clock.advance(1800)
        assert (await tokens.get(GRAPH)).value == old.value  # a refresh leaves
    assert house.entra.count(TOKEN) == 2
    assert house.entra.requests[-1].status == 200
    assert tokens.stats().refresh_failed == 0


@pytest.mark.anyio
async def test_closing_aborts_a_sign_in_and_its_polls(house: House) -> None:
    person = Person(patient=True)
    tokens = house.program(person)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "User.Read") for _ in range(20)]
        await until(lambda: person.waits == 1)
        await tokens.aclose()
    assert {type(caller.outcome) for caller in callers} == {FlightAborted}
    person.let_poll()
    await settle()
    assert house.entra.count("token") == 0


@pytest.mark.parametrize("flying", RUNNERS)
@pytest.mark.parametrize("closing", RUNNERS)
def test_closing_from_another_loop_waits_for_a_flight_there(flying: Any, closing: Any, house: House) -> None:
    tokens = house.service()
    outcomes: list[Any] = []
    closed = threading.Event()

    async def fly() -> None:
        outcomes.extend(await crowd(20, tokens.get, GRAPH))

    async def close() -> None:
        await tokens.aclose()
        closed.set()

    with house.entra.hold(TOKEN) as gate:
        one = threading.Thread(target=flying, args=(fly,), daemon=True)
        one.start()
        gate.wait_for(1)
        two = threading.Thread(target=closing, args=(close,), daemon=True)
        two.start()
        run_asyncio(until, lambda: tokens._flights._closed)
        assert not closed.is_set()
    for thread in (one, two):
        thread.join(20)
        assert not thread.is_alive()
    one_token(outcomes)
    assert len(outcomes) == 20
    assert closed.is_set()
    assert house.entra.count(TOKEN) == 1


def test_what_was_passed_to_the_constructor_is_not_closed(house: House) -> None:
    from aiomsal import TokenManager

    tokens = house.service()
    run_asyncio(tokens.get, GRAPH)
    run_asyncio(tokens.aclose)
    other = TokenManager(tokens._client, clock=house.clock)
    assert isinstance(run_trio(other.get, GRAPH), Token)
    assert (house.entra.count(TOKEN), house.entra.count("discovery")) == (2, 1)


# -- a loop that ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("failure", ["no answer", "503"])
def test_a_loop_that_ends_waits_for_one_answer_and_not_for_retries(run: Any, failure: str, house: House) -> None:
    """Else the program would hang for three HTTP timeouts and the pauses between them, with nobody left to care."""
    tokens = house.service(timeout=(5.0, 0.3))
    old = run(tokens.get, GRAPH)
    house.clock.advance(3400)
    if failure == "503":
        house.entra.fault(TOKEN, status=503)
    gate = house.entra.hold(TOKEN)

    async def leave_in_flight() -> None:
        assert (await tokens.get(GRAPH)).value == old.value
        await arrived(gate)
        if failure == "503":
            threading.Timer(0.05, gate.release).start()

    run(leave_in_flight)
    assert house.entra.count(TOKEN) == 2
    gate.release()
    house.entra.clear_faults()
    assert run(tokens.get, GRAPH).value == old.value
    house.clock.set(old.expires_at)
    assert run(tokens.get, GRAPH).value != old.value


# -- dropped ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_dropped_manager_and_its_client_leave_no_thread_and_no_connection(house: House) -> None:
    gc.collect()
    await until(lambda: gc.collect() >= 0 and not workers())
    references: list[weakref.ref[Any]] = []
    for tokens, scope in ((house.service(), GRAPH), (house.program(approving(house.entra)), "User.Read")):
        await crowd(20, tokens.get, scope)
        house.clock.advance(3590)
        await crowd(20, tokens.get, scope)
        await until(lambda tokens=tokens: tokens.stats().flights == 0)  # type: ignore[misc]
        references += [weakref.ref(tokens), weakref.ref(tokens._client)]
    assert workers()
    del tokens
    await settle()

    def gone() -> bool:
        gc.collect()
        return not any(reference() for reference in references) and not workers()

    await until(gone)


SCENES = {
    "nothing is closed": """
        token = await tokens.get(GRAPH)
    """,
    "everything is closed": """
        async with tokens:
            await asyncio.gather(*(tokens.get(GRAPH) for _ in range(100)))
    """,
    "a flight is aloft": """
        gate = entra.hold("token")
        task = asyncio.ensure_future(tokens.get(GRAPH))
        await asyncio.to_thread(gate.wait_for, 1)
        threading.Timer(0.05, gate.release).start()
    """,
    "everybody has left a flight": """
        gate = entra.hold("token")
        tasks = [asyncio.ensure_future(tokens.get(GRAPH)) for _ in range(10)]
        await asyncio.to_thread(gate.wait_for, 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        threading.Timer(0.05, gate.release).start()
    """,
    "a refresh is aloft that will never be answered": """
        token = await tokens.get(GRAPH)
        clock.advance(3400)
        entra.fault("token", hang=True)
        assert (await tokens.get(GRAPH)).value == token.value
        while entra.count("token") < 2:
            await asyncio.sleep(0)
    """,
    "a sign-in waits for its person": """
        shown = asyncio.Event()
        tokens = people(lambda prompt: shown.set())
        task = asyncio.ensure_future(tokens.get("User.Read"))
        await shown.wait()
    """,
    "a failure was not looked at": """
        entra.fault("token", reset=True)
        task = asyncio.ensure_future(tokens.get(GRAPH))
        await asyncio.wait([task])
        task.exception()
    """,
    "the manager is dropped before the end": """
        await tokens.get(GRAPH)
        del tokens
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
    """,
}

PROGRAM = """
import asyncio, gc, logging, sys, threading
from aiomsal import ConfidentialClient, DeviceCode, PublicClient, TokenManager
from aiomsal.testing import FakeClock, FakeEntra

GRAPH = "https://graph.microsoft.com/.default"
logging.getLogger("aiomsal").addHandler(logging.NullHandler())  # a refresh that failed may be logged
clock = FakeClock()
entra = FakeEntra(clock=clock)

async def main(server):
    app, program = entra.add_application(), entra.add_application(public=True)
    common = {{
        "authority": server.authority(), "ca_file": server.ca_file, "instance_discovery": False, "clock": clock,
        "timeout": (5.0, 1.0),
    }}
    tokens = TokenManager(ConfidentialClient(app.client_id, app.client_secret, **common), clock=clock)

    def people(on_code):
        return TokenManager(PublicClient(program.client_id, sign_in=DeviceCode(on_code), **common), clock=clock)

{scene}

def run():
    with entra.serve() as server:
{runner}
        print("the loop has ended")
    entra.close()

run()
gc.collect()
print("the program has ended")
"""

LOOPS = {
    "asyncio": "asyncio.run(main(server))",
    "asyncio, debugging": "asyncio.run(main(server), debug=True)",
    "uvloop": """
import uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(server))""",
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scene", SCENES)
def test_the_interpreter_exits_without_a_word_although(scene: str, loop: str) -> None:
    """Warnings are printed, ResourceWarning and "Task was destroyed" among them, and a thread that stays would hang."""
    if loop != "asyncio" and scene in ("nothing is closed", "everything is closed"):
        pytest.skip("one loop says it all")
    program = PROGRAM.format(
        scene=textwrap.indent(textwrap.dedent(SCENES[scene]), "    "), runner=textwrap.indent(LOOPS[loop], " " * 8)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always", "-W", "ignore::ImportWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environment,
    )
    words = [line for line in done.stderr.splitlines() if "Executing <" not in line]
    assert (done.returncode, words) == (0, [])
    assert done.stdout.split("\n")[:2] == ["the loop has ended", "the program has ended"]
