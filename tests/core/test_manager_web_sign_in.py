"""Web applications: a sign-in that is begun here and completed there, once; and a session for each user."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import Account, InteractionRequired, MemoryStore, SignInError, SignInFlow, TenantProfile, Token
from aiomsal.testing import ScriptedUserClient
from tests.core.manager_support import ALICE, BOB, Call, Rig, SharedStore, at_once, people, settle

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = "https://app.example/signed-in"


def web(**options: Any) -> Rig:
    return people(can_ask=False, one_session=False, **options)


async def begin(rig: Rig, *scopes: str, **options: Any) -> SignInFlow:
    return await rig.tokens.begin_sign_in(*(scopes or ("mail",)), redirect_uri=HERE, **options)


async def complete(rig: Rig, flow: Any, account: Account = ALICE, **landing: Any) -> Token:
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.complete_sign_in, flow, {"state": flow["state"], "code": "a-code"})
        (await rig.asking()).land(account=account, **landing)
    assert isinstance(call.outcome, Token), call.outcome
    return call.outcome


async def signed_in(rig: Rig, account: Account = ALICE) -> Token:
    return await complete(rig, await begin(rig), account)


# -- once, and only what belongs together -----------------------------------------------------------------------------


async def test_the_token_of_a_completed_sign_in_is_held_for_its_account_alone() -> None:
    rig = web()
    token = await signed_in(rig)
    assert token.account == ALICE
    assert at_once(rig.tokens.get("mail", account=ALICE)) == token
    assert at_once(rig.tokens.get("mail", account=ALICE.home_account_id)) == token
    async with anyio.create_task_group() as group:  # without an account it is the application's own
        call = Call(group, rig.tokens.get, "mail")
        (await rig.parked()).land("the application's")
    assert call.value == "the application's"
    assert rig.tokens.stats().acquired == 2


async def test_a_flow_survives_json_and_another_process() -> None:
    first = web(store=SharedStore())
    claims = '{"access_token": {}}'
    flow = json.loads(json.dumps(await begin(first, claims=claims, prompt="login")))
    second = web(beside=first)
    token = await complete(second, flow)
    [sign_in] = second.client.sign_ins.acquisitions
    assert (sign_in.request.claims, sign_in.asked.prompt) == (claims, "login")
    assert at_once(second.tokens.get("mail", account=ALICE)) == token
    assert (await first.tokens.get("mail", account=ALICE, claims=claims)).value == token.value  # from the record
    assert first.asked == second.asked == 0


@pytest.mark.parametrize("store", [None, SharedStore])
async def test_a_flow_is_completed_once(store: Callable[[], SharedStore] | None) -> None:
    rig = web(store=store and store())
    flow = await begin(rig)
    token = await complete(rig, flow)
    for manager in (rig, web(beside=rig) if store else rig):
        with pytest.raises(SignInError, match="completed before") as caught:
            await manager.tokens.complete_sign_in(flow, {"state": flow.state, "code": "a-code"})
        assert caught.value.code == "flow_completed"
    assert len(rig.client.sign_ins.acquisitions) == 1
    assert at_once(rig.tokens.get("mail", account=ALICE)) == token


async def test_of_two_who_complete_a_flow_at_once_the_second_is_refused() -> None:
    rig = web()
    flow = await begin(rig)
    async with anyio.create_task_group() as group:
        calls = [
            Call(group, rig.tokens.complete_sign_in, flow, {"state": flow.state, "code": "a-code"}) for _ in range(2)
        ]
        (await rig.asking()).land(account=ALICE)
    refused, completed = sorted(calls, key=lambda call: isinstance(call.outcome, Token))
    assert refused.error.code == "flow_completed"
    assert completed.value
    assert len(rig.client.sign_ins.acquisitions) == 1


async def test_a_flow_whose_redemption_failed_is_used_up() -> None:
    rig = web()
    flow = await begin(rig)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.complete_sign_in, flow, {"state": flow.state, "code": "a-code"})
        (await rig.asking()).fail(SignInError("no", code="invalid_grant"))
    assert call.error.code == "invalid_grant"
    with pytest.raises(SignInError, match="completed before"):
        await rig.tokens.complete_sign_in(flow, {"state": flow.state, "code": "a-code"})
    assert rig.tokens.stats().failed == 1


async def test_an_answer_to_another_flow_uses_nothing_up() -> None:
    rig = web()
    one, other = await begin(rig), await begin(rig)
    with pytest.raises(SignInError) as caught:
        await rig.tokens.complete_sign_in(one, {"state": other.state, "code": "a-code"})
    assert caught.value.code == "state_mismatch"
    await complete(rig, one)
    await complete(rig, other, BOB)


async def test_a_web_sign_in_by_another_than_the_account_named_is_refused() -> None:
    rig = web()
    flow = await begin(rig, account=ALICE)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.complete_sign_in, flow, {"state": flow.state, "code": "a-code"})
        (await rig.asking()).land(account=BOB)
    assert call.error.code == "wrong_account"
    with pytest.raises(InteractionRequired):
        await rig.tokens.get("mail", account=BOB)
    assert rig.tokens.stats().tokens == 0


async def test_a_caller_who_leaves_does_not_end_the_completion() -> None:
    rig = web()
    flow = await begin(rig)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.complete_sign_in, flow, {"state": flow.state, "code": "a-code"})
        sign_in = await rig.asking()
        call.scope.cancel()
        await settle()
        token = sign_in.land(account=ALICE)
        await settle()
    assert call.outcome is None
    assert at_once(rig.tokens.get("mail", account=ALICE)).value == token.value


async def test_that_a_flow_was_completed_is_forgotten_when_it_would_be_refused_anyway() -> None:
    rig = web()
    await signed_in(rig)
    assert len(rig.tokens._shelf._store._values) == 2  # type: ignore[attr-defined]
    rig.clock.advance(3600)
    await signed_in(rig)
    assert len(rig.tokens._shelf._store._values) == 2  # type: ignore[attr-defined]


async def test_the_memory_of_completed_flows_does_not_drive_out_what_was_written_again_to_stay() -> None:
    clock = iter([0.0, 1.0, 100.0, 100.0])
    store = MemoryStore(clock=lambda: next(clock))
    await store.set("key", b"ends", expires_at=50.0)
    await store.set("key", b"stays")
    await store.set("another", b"", expires_at=math.inf)
    assert await store.get("key") == b"stays"


async def test_strangers_who_complete_sign_ins_in_vain_drive_no_session_out_of_memory() -> None:
    store = MemoryStore(max_sessions=3)
    rig = web(store=store)
    await signed_in(rig, ALICE)
    for _ in range(5):
        flow = await begin(rig)
        async with anyio.create_task_group() as group:
            Call(group, rig.tokens.complete_sign_in, flow, {"state": flow.state, "code": "garbage"})
            (await rig.asking()).fail(SignInError("no", code="invalid_grant"))
    assert await rig.tokens.tenant_profiles(ALICE) != ()
    assert len(store._values) == 3


async def test_a_store_that_fails_does_not_stop_a_web_sign_in() -> None:
    store = SharedStore()
    rig = web(store=store)
    flow = await begin(rig)
    store.failing = {"get", "set", "delete", "lock"}
    token = await complete(rig, flow)
    assert token.account == ALICE
    assert at_once(rig.tokens.get("mail", account=ALICE)) == token


# -- a session for each user ------------------------------------------------------------------------------------------


async def test_each_user_has_a_session_and_signs_out_alone() -> None:
    rig = web()
    await signed_in(rig, ALICE)
    bobs = await signed_in(rig, BOB)
    await rig.tokens.sign_out(ALICE)
    with pytest.raises(InteractionRequired):
        await rig.tokens.get("mail", account=ALICE)
    assert at_once(rig.tokens.get("mail", account=BOB)) == bobs
    with pytest.raises(TypeError, match="session for each user"):
        await rig.tokens.accounts()


async def test_one_users_sign_in_divides_no_flight_of_another() -> None:
    rig = web()
    await signed_in(rig, ALICE)
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, "files", account=ALICE)]
        acquisition = await rig.parked()
        for number in range(20):
            await signed_in(rig, Account(f"user-{number}.tenant"))
            calls.append(Call(group, rig.tokens.get, "files", account=ALICE))
        await settle()
        acquisition.land()
    assert len({call.value for call in calls}) == 1
    assert rig.asked == 1


async def test_a_sign_out_wins_against_a_refresh_aloft_in_that_users_own_session() -> None:
    rig = web()
    await signed_in(rig, ALICE)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "files", account=ALICE)
        acquisition = await rig.parked()
        await rig.tokens.sign_out(ALICE)
        acquisition.land()
    assert call.error.code == "signed_out"
    with pytest.raises(InteractionRequired):
        await rig.tokens.get("files", account=ALICE)
    assert rig.asked == 1


async def test_an_account_has_a_profile_for_its_tenant_and_nobody_else_has() -> None:
    rig = web()
    await signed_in(rig, ALICE)
    assert await rig.tokens.tenant_profiles(ALICE) == (
        TenantProfile("tenant", "alice-id", "alice@example.com", is_home=True),
    )
    assert await rig.tokens.tenant_profiles(BOB.home_account_id) == ()


# -- mistakes ---------------------------------------------------------------------------------------------------------


async def test_a_client_that_cannot_ask_says_how_web_applications_do() -> None:
    with pytest.raises(TypeError, match="begin_sign_in"):
        await web().tokens.sign_in("mail")


class Desktop(ScriptedUserClient):
    """A client that signs in only whoever runs the program."""

    begin_sign_in = answered = complete_sign_in = None  # type: ignore[assignment]


async def test_a_client_need_not_know_web_applications_to_ask_whoever_runs_the_program() -> None:
    rig = Rig(Desktop)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail")
        (await rig.asking()).land(account=ALICE)
    assert call.outcome.account == ALICE  # type: ignore[union-attr]
    for web_call in (
        rig.tokens.begin_sign_in("mail", redirect_uri=HERE),
        rig.tokens.complete_sign_in({"state": "s"}, {"state": "s"}),
    ):
        with pytest.raises(TypeError, match="no users of web applications"):
            await web_call


async def test_an_application_knows_no_people() -> None:
    rig = Rig()
    for call in (
        rig.tokens.begin_sign_in("mail", redirect_uri=HERE),
        rig.tokens.complete_sign_in({}, {}),
        rig.tokens.tenant_profiles(ALICE),
    ):
        with pytest.raises(TypeError, match="knows no people"):
            await call


@pytest.mark.parametrize("missing", [None, "", 7])
async def test_who_signs_out_must_be_named(missing: Any) -> None:
    rig = web()
    for call in (rig.tokens.sign_out(missing), rig.tokens.tenant_profiles(missing)):
        with pytest.raises(TypeError, match="home account id"):
            await call


@pytest.mark.parametrize("keyword", ["account", "login_hint", "domain_hint", "prompt", "claims", "max_age"])
async def test_a_keyword_of_a_sign_in_that_is_none_is_refused(keyword: str) -> None:
    for rig, call in ((web(), begin), (people(), lambda rig, **options: rig.tokens.sign_in("mail", **options))):
        with pytest.raises(TypeError, match=keyword):
            await call(rig, **{keyword: None})


def test_the_repr_of_a_flow_shows_neither_verifier_nor_state() -> None:
    flow = SignInFlow(auth_uri="https://x/?state=a-state", state="a-state", redirect_uri=HERE, code_verifier="secret")
    assert repr(flow) == f"<SignInFlow to {HERE}>"
    assert str(flow) == repr(flow)
