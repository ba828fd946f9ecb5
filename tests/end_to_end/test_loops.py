"""One manager, many event loops: in threads at once, one after another, and in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal import AuthorityUnavailable, Token

from .support import (
    GRAPH,
    PATIENCE,
    VAULT,
    approving,
    arrived,
    crowd,
    landed,
    one_token,
    run_asyncio,
    run_trio,
    run_uvloop,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support import House

RUNNERS = [run_asyncio, run_uvloop, run_trio]


def in_threads(functions: list[Callable[[], Any]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "somebody waits for ever"


def aboard(tokens: Any) -> int:
    return sum(not seat.done() for flight in tokens._flights._flights() for seat in list(flight.passengers))


@pytest.mark.parametrize("fails", [False, True])
def test_six_cold_loops_of_three_kinds_share_one_request_and_its_end(fails: bool, house: House) -> None:
    tokens = house.service()
    outcomes: list[Any] = []
    start = threading.Barrier(6)

    async def caller() -> None:
        start.wait()
        outcomes.extend(await crowd(50, tokens.get, GRAPH))

    if fails:
        house.entra.fault("token", status=503)
    with house.entra.hold("token") as gate:
        threads = in_threads([lambda run=run: run(caller) for run in RUNNERS * 2])  # type: ignore[misc]
        run_asyncio(arrived, gate)
        run_asyncio(until, lambda: aboard(tokens) == 300)
        assert gate.waiting == 1
    join(threads)
    assert len(outcomes) == 300
    if fails:
        assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
        assert house.entra.count("token") == 3
    else:
        one_token(outcomes)
        assert house.entra.count("token") == 1
    assert house.entra.count("discovery") == 1


@pytest.mark.parametrize("flying", RUNNERS)
def test_a_loop_that_ends_in_flight_leaves_the_others_with_its_token(flying: Any, house: House) -> None:
    """The thread has the answer, and the loop that ends waits for it: nobody has to ask again."""
    tokens = house.service()
    outcomes: list[Any] = []

    async def leader() -> None:
        import anyio

        with anyio.move_on_after(0):  # a flight is launched when somebody asks, and nobody stays
            await tokens.get(GRAPH)
        await arrived(gate)
        await until(lambda: aboard(tokens) == 40)

    async def caller() -> None:
        outcomes.extend(await crowd(20, tokens.get, GRAPH))

    with house.entra.hold("token") as gate:
        first = in_threads([lambda: flying(leader)])
        run_asyncio(arrived, gate)
        others = in_threads([lambda: run_asyncio(caller), lambda: run_trio(caller)])
        run_asyncio(until, lambda: aboard(tokens) == 40)
    join([*first, *others])
    one_token(outcomes)
    assert len(outcomes) == 40
    assert house.entra.count("token") == 1


def test_loops_one_after_another_share_the_token_and_refresh_it(house: House) -> None:
    tokens = house.service()
    source = tokens.source(GRAPH)
    seen = [run(tokens.get, GRAPH) for run in RUNNERS] + [run(source.get) for run in RUNNERS]
    one_token(seen)
    assert house.entra.count("token") == 1
    for number, run in enumerate([*RUNNERS, *RUNNERS], start=2):
        house.clock.advance(3600)
        token = run(source.get)
        assert isinstance(token, Token)
        assert token.expires_at == house.clock() + 3600
        assert house.entra.count("token") == number
    assert house.entra.count("discovery") == 1


@pytest.mark.parametrize("run", RUNNERS)
def test_a_loop_that_ends_right_after_a_stale_hit_gets_its_refresh_home(run: Any, house: House) -> None:
    tokens = house.service()
    old = run(tokens.get, GRAPH)
    house.clock.advance(3400)

    async def touch() -> Token:
        token = await tokens.get(GRAPH)
        await until(lambda: house.entra.count("token") == 2)
        return token

    assert run(touch).value == old.value
    assert tokens.stats().flights == 0
    new = run(tokens.get, GRAPH)
    assert new.value != old.value
    assert (house.entra.count("token"), tokens.stats().refresh_failed) == (2, 0)


def test_a_loop_that_ends_at_once_after_a_stale_hit_harms_nobody(house: House) -> None:
    tokens = house.service()
    old = run_asyncio(tokens.get, GRAPH)
    house.clock.advance(3400)
    for run in RUNNERS * 3:
        assert isinstance(run(tokens.get, GRAPH), Token)
    house.clock.set(old.expires_at)
    assert run_asyncio(tokens.get, GRAPH).value != old.value

    async def nothing_is_aloft() -> None:
        await landed(tokens)

    run_asyncio(nothing_is_aloft)


def test_sixty_loops_in_three_threads_need_one_sign_in(house: House) -> None:
    person = approving(house.entra)
    tokens = house.program(person)
    house.entra.configure(rotation="strict")
    outcomes: list[Any] = []

    def many(run: Any) -> None:
        outcomes.extend(run(tokens.get, f"Scope.{number % 5}") for number in range(20))

    join(in_threads([lambda run=run: many(run) for run in RUNNERS]))  # type: ignore[misc]
    assert len(outcomes) == 60
    assert len({token.value for token in outcomes}) == 5
    assert len(person.prompts) == 1
    assert house.entra.count("token") == house.entra.count("token.device_code") + 4


FORK = """
import asyncio, os, sys, warnings
from aiomsal import ConfidentialClient, TokenManager
from aiomsal.testing import FakeEntraProcess

warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process that has threads

async def parent(entra, tokens):
    held = await tokens.get("api://held/.default")
    with entra.hold("token") as gate:
        aloft = asyncio.ensure_future(tokens.get("api://aloft/.default"))
        await asyncio.to_thread(gate.wait_for, 1)
        pid = os.fork()
        if pid == 0:
            asyncio._set_running_loop(None)
            asyncio.set_event_loop(None)
            try:
                asyncio.run(child(entra, tokens, held))
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        gate.wait_for(4)  # the child's three, beside ours
    status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert (await aloft).value
    await asyncio.gather(*(tokens.get(f"api://after-{n}/.default") for n in range(3)))
    counts = entra.count("token"), entra.count("discovery")
    assert counts == (8, 2), counts
    return os.waitstatus_to_exitcode(status[1])

async def child(entra, tokens, held):
    assert (await tokens.get("api://held/.default")).value == held.value
    names = ["aloft", "new", "other"]
    got = await asyncio.gather(*(tokens.get(f"api://{name}/.default") for name in names for _ in range(10)))
    assert len({token.value for token in got}) == 3
    assert tokens.stats().flights == 0

def main():
    with FakeEntraProcess() as entra:
        app = entra.add_application()
        tokens = TokenManager(ConfidentialClient(
            app.client_id, app.client_secret, authority=entra.authority(), ca_file=entra.ca_file,
            instance_discovery=False,
        ))
        return asyncio.run(parent(entra, tokens))

sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_asks_for_itself_and_leaves_its_parent_s_connections_alone() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_thousand_distinct_keys_cold_at_once_are_a_thousand_requests_and_none_is_lost(house: House) -> None:
    tokens = house.service()
    names = [f"api://resource-{number}/.default" for number in range(1000)]
    outcomes: list[Any] = []

    import anyio

    async def one(name: str) -> None:
        outcomes.append(await tokens.get(name))

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, name)
    assert len({token.value for token in outcomes}) == 1000
    assert (house.entra.count("token"), house.entra.count("discovery")) == (1000, 1)
    assert (await tokens.get(VAULT)).value
