"""What a caller passes is read when the call is made; and nobody gets what was asked for before they acted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msal as real
import pytest

from aiomsal.testing import EntraError

from .support import ANN, BEN, GRAPH, MAIL, Desk, arrived, confidential, outcome, public, signed_in, token

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

REFRESH = "token.refresh_token"


def user_of(result: Any) -> str:
    return str(result["id_token_claims"]["preferred_username"])


async def test_an_account_that_the_first_caller_changes_meanwhile_is_still_the_one_that_all_asked_for(
    fake_entra: FakeEntra, program: Application
) -> None:
    cache = real.TokenCache()
    before = public(fake_entra, program, token_cache=cache)
    ann, ben = await signed_in(fake_entra, before), await signed_in(fake_entra, before, BEN)
    app = public(fake_entra, program, token_cache=cache)  # the first call builds it, which takes a while
    current = dict(ann)
    leader = asyncio.ensure_future(app.acquire_token_silent(MAIL, current, force_refresh=True))
    await asyncio.sleep(0)
    current.clear()
    current.update(ben)
    follower = await app.acquire_token_silent(MAIL, dict(ann), force_refresh=True)
    assert user_of(follower) == user_of(await leader) == ANN
    assert fake_entra.count(REFRESH) == 1


async def test_scopes_and_data_are_those_of_the_moment_of_the_call(fake_entra: FakeEntra, service: Application) -> None:
    desk = Desk(fake_entra, lambda data: (200, token(f"{data['scope']} {data['x']}")))
    app = confidential(fake_entra, service, http_client=desk)
    scopes, data = list(GRAPH), {"x": "1"}
    leader = asyncio.ensure_future(app.acquire_token_for_client(scopes, data=data))
    await asyncio.sleep(0)
    scopes[0], data["x"] = "https://vault.azure.net/.default", "2"
    assert (await leader)["access_token"] == f"{GRAPH[0]} 1"


async def test_a_credential_that_is_used_again_for_another_application_stays_the_first_ones_own(
    fake_entra: FakeEntra, service: Application
) -> None:
    desk = Desk(fake_entra, lambda data: (200, token(data["client_assertion"])))
    credential = {"client_assertion": lambda: "of A"}
    app = confidential(fake_entra, service, http_client=desk, client_credential=credential)
    credential["client_assertion"] = lambda: "of B"
    assert (await app.acquire_token_for_client(GRAPH))["access_token"] == "of A"


async def test_an_assertion_that_cannot_be_awaited_is_refused_at_once(
    fake_entra: FakeEntra, service: Application
) -> None:
    async def assertion() -> str:
        return "of A"

    with pytest.raises(TypeError, match="worker thread"):
        confidential(fake_entra, service, client_credential={"client_assertion": assertion})


async def test_whoever_has_signed_in_again_is_not_told_of_the_old_refresh(
    fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(expires_in=299)  # for MSAL that is no token any more
    app = public(fake_entra, program)
    ann = await signed_in(fake_entra, app)
    fake_entra.configure(expires_in=3600)
    fake_entra.fault(REFRESH, error=EntraError(50173), times=1)
    with fake_entra.hold(REFRESH) as gate:
        old = asyncio.ensure_future(app.acquire_token_silent_with_error(MAIL, ann))
        await arrived(gate)
        await signed_in(fake_entra, app)
        fresh = await app.acquire_token_silent_with_error(MAIL, ann)
        assert fresh is not None
        assert fresh["token_source"] == "cache"
    assert (await old)["error"] == "invalid_grant"  # type: ignore[index]
    assert fake_entra.count(REFRESH) == 1


async def test_a_device_code_is_polled_for_though_its_dict_is_used_again(
    fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(device_code_interval=1)
    app = public(fake_entra, program)
    flow = await app.initiate_device_flow(MAIL)
    first = dict(flow)
    leader = asyncio.ensure_future(outcome(app.acquire_token_by_device_flow(flow)))
    await asyncio.sleep(0)
    follower = asyncio.ensure_future(app.acquire_token_by_device_flow(dict(first)))
    await asyncio.sleep(0)
    flow.update(await app.initiate_device_flow(MAIL))
    fake_entra.approve_device_code(flow["user_code"], BEN)
    fake_entra.approve_device_code(first["user_code"], ANN)
    assert user_of(await follower) == ANN
    await leader


@pytest.mark.timeout(30)
def test_a_removal_on_a_loop_that_stands_still_holds_up_nobody(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann = asyncio.run(signed_in(fake_entra, app))
    loop = asyncio.new_event_loop()
    gate = fake_entra.hold(REFRESH)

    async def left_in_flight() -> list[asyncio.Future[Any]]:
        refresh = asyncio.ensure_future(app.acquire_token_silent(MAIL, ann, force_refresh=True))
        await arrived(gate)
        removal = asyncio.ensure_future(app.remove_account(ann))
        await arrived(gate)
        return [refresh, removal]

    left = loop.run_until_complete(left_in_flight())
    gate.release()
    assert asyncio.run(app.acquire_token_silent(MAIL, ann)) is not None
    asyncio.run(app.remove_account(ann))
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
    assert asyncio.run(app.get_accounts()) == []
