"""The scripted client: a test says when and how each acquisition ends."""

from __future__ import annotations

import threading

import anyio
import pytest

from aiomsal import AuthorityUnavailable, SignInError
from aiomsal._client import Attempt, PeopleClient, SignInClient, WebSignInClient
from aiomsal.testing._scripted import ScriptedClient, ScriptedUserClient, script_of
from tests.core.manager_support import ALICE, BOB, START, Call, Rig, people, settle


async def test_each_acquisition_parks_until_it_is_landed() -> None:
    client = ScriptedClient(clock=lambda: START)
    request = client.request(("a",), {})
    async with anyio.create_task_group() as group:
        calls, acquisitions = [], []
        for _ in range(3):
            calls.append(Call(group, client.acquire, request, None))  # type: ignore[arg-type]
            acquisitions.append(await client.acquisition())
        assert client.parked == client.acquisitions == acquisitions
        assert repr(acquisitions[0]) == "<acquisition 1 of a, parked>"
        token = acquisitions[1].land("t", expires_in=10.0, refresh_in=5.0)
        await settle()
        assert [call.outcome is None for call in calls] == [True, False, True]
        assert (token.expires_at, token.refresh_at, token.obtained_at) == (START + 10, START + 5, START)
        assert client.parked == [acquisitions[0], acquisitions[2]]
        acquisitions[0].fail(AuthorityUnavailable("down"))
        acquisitions[2].land()
    assert isinstance(calls[0].error, AuthorityUnavailable)
    assert (acquisitions[0].over, client.parked) == (True, [])
    assert repr(acquisitions[0]) == "<acquisition 1 of a, over>"


async def test_an_acquisition_ends_once() -> None:
    rig = Rig(script=script_of())
    await rig.tokens.get("a")
    with pytest.raises(RuntimeError, match="has ended already"):
        rig.client.acquisitions[0].land()


async def test_one_may_wait_for_the_next_acquisition_before_it_begins() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        waiting = Call(group, rig.client.acquisition)
        await settle()
        call = Call(group, rig.tokens.get, "a")
        await settle()
        waiting.outcome.land()  # type: ignore[union-attr]
    assert call.value == "token-1"


async def test_a_cancelled_acquisition_is_no_longer_parked_unless_it_absorbs() -> None:
    for absorbs in (False, True):
        client = ScriptedClient(absorbs=absorbs)
        request = client.request(("a",), {})
        async with anyio.create_task_group() as group:
            call = Call(group, client.acquire, request, None)  # type: ignore[arg-type]
            acquisition = await client.acquisition()
            call.scope.cancel()
            await settle()
            assert bool(client.parked) is absorbs
            if absorbs:
                acquisition.land()
        assert client.parked == []


async def test_an_acquisition_can_be_landed_from_another_thread() -> None:
    rig = Rig()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "a")
        acquisition = await rig.client.acquisition()
        threading.Timer(0.01, acquisition.land).start()
    assert call.value == "token-1"


async def test_a_script_ends_each_acquisition_as_it_begins() -> None:
    assert (await Rig(script=script_of(expires_in=5.0)).tokens.get("a")).value == "token-1"
    with pytest.raises(AuthorityUnavailable):
        await Rig(script=script_of(AuthorityUnavailable("down"))).tokens.get("a")


async def test_failures_are_repeated_as_often_as_was_said() -> None:
    client = ScriptedClient(retries=1)
    request = client.request(("a",), {})
    failure = AuthorityUnavailable("down")
    await client.prepare(request, Attempt(0, None, 0.0))
    await client.prepare(request, Attempt(1, failure, 0.0))
    with pytest.raises(AuthorityUnavailable):
        await client.prepare(request, Attempt(2, failure, 0.0))


def test_the_user_client_is_one_that_signs_people_in_and_the_other_is_not() -> None:
    assert isinstance(ScriptedUserClient(), SignInClient)
    assert isinstance(ScriptedUserClient(), WebSignInClient)
    assert not isinstance(ScriptedClient(), PeopleClient)


async def test_each_acquisition_of_a_user_rotates_the_refresh_token() -> None:
    rig = people()
    await rig.enrol(ALICE)
    assert rig.client.refresh_token(await rig.session(), ALICE) == "refresh-of-sign-in-1"
    await rig.hold("mail")
    assert rig.client.refresh_token(await rig.session(), ALICE) == "refresh-2"
    await rig.enrol(ALICE)  # a sign-in is newer than the acquisitions before it
    assert rig.client.refresh_token(await rig.session(), ALICE) == "refresh-of-sign-in-3"
    assert rig.client.refresh_token(await rig.session(), BOB) is None


def test_merging_keeps_the_newer_refresh_token_and_lets_only_sign_ins_add() -> None:
    client = ScriptedUserClient()
    old, new = (client.sign_in_session(ALICE, f"r{version}", version) for version in (1, 2))
    bob = client.sign_in_session(BOB, "b", 1)
    assert client.merge(old, new, sign_in=False) == client.merge(new, old, sign_in=False) == new
    assert client.accounts(client.merge(old, bob, sign_in=False)) == (ALICE,)
    both = client.merge(old, bob, sign_in=True)
    assert client.accounts(both) == (ALICE, BOB)
    assert client.without(both, BOB.home_account_id) == old
    assert client.without(old, ALICE.home_account_id) is None


async def test_a_failed_sign_in_raises_what_the_test_said() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail")
        (await rig.client.sign_ins.acquisition()).fail(SignInError("refused"))
    assert isinstance(call.error, SignInError)
