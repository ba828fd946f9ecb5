"""How many requests a crowd of callers makes, by all there is between a manager and the authority."""

from __future__ import annotations

import asyncio
import gc
from logging import ERROR
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import AuthorityError, AuthorityUnavailable, InvalidClient, Throttled, Token, TokenManager
from aiomsal.testing import EntraError

from .helpers import GRAPH, confidential, public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiomsal.testing import Application, FakeEntra

pytestmark = pytest.mark.anyio

CALLERS = 50
MAIL = "Mail.Read"


async def crowd(get: Callable[[], Any]) -> set[Any]:
    """What the callers get: tokens, or the kinds of their errors."""
    got: list[Any] = []

    async def call() -> None:
        try:
            got.append(await get())
        except AuthorityError as error:
            got.append(type(error))

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(call)
    assert len(got) == CALLERS
    return set(got)


class Unreadable:
    """An authority whose answers to requests for tokens are pages of this status."""

    def __init__(self, entra: FakeEntra, status: int) -> None:
        self._client, self._status = entra.http_client(), status

    def get(self, url: str, **options: Any) -> Any:
        return self._client.get(url, **options)

    def post(self, url: str, **options: Any) -> Any:
        response = self._client.post(url, **options)
        response.status_code, response.text = self._status, "<html>"
        return response


FAULTS: list[tuple[dict[str, Any], type[Exception], int]] = [
    # answers, usable or not
    ({"status": 400}, AuthorityUnavailable, 1),
    ({"status": 404}, AuthorityUnavailable, 1),
    ({"garbage": True}, AuthorityUnavailable, 1),
    ({"error": EntraError(7000215)}, InvalidClient, 1),
    ({"error": EntraError(500011)}, AuthorityError, 1),
    ({"error": EntraError(70011, status=403)}, AuthorityError, 1),
    # no answer, or "later"
    ({"status": 408}, AuthorityUnavailable, 3),
    ({"status": 500}, AuthorityUnavailable, 3),
    ({"status": 503}, AuthorityUnavailable, 3),
    ({"status": 503, "retry_after": 0}, AuthorityUnavailable, 3),
    ({"status": 429, "retry_after": 0}, Throttled, 3),
    ({"reset": True}, AuthorityUnavailable, 3),
    ({"hang": True}, AuthorityUnavailable, 3),
]


@pytest.mark.parametrize(("fault", "kind", "requests"), FAULTS, ids=str)
async def test_a_crowd_of_an_application_s_callers_makes_the_requests_of_one_flight(
    fault: dict[str, Any], kind: type[Exception], requests: int, fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service, http_client=fake_entra.http_client(timeout=0.05))
    tokens = TokenManager(client)
    fake_entra.fault("token", **fault)
    assert await crowd(lambda: tokens.get(GRAPH)) == {kind}
    assert fake_entra.count("token") == requests
    fake_entra.clear_faults("token")
    (token,) = await crowd(lambda: tokens.get(GRAPH))
    assert isinstance(token, Token), "and nothing is remembered of that"
    assert fake_entra.count("token") == requests + 1


@pytest.mark.parametrize(("fault", "kind", "requests"), FAULTS, ids=str)
async def test_a_crowd_of_a_user_s_callers_makes_the_requests_of_one_flight(
    fault: dict[str, Any], kind: type[Exception], requests: int, fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program, http_client=fake_entra.http_client(timeout=0.05))
    tokens = TokenManager(client)
    fake_entra.configure(auto_approve="ann@home.example", device_code_interval=0, rotation="strict")
    await tokens.sign_in("User.Read")
    fake_entra.fault("token.refresh_token", **fault)
    assert await crowd(lambda: tokens.get_silent(MAIL)) == {kind}
    assert fake_entra.count("token.refresh_token") == requests
    fake_entra.clear_faults("token")
    (token,) = await crowd(lambda: tokens.get_silent(MAIL))
    assert isinstance(token, Token)
    assert fake_entra.count("token.refresh_token") == requests + 1


@pytest.mark.parametrize(("status", "requests"), [(200, 1), (400, 1), (403, 1), (408, 3), (500, 3), (502, 3)])
async def test_a_page_instead_of_an_answer_is_asked_for_again_by_its_status_alone(
    status: int, requests: int, fake_entra: FakeEntra, service: Application
) -> None:
    tokens = TokenManager(confidential(fake_entra, service, http_client=Unreadable(fake_entra, status)))
    assert await crowd(lambda: tokens.get(GRAPH)) == {AuthorityUnavailable}
    assert fake_entra.count("token") == requests


async def test_a_crowd_whose_first_caller_is_cancelled_makes_one_request(
    fake_entra: FakeEntra, service: Application
) -> None:
    tokens = TokenManager(confidential(fake_entra, service))
    with fake_entra.hold("token") as gate:
        async with anyio.create_task_group() as tasks:
            leader = anyio.CancelScope()

            async def lead() -> None:
                with leader:
                    await tokens.get(GRAPH)

            async def follow() -> None:
                (token,) = await crowd(lambda: tokens.get(GRAPH))
                assert isinstance(token, Token)

            tasks.start_soon(lead)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            tasks.start_soon(follow)
            await anyio.lowlevel.checkpoint()
            leader.cancel()
            await anyio.lowlevel.checkpoint()
            gate.release()
    assert leader.cancelled_caught
    assert fake_entra.count("token") == 1


@pytest.fixture
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No complaint of asyncio's about a task or a future that nobody asked how it ended."""
    yield
    gc.collect()
    said = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in said if record.name == "asyncio" and record.levelno >= ERROR] == []


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("fault", [{}, {"status": 400}, {"reset": True}, {"hang": True}], ids=str)
async def test_what_comes_after_the_passengers_were_let_go_is_nobody_s_error(
    fault: dict[str, Any], fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service, http_client=fake_entra.http_client(timeout=0.4))
    await TokenManager(client).get(GRAPH)
    fake_entra.forget_requests()
    tokens = TokenManager(client, acquire_timeout=0.2)
    with fake_entra.hold("token") as gate:
        if fault:
            fake_entra.fault("token", **fault)
        assert await crowd(lambda: tokens.get(GRAPH)) == {AuthorityUnavailable}
        gate.release()
        await tokens.aclose()
    assert fake_entra.count("token") == 1
    assert tokens.stats().flights == 0


@pytest.mark.usefixtures("no_complaints")
async def test_a_sign_in_that_all_leave_is_nobody_s_error(fake_entra: FakeEntra, program: Application) -> None:
    tokens = TokenManager(public(fake_entra, program))
    with fake_entra.hold("devicecode") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd, lambda: tokens.get(MAIL))
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            tasks.cancel_scope.cancel()
        assert tokens.stats().flights == 0
        fake_entra.fault("devicecode", status=500)
    await tokens.aclose()


@pytest.mark.usefixtures("no_complaints")
def test_a_loop_that_ends_amid_a_request_is_nobody_s_error(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    asyncio.run(TokenManager(client).get(GRAPH))
    fake_entra.forget_requests()
    fake_entra.fault("token", reset=True)

    async def main() -> None:
        with fake_entra.hold("token") as gate:
            leaving = asyncio.create_task(TokenManager(client).get(GRAPH))
            await asyncio.to_thread(gate.wait_for, 1)
            leaving.cancel()

    asyncio.run(main(), debug=True)
    assert fake_entra.count("token") == 1
