"""The hop to the worker threads: shared by loops, made anew after a fork, gone with its owner."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import aiomsal
from aiomsal import AuthorityError

from .helpers import GRAPH, acquire, confidential, public, signed_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiomsal._client import Acquired
    from aiomsal.testing import Application, FakeEntra

pytestmark = pytest.mark.anyio


async def test_cancelled_while_the_authority_thinks_it_returns_the_answer_all_the_same(
    fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(rotation="strict")
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    got: list[Acquired] = []

    async def fly() -> None:
        got.append(await acquire(client, "Mail.Read", session=session))

    async with anyio.create_task_group() as tasks:
        with fake_entra.hold("token.refresh_token") as gate:
            tasks.start_soon(fly)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            tasks.cancel_scope.cancel()
    assert len(got) == 1
    assert (await acquire(client, "Mail.Read", session=got[0].session)).token, "the rotated refresh token works"


async def test_cancelled_before_a_thread_was_free_nothing_is_sent(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service, threads=1)
    await acquire(client, GRAPH)
    with fake_entra.hold("token") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(acquire, client, GRAPH)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            with anyio.move_on_after(0.01) as scope:
                await acquire(client, GRAPH)
            assert scope.cancelled_caught
            gate.release()
    assert fake_entra.count("token") == 2


async def test_no_more_requests_are_under_way_than_there_are_threads(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service, threads=3)
    await acquire(client, GRAPH)
    most = 0
    with fake_entra.hold("token") as gate:
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(acquire, client, GRAPH)
            for _ in range(3):
                await anyio.to_thread.run_sync(gate.wait_for, 3)
                most = max(most, gate.waiting)
                gate.release(3)
    assert most == 3


async def test_a_sign_in_needs_no_thread_that_a_silent_call_waits_for(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program, threads=1)
    session = (await signed_in(fake_entra, client)).session
    with fake_entra.hold("token.device_code") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.sign_in, client.sign_in_request(("User.Read",), {}))
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            assert (await acquire(client, "Mail.Read", session=session)).token
            gate.release()


async def test_an_error_brings_no_frame_of_the_worker_thread(fake_entra: FakeEntra, service: Application) -> None:
    with pytest.raises(AuthorityError) as caught:
        await acquire(confidential(fake_entra, service, "wrong"), GRAPH)
    frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)}
    assert not {"_held", "work"} & frames, "their variables are the session and its secrets"


async def test_what_msal_stumbles_over_is_told_with_its_place_in_the_code(
    fake_entra: FakeEntra, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msal

    def stumble(*_args: Any, **_options: Any) -> Any:
        raise KeyError("what is this")

    client = confidential(fake_entra, service)
    await acquire(client, GRAPH)
    monkeypatch.setattr(msal.ConfidentialClientApplication, "acquire_token_for_client", stumble)
    with pytest.raises(AuthorityError, match="what is this") as caught:
        await acquire(client, GRAPH)
    cause = caught.value.__cause__
    assert cause is not None
    assert str(cause) == "builtins.KeyError: 'what is this'"
    assert cause.__traceback__ is None
    assert "in stumble" in cause.__notes__[0]


def test_loops_in_threads_share_one_application(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    tokens: list[str] = []

    def run() -> None:
        tokens.append(asyncio.run(acquire(client, GRAPH)).token.value)

    with fake_entra.hold("discovery") as gate:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.wait_for(1)
        gate.release()
        for thread in threads:
            thread.join()
    assert len(set(tokens)) == 4
    assert fake_entra.count("discovery") == 1


def test_loops_one_after_another_share_one_application(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    for _ in range(3):
        asyncio.run(acquire(client, GRAPH))
    assert fake_entra.count("discovery") == 1


def test_a_loop_that_ends_while_the_application_is_built_leaves_the_next_one_no_trouble(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service)

    async def impatient() -> None:
        task = asyncio.ensure_future(acquire(client, GRAPH))
        await asyncio.to_thread(gate.wait_for, 1)
        task.cancel()

    with fake_entra.hold("discovery") as gate:
        asyncio.run(impatient())
        gate.release()
        assert asyncio.run(acquire(client, GRAPH)).token


async def test_the_threads_end_with_the_client_that_made_them(fake_entra: FakeEntra, service: Application) -> None:
    before = set(threading.enumerate())
    client = confidential(fake_entra, service)
    await acquire(client, GRAPH)
    mine = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("aiomsal")}
    assert mine
    gone = weakref.ref(client)
    del client
    await settled(lambda: gone() is None)
    await settled(lambda: not any(thread.is_alive() for thread in mine))


async def settled(condition: Callable[[], bool]) -> None:
    """Let what has been set off come to its end; a bound in turns would depend on the machine, so it is in seconds."""
    with anyio.fail_after(10):
        while not condition():
            gc.collect()
            await anyio.sleep(0.001)


def test_two_calls_do_not_see_each_other_s_session(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)

    async def both() -> None:
        ann = await signed_in(fake_entra, client)
        ben = await signed_in(fake_entra, client, "ben@home.example")
        results: dict[str, Any] = {}

        async def one(name: str, session: bytes | None) -> None:
            results[name] = await acquire(client, "Mail.Read", session=session)

        with fake_entra.hold("token.refresh_token") as gate:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, "ann", ann.session)
                tasks.start_soon(one, "ben", ben.session)
                await anyio.to_thread.run_sync(gate.wait_for, 2)
                gate.release()
        for name, result in results.items():
            assert [who.username for who in client.accounts(result.session)] == [f"{name}@home.example"]

    asyncio.run(both())


FORK = """
    import asyncio, os, sys
    from aiomsal.testing import FakeEntra
    from tests.clients.helpers import GRAPH, acquire, confidential

    entra = FakeEntra()
    client = confidential(entra, entra.add_application())
    asyncio.run(acquire(client, GRAPH))
    process = client._desk._here()
    process.gate._lock.acquire()       # as some thread of the parent may hold them when it forks
    process._lock.acquire()
    asked = entra.count("discovery")
    pid = os.fork()
    if pid == 0:
        token = asyncio.run(asyncio.wait_for(acquire(client, GRAPH), 20)).token
        os._exit(0 if token and entra.count("discovery") == asked + 1 else 1)
    _, status = os.waitpid(pid, 0)
    process.gate._lock.release()
    process._lock.release()
    asyncio.run(acquire(client, GRAPH))
    sys.exit(os.waitstatus_to_exitcode(status) or entra.count("discovery") != asked)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_child_makes_its_own_threads_locks_and_connections() -> None:
    root = Path(__file__).parents[2]
    paths = [str(root), str(Path(aiomsal.__file__).parents[1])]
    program = f"import sys; sys.path[:0] = {paths!r}\n{textwrap.dedent(FORK)}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


def test_neither_msal_nor_requests_is_imported_before_a_worker_thread_needs_it() -> None:
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(aiomsal.__file__).parents[1])!r})\n"
        "from aiomsal.clients.confidential import ConfidentialClient\n"
        "from aiomsal.clients.credentials import Assertion, Certificate\n"
        "from aiomsal.clients.public import PublicClient\n"
        "from aiomsal.sign_in.device_code import DeviceCode\n"
        "client = ConfidentialClient('a', Certificate('x.pem'), tenant='t')\n"
        "client.request(('https://graph.microsoft.com/.default',), {})\n"
        "PublicClient('a', sign_in=DeviceCode(print)).request(('User.Read',), {})\n"
        "print(*{'msal', 'requests', 'cryptography', 'jwt', 'urllib3'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
