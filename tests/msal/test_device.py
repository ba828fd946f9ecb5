"""The device flow: single polls, the waiting on the loop, one poll for all who wait for the same code."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.msal import _device

from .support import ANN, BEN, MAIL, crowd, public, settled

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeClock, FakeEntra

POLLS, CODES = "token.device_code", "devicecode"


class Waits:
    """A sleep that lasts until the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.end = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.begun.set()
        await self.end.wait()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    waits = Waits()
    monkeypatch.setattr(_device, "sleep", waits)
    return waits


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(_device, "sleep", sleep)


async def test_a_code_that_is_approved_is_a_token(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    assert flow["message"]
    assert flow["_correlation_id"]
    fake_entra.approve_device_code(flow["user_code"], ANN)
    result = await app.acquire_token_by_device_flow(flow)
    assert result["id_token_claims"]["preferred_username"] == ANN
    assert result["token_source"] == "identity_provider"
    assert flow["latest_attempt_at"] > 0


async def test_all_who_wait_for_a_code_are_one_poll(fake_entra: FakeEntra, program: Application, waits: Waits) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    waiting = asyncio.ensure_future(crowd(lambda: app.acquire_token_by_device_flow(flow)))
    await waits.begun.wait()
    await settled()
    assert (fake_entra.count(POLLS), waits.slept) == (1, [1])
    fake_entra.approve_device_code(flow["user_code"], ANN)
    flow["interval"] = 1
    waits.end.set()
    fake_entra.configure(device_code_interval=0)
    results = await waiting
    assert len({each["access_token"] for each in results}) == 1
    assert results[0] is not results[1]


async def test_two_codes_are_two(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    flows = [await app.initiate_device_flow(MAIL) for _ in range(2)]
    for flow, user in zip(flows, (ANN, BEN), strict=True):
        fake_entra.approve_device_code(flow["user_code"], user)
    results = await asyncio.gather(*[app.acquire_token_by_device_flow(flow) for flow in flows])
    assert [each["id_token_claims"]["preferred_username"] for each in results] == [ANN, BEN]


async def test_when_the_last_who_waits_leaves_the_polling_stops(
    fake_entra: FakeEntra, program: Application, waits: Waits
) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    calls = [asyncio.ensure_future(app.acquire_token_by_device_flow(flow)) for _ in range(2)]
    await waits.begun.wait()
    calls[0].cancel()
    await settled()
    assert len(app._desk._here().sign_ins) == 1
    calls[1].cancel()
    await asyncio.wait(calls)
    waits.end.set()
    await settled()
    assert len(app._desk._here().sign_ins) == 0
    assert fake_entra.count(POLLS) == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_callers_exit_condition_is_asked_each_second(
    is_async: bool, fake_entra: FakeEntra, program: Application, no_waits: None
) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    asked: list[Any] = []

    def enough(seen: dict[str, Any]) -> bool:
        asked.append(seen)
        return len(asked) == 3

    async def enough_awaited(seen: dict[str, Any]) -> bool:
        return enough(seen)

    result = await app.acquire_token_by_device_flow(flow, exit_condition=enough_awaited if is_async else enough)
    assert result["error"] == "authorization_pending"
    assert [each is flow for each in asked] == [True] * 3
    assert fake_entra.count(POLLS) == 1


async def test_a_flow_that_its_caller_expires_ends(fake_entra: FakeEntra, program: Application, waits: Waits) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    call = asyncio.ensure_future(app.acquire_token_by_device_flow(flow))
    await waits.begun.wait()
    flow["expires_at"] = 0
    waits.end.set()
    assert (await call)["error"] == "authorization_pending"


async def test_slow_down_changes_the_flow_as_msal_does(
    fake_entra: FakeEntra, program: Application, no_waits: None
) -> None:
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MSAL's: too soon
        for _ in range(2):
            result = await app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
    assert result["error"] == "slow_down"
    assert flow["interval"] == 10


async def test_an_interval_of_nothing_does_not_poll_without_end(
    fake_entra: FakeEntra, program: Application, no_waits: None
) -> None:
    fake_entra.configure(device_code_interval=0)
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    assert flow["interval"] == 0
    result = await app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
    assert result["error"] == "authorization_pending"
    assert (flow["interval"], fake_entra.count(POLLS)) == (0, 1)


async def test_a_code_that_is_denied_or_expired_is_msals_dict(
    fake_clock: FakeClock, fake_entra: FakeEntra, program: Application
) -> None:
    app = public(fake_entra, program)
    denied, expired = [await app.initiate_device_flow(MAIL) for _ in range(2)]
    fake_entra.deny_device_code(denied["user_code"])
    assert (await app.acquire_token_by_device_flow(denied))["error"] == "authorization_declined"
    fake_clock.advance(3600)
    assert (await app.acquire_token_by_device_flow(expired))["error"] == "expired_token"


async def test_the_claims_challenge_arrives(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    claims = '{"id_token":{"acr":{"essential":true}}}'
    flow = await app.initiate_device_flow(MAIL)
    await app.acquire_token_by_device_flow(flow, claims, exit_condition=lambda _: True)
    assert fake_entra.requests[-1].claims == claims


async def test_a_flow_without_a_code_is_msals_error(fake_entra: FakeEntra, program: Application) -> None:
    with pytest.raises(KeyError, match="device_code"):
        await public(fake_entra, program).acquire_token_by_device_flow({})
