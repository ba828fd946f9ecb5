"""Users: which account is meant, one sign-in for all who need it, sign-out that lasts, refusals remembered."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import (
    Account,
    AccountRequired,
    FlightAborted,
    InteractionRequired,
    SignInError,
    SignInRequest,
    Token,
    TokenManager,
)
from aiomsal._token import merged_claims, same_username
from aiomsal.testing._scripted import ScriptedClient
from tests.core.manager_support import ALICE, BOB, Call, Rig, SharedStore, at_once, people, settle

if TYPE_CHECKING:
    from collections.abc import Callable

CLAIMS = '{"access_token": {"acrs": {"essential": true, "value": "c1"}}}'


# -- which account ---------------------------------------------------------------------------------------------------


async def test_a_call_without_account_means_the_only_one() -> None:
    rig = people()
    await rig.enrol(ALICE)
    token = await rig.hold("mail")
    assert token.account == ALICE
    assert at_once(rig.tokens.get("mail")) == token
    assert at_once(rig.tokens.get("mail", account=ALICE)) == token  # known from one call, known to the other
    assert (rig.asked, len(rig.client.sign_ins.acquisitions)) == (1, 1)


@pytest.mark.parametrize("store", [None, SharedStore])
async def test_a_second_account_makes_calls_without_account_ask_which(store: Callable[[], SharedStore] | None) -> None:
    rig = people(store=store and store())
    await rig.enrol(ALICE)
    await rig.hold("mail")
    await rig.tokens.get("mail")
    source = rig.tokens.source("mail")
    await source.get()
    await rig.enrol(BOB, scope="mail")
    await rig.tokens.get("mail", account=BOB)  # the sign-in's own
    for call in (rig.tokens.get, rig.tokens.get_silent):
        with pytest.raises(AccountRequired) as caught:
            await call("mail")
        assert caught.value.candidates == (ALICE, BOB)
    with pytest.raises(AccountRequired):
        await source.get()
    assert rig.client.sign_ins.parked == []
    assert len(rig.client.sign_ins.acquisitions) == 2
    assert rig.asked == 1


@pytest.mark.parametrize("store", [None, SharedStore])
async def test_a_sign_out_unbinds_calls_without_account(store: Callable[[], SharedStore] | None) -> None:
    rig = people(can_ask=False, store=store and store())
    await rig.enrol_by_hand(ALICE)
    await rig.hold("mail")
    await rig.tokens.get("mail")
    source = rig.tokens.source("mail")
    await source.get()
    await rig.tokens.sign_out(ALICE)
    for call in (rig.tokens.get("mail"), rig.tokens.get("mail", account=ALICE), source.get()):
        with pytest.raises(InteractionRequired):
            await call
    assert await rig.tokens.accounts() == ()
    assert rig.tokens.stats().tokens == 0
    assert rig.asked == 1


async def test_after_one_of_two_leaves_the_other_is_meant() -> None:
    rig = people()
    await rig.enrol(ALICE, BOB)
    await rig.tokens.sign_out(BOB.home_account_id)
    assert await rig.tokens.accounts() == (ALICE,)
    assert (await rig.hold("mail")).account == ALICE


async def test_a_flight_without_account_that_was_aloft_at_a_sign_in_answers_nobody_who_comes_later() -> None:
    rig = people()
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail")
        acquisition = await rig.parked()
        await rig.enrol(BOB)
        later = Call(group, rig.tokens.get, "mail")
        await settle()
        held = rig.tokens.stats().tokens
        acquisition.land()
    assert later.error.candidates == (ALICE, BOB)
    assert rig.tokens.stats().tokens == held  # nobody could find it
    assert call.outcome.account == ALICE  # type: ignore[union-attr]
    with pytest.raises(AccountRequired):
        await rig.tokens.get("mail")


async def test_a_record_of_a_call_without_account_does_not_outlive_the_set_of_accounts() -> None:
    first = people(store=SharedStore())
    await first.enrol(ALICE)
    await first.hold("mail")
    second = people(beside=first)
    assert (await second.tokens.get("mail")).account == ALICE  # from the record
    third = people(beside=first)
    await third.enrol(BOB)
    fourth = people(beside=first)
    with pytest.raises(AccountRequired):
        await fourth.tokens.get("mail")
    assert (second.asked, fourth.asked) == (0, 0)


async def test_an_acquisition_overtaken_by_a_sign_in_elsewhere_leaves_no_record_for_the_new_set_of_accounts() -> None:
    first = people(store=SharedStore())
    await first.enrol(ALICE)
    second = people(beside=first)
    async with anyio.create_task_group() as group:
        Call(group, first.tokens.get, "mail")
        acquisition = await first.parked()
        await second.enrol(BOB)
        acquisition.land()
    with pytest.raises(AccountRequired):
        await people(beside=first).tokens.get("mail")
    session = await second.session()
    assert second.client.refresh_token(session, ALICE) == f"refresh-{acquisition.number}"


# -- signing in ------------------------------------------------------------------------------------------------------


async def test_two_hundred_coroutines_make_one_sign_in() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, "mail") for _ in range(200)]
        (await rig.asking()).land(account=ALICE)
    assert len({call.value for call in calls}) == 1
    assert (rig.asked, len(rig.client.sign_ins.acquisitions)) == (0, 1)
    assert await rig.tokens.accounts() == (ALICE,)
    assert at_once(rig.tokens.get("mail")).value == calls[0].value
    assert at_once(rig.tokens.get("mail", account=ALICE)).value == calls[0].value


async def test_get_silent_never_asks_and_is_not_held_up_by_a_sign_in() -> None:
    rig = people()
    with pytest.raises(AccountRequired):
        await rig.tokens.get_silent("mail")
    assert rig.client.sign_ins.acquisitions == []
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        asked = Call(group, rig.tokens.sign_in, "mail")
        sign_in = await rig.asking()
        silent = Call(group, rig.tokens.get_silent, "mail")
        (await rig.parked()).land()
        await settle()
        assert silent.value == "token-3"
        assert asked.outcome is None
        sign_in.land(account=ALICE)


async def test_a_sign_in_is_aborted_when_all_have_left_and_a_newcomer_gets_a_new_one() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, "mail") for _ in range(3)]
        await settle()
        for call in calls[:2]:
            call.scope.cancel()
        await settle()
        assert len(rig.client.sign_ins.parked) == 1
        calls[2].scope.cancel()
        await settle()
        assert rig.client.sign_ins.parked == []
        assert rig.tokens.stats().flights == 0
        newcomer = Call(group, rig.tokens.get, "mail")
        (await rig.asking()).land(account=ALICE)
    assert newcomer.value == "token-2"


async def test_sign_ins_for_different_scopes_queue_and_the_second_is_served_by_the_first_ones_refresh_token() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        first = Call(group, rig.tokens.get, "mail")
        await settle()
        second = Call(group, rig.tokens.get, "files")
        await settle()
        assert len(rig.client.sign_ins.parked) == 1
        rig.client.sign_ins.parked[0].land(account=ALICE)
        await settle()
        assert first.value == "token-1"
        acquisition = rig.client.parked[0]
        assert rig.client.refresh_token(acquisition.session, ALICE) == "refresh-of-sign-in-1"
        acquisition.land()
    assert second.value == "token-2"
    assert len(rig.client.sign_ins.acquisitions) == 1


async def test_one_who_queued_for_a_sign_in_is_asked_which_account_if_two_have_come_meanwhile() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        Call(group, rig.tokens.sign_in, "openid")
        await settle()
        Call(group, rig.tokens.sign_in, "openid", login_hint=BOB.username)
        await settle()
        waiting = Call(group, rig.tokens.get, "mail")
        await settle()
        (await rig.asking()).land(account=ALICE)
        (await rig.asking()).land(account=BOB)
        await settle()
        assert rig.client.sign_ins.parked == []
    assert waiting.error.candidates == (ALICE, BOB)


async def test_the_claims_of_a_refusal_go_into_the_sign_in() -> None:
    rig = people()
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE)
        (await rig.parked()).fail(InteractionRequired("mfa", claims=CLAIMS))
        sign_in = await rig.asking()
        assert sign_in.request.claims == CLAIMS
        assert sign_in.request.account == ALICE.home_account_id
        sign_in.land(account=ALICE)
    assert call.value == "token-3"
    assert at_once(rig.tokens.get("mail", account=ALICE)).value == "token-3"
    assert at_once(rig.tokens.get("mail", account=ALICE, claims=CLAIMS)).value == "token-3"


async def test_the_claims_of_the_call_and_those_of_its_refusal_go_into_one_sign_in() -> None:
    rig = people()
    await rig.enrol(ALICE)
    mine = '{"access_token": {"nbf": {"value": "1"}}}'
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE, claims=mine)
        (await rig.parked()).fail(InteractionRequired("mfa", claims=CLAIMS))
        sign_in = await rig.asking()
        assert json.loads(sign_in.request.claims) == {
            "access_token": {"nbf": {"value": "1"}, "acrs": {"essential": True, "value": "c1"}}
        }
        sign_in.land(account=ALICE)
    assert at_once(rig.tokens.get("mail", account=ALICE, claims=mine)).value == call.value
    assert at_once(rig.tokens.get("mail", account=ALICE)).value == call.value
    assert rig.asked == 1


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("", CLAIMS, CLAIMS),
        (CLAIMS, "", CLAIMS),
        (CLAIMS, CLAIMS, CLAIMS),
        (CLAIMS, "no JSON", CLAIMS),
        ('{"a": 1}', '{"a": 2}', '{"a":2}'),
        ('{"a": {"b": 1}}', '{"a": {"c": 2}}', '{"a":{"b":1,"c":2}}'),
        ('{"a": {"b": 1}}', '{"a": null}', '{"a":null}'),
    ],
)
def test_of_two_claims_challenges_the_second_holds_where_they_contradict(one: str, other: str, both: str) -> None:
    assert merged_claims(one, other) == both


@pytest.mark.parametrize("as_source", [False, True])
async def test_the_sign_in_page_is_filled_in_with_whom_the_call_is_for(as_source: bool) -> None:
    rig = people()
    gone = Account("carol-id.tenant", username="carol@example.com")  # known to the caller, not to us
    calls: list[tuple[dict[str, Any], str, Account]] = [
        ({"account": gone}, "carol@example.com", gone),
        ({"login_hint": "bob@example.com"}, "bob@example.com", BOB),
        ({"account": "dave-id.tenant"}, "", Account("dave-id.tenant")),
    ]
    for options, hint, who in calls:
        async with anyio.create_task_group() as group:
            get = rig.tokens.source("mail", **options).get if as_source else partial(rig.tokens.get, "mail", **options)
            call = Call(group, get)
            sign_in = await rig.asking()
            assert sign_in.asked == SignInRequest(sign_in.request, login_hint=hint)
            assert sign_in.request.login_hint == options.get("login_hint", "")  # whoever else signs in is refused
            sign_in.land(account=who)
        assert isinstance(call.outcome, Token)


async def test_one_who_is_known_by_id_only_is_filled_in_by_name_if_the_session_knows_it() -> None:
    rig = people()
    await rig.enrol(ALICE, BOB)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE.home_account_id)
        (await rig.parked()).fail(InteractionRequired("mfa"))
        sign_in = await rig.asking()
        assert sign_in.asked.login_hint == ALICE.username
        sign_in.land(account=ALICE)
    assert call.value


async def test_somebody_else_than_the_user_name_a_call_is_for_is_not_let_in() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", login_hint=ALICE.username)
        (await rig.asking()).land(account=BOB)
    assert call.error.code == "wrong_account"
    assert await rig.tokens.accounts() == ()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", login_hint=ALICE.username.upper())
        (await rig.asking()).land(account=ALICE)
    assert at_once(rig.tokens.get("mail", login_hint=ALICE.username.upper())).value == call.value


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Alice@Example.com", "alice@example.COM", True),
        ("stra\u00dfe@example.com", "strasse@example.com", False),
        ("\u212aen@example.com", "ken@example.com", False),
        ("alice@example.com", "alice@example.co", False),
        ("\u00c4nne@example.com", "\u00e4nne@example.com", False),
    ],
)
def test_user_names_are_the_same_but_for_the_case_of_ascii_letters(one: str, other: str, same: bool) -> None:
    assert same_username(one, other) is same


async def test_a_person_who_says_no_is_not_asked_by_all_who_queue() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, scope) for scope in ("mail", "files", "chat") for _ in range(3)]
        await settle()  # on trio, tasks that begin together go on in any order
        bobs = Call(group, rig.tokens.get, "mail", account=BOB)
        await settle()
        explicit = Call(group, rig.tokens.sign_in, "mail")
        await settle()
        (await rig.asking()).fail(SignInError("no", code="access_denied"))
        (await rig.asking()).land(account=BOB)
        (await rig.asking()).land(account=ALICE)
    assert {call.error.code for call in calls} == {"access_denied"}
    assert len({id(call.error) for call in calls}) == len(calls)
    assert bobs.outcome.account == BOB  # type: ignore[union-attr]
    assert explicit.outcome.account == ALICE  # type: ignore[union-attr]
    assert len(rig.client.sign_ins.acquisitions) == 3


async def test_who_calls_after_a_refusal_is_asked() -> None:
    rig = people()
    for _ in range(2):
        async with anyio.create_task_group() as group:
            call = Call(group, rig.tokens.get, "mail")
            (await rig.asking()).fail(SignInError("no", code="access_denied"))
        assert call.error.code == "access_denied"
    assert len(rig.client.sign_ins.acquisitions) == 2


async def test_calls_by_alias_by_source_and_with_a_rejected_token_share_one_sign_in() -> None:
    rig = people()
    await rig.enrol(ALICE)
    old = await rig.hold("mail")
    source = rig.tokens.source("mail")
    await source.get()
    await rig.tokens.get("mail")
    await rig.tokens.sign_out(ALICE)
    async with anyio.create_task_group() as group:
        calls = [Call(group, source.get), Call(group, rig.tokens.get, "mail")]
        calls.append(Call(group, rig.tokens.get, "mail", rejected=old))
        sign_in = await rig.asking()
        sign_in.land(account=BOB)
    assert len({call.value for call in calls}) == 1
    assert len(rig.client.sign_ins.acquisitions) == 2
    assert at_once(rig.tokens.get("mail", account=BOB)).value == calls[0].value
    assert rig.asked == 1


async def test_who_leaves_while_the_manager_closes_has_closed_it() -> None:
    rig = people()
    await rig.enrol(ALICE)
    await rig.hold("mail")
    async with anyio.create_task_group() as group:
        Call(group, rig.tokens.get, "files")
        aloft = await rig.parked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await rig.tokens.aclose()
        assert rig.tokens.stats().tokens == 0
        aloft.land()
    assert rig.tokens.stats().tokens == 0
    with pytest.raises(FlightAborted):
        await rig.tokens.get("mail")


@pytest.mark.parametrize("method", ["sign_out", "tenant_profiles"])
async def test_a_user_name_is_no_account_to_sign_out(method: str) -> None:
    rig = people()
    with pytest.raises(ValueError, match="not a user name"):
        await getattr(rig.tokens, method)("alice@example.com")


async def test_the_hint_of_an_explicit_sign_in_only_fills_the_page() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail", login_hint=ALICE.username)
        (await rig.asking()).land(account=BOB)
    assert call.outcome.account == BOB  # type: ignore[union-attr]
    assert at_once(rig.tokens.get("mail")).value == call.value
    with pytest.raises(AccountRequired):
        await rig.tokens.get_silent("mail", login_hint=ALICE.username)


async def test_sign_ins_that_differ_in_one_wish_are_asked_one_after_another() -> None:
    rig = people()
    wishes: list[dict[str, Any]] = [
        {},
        {"prompt": "login"},
        {"domain_hint": "consumers"},
        {"login_hint": "alice"},
        {"max_age": 0},
        {"extra_scopes_to_consent": ["files"]},
        {"claims": CLAIMS},
    ]
    async with anyio.create_task_group() as group:
        for wish in (*wishes, *wishes):
            Call(group, rig.tokens.sign_in, "mail", **wish)
        for _ in wishes:
            await settle()
            [parked] = rig.client.sign_ins.parked
            parked.land(account=ALICE)
    assert len({sign_in.asked for sign_in in rig.client.sign_ins.acquisitions}) == len(wishes)
    assert len(rig.client.sign_ins.acquisitions) == len(wishes)


async def test_a_rejected_token_that_only_a_sign_in_replaces_is_not_handed_out_again() -> None:
    rig = people()
    await rig.enrol(ALICE)
    old = await rig.hold("mail", account=ALICE)
    async with anyio.create_task_group() as group:
        elsewhere = Call(group, rig.tokens.sign_in, "openid")
        await settle()
        call = Call(group, rig.tokens.get, "mail", account=ALICE, rejected=old)
        (await rig.parked()).fail(InteractionRequired("mfa"))
        (await rig.asking()).land(account=ALICE)
        (await rig.parked()).land()
    assert isinstance(elsewhere.value, str)
    assert call.value not in ("", old.value)


async def test_somebody_else_than_the_one_asked_for_is_not_let_in() -> None:
    rig = people()
    await rig.enrol(ALICE)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail", account=ALICE)
        (await rig.asking()).land(account=BOB)
    assert isinstance(call.error, SignInError)
    assert call.error.code == "wrong_account"
    assert await rig.tokens.accounts() == (ALICE,)
    assert rig.tokens.stats().failed == 1


async def test_a_sign_in_that_names_nobody_is_an_error() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail")
        (await rig.asking()).land()
    assert isinstance(call.error, SignInError)
    assert call.error.code == "no_account"
    assert rig.tokens.stats().tokens == 0


async def test_sign_in_always_asks_and_equal_calls_share_it() -> None:
    rig = people()
    await rig.enrol(ALICE)
    await rig.hold("mail")
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.sign_in, "mail") for _ in range(5)]
        (await rig.asking()).land(account=ALICE)
    assert {call.value for call in calls} == {"token-3"}
    assert at_once(rig.tokens.get("mail")).value == "token-3"
    assert len(rig.client.sign_ins.acquisitions) == 2


async def test_a_client_that_cannot_ask_says_so() -> None:
    rig = people(can_ask=False)
    with pytest.raises(TypeError, match="sign_in"):
        await rig.tokens.sign_in("mail")
    with pytest.raises(AccountRequired):
        await rig.tokens.get("mail")
    nobody = TokenManager(ScriptedClient())
    for call in (nobody.sign_in("mail"), nobody.sign_out(ALICE), nobody.accounts()):
        with pytest.raises(TypeError, match="knows no people"):
            await call


async def test_a_failed_sign_in_is_for_those_aboard() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        calls = [Call(group, rig.tokens.get, "mail") for _ in range(3)]
        (await rig.asking()).fail(SignInError("refused", code="access_denied"))
    assert {type(call.error) for call in calls} == {SignInError}
    async with anyio.create_task_group() as group:
        again = Call(group, rig.tokens.get, "mail")
        (await rig.asking()).land(account=ALICE)
    assert again.value == "token-2"


async def test_a_sign_in_whose_callers_leave_while_it_is_saved_changes_the_set_of_accounts_all_the_same() -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol(ALICE)
    await rig.hold("mail")
    at_once(rig.tokens.get("mail"))
    parked, go_on = store.hold("set", "session")
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "files")
        (await rig.asking()).land(account=BOB)
        await parked.wait()
        call.scope.cancel()
        await settle()
        go_on.set()
        await settle()
    assert await rig.tokens.accounts() == (ALICE, BOB)
    with pytest.raises(AccountRequired):
        await rig.tokens.get("mail")


async def test_closing_aborts_sign_ins() -> None:
    rig = people()
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail")
        await settle()
        await rig.tokens.aclose()
    assert isinstance(call.error, FlightAborted)
    assert rig.client.sign_ins.parked == []


# -- signing out -----------------------------------------------------------------------------------------------------

STORES: Any = pytest.mark.parametrize("store", [None, SharedStore])


@STORES
@pytest.mark.parametrize("stale", [False, True])
async def test_a_sign_out_before_the_save_is_final(store: Any, stale: bool) -> None:
    rig = people(can_ask=False, store=store and store())
    await rig.enrol_by_hand(ALICE)
    if stale:
        await rig.hold("mail", account=ALICE)
        rig.clock.advance(3400)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE)
        acquisition = await rig.parked()
        await rig.tokens.sign_out(ALICE)
        acquisition.land()
    await settle()
    if not stale:
        assert call.error.code == "signed_out"
    assert await rig.tokens.accounts() == ()
    assert await rig.session() is None
    assert rig.tokens.stats().tokens == 0
    with pytest.raises(InteractionRequired):
        await rig.tokens.get("mail", account=ALICE)


WHERE = [("set", "session"), ("set", "token"), ("unlock", "session")]


@pytest.mark.parametrize("operation", WHERE, ids=lambda where: "-".join(where))
@pytest.mark.parametrize("stays", [(), (BOB,)], ids=["alone", "with another"])
async def test_a_sign_out_between_save_and_publication_is_final(operation: tuple[str, str], stays: Any) -> None:
    store = SharedStore()
    rig = people(can_ask=False, store=store)
    await rig.enrol_by_hand(ALICE, *stays)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE)
        acquisition = await rig.parked()
        parked, go_on = store.hold(*operation)
        acquisition.land()
        await parked.wait()
        await rig.tokens.sign_out(ALICE)
        go_on.set()
    assert call.error.code == "signed_out"
    assert await rig.tokens.accounts() == stays
    assert rig.tokens.stats().tokens == 0
    with pytest.raises(InteractionRequired):
        await rig.tokens.get("mail", account=ALICE)


async def test_a_sign_out_while_a_record_is_read_is_final() -> None:
    store = SharedStore()
    first = people(store=store)
    await first.enrol(ALICE)
    await first.hold("mail", account=ALICE)
    second = people(beside=first, can_ask=False)
    parked, go_on = store.hold("get", "token")
    async with anyio.create_task_group() as group:
        call = Call(group, second.tokens.get, "mail", account=ALICE)
        await parked.wait()
        await second.tokens.sign_out(ALICE)
        go_on.set()
    assert call.error.code == "signed_out"
    assert second.tokens.stats().tokens == 0


async def test_a_sign_out_in_another_process_while_a_refresh_is_aloft_is_final() -> None:
    first = people(store=SharedStore(), can_ask=False)
    await first.enrol_by_hand(ALICE)
    second = people(beside=first)
    async with anyio.create_task_group() as group:
        call = Call(group, first.tokens.get, "mail", account=ALICE)
        acquisition = await first.parked()
        await second.tokens.sign_out(ALICE)
        acquisition.land()
    assert call.error.code == "signed_out"
    assert await first.tokens.accounts() == await second.tokens.accounts() == ()
    assert first.tokens._shelf._store.of("session") == []  # type: ignore[attr-defined]


@STORES
async def test_anothers_sign_out_costs_nobody_a_rotated_refresh_token(store: Any) -> None:
    rig = people(store=store and store())
    await rig.enrol(ALICE, BOB)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get, "mail", account=ALICE)
        acquisition = await rig.parked()
        await rig.tokens.sign_out(BOB)
        acquisition.land()
    assert call.value == f"token-{acquisition.number}"
    assert rig.client.refresh_token(await rig.session(), ALICE) == f"refresh-{acquisition.number}"
    assert await rig.tokens.accounts() == (ALICE,)


async def test_a_sign_out_during_the_record_of_a_sign_in_is_final() -> None:
    store = SharedStore()
    rig = people(store=store)
    parked, go_on = store.hold("set", "token")
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail")
        (await rig.asking()).land(account=ALICE)
        await parked.wait()
        await rig.tokens.sign_out(ALICE)
        go_on.set()
    assert call.error.code == "signed_out"
    assert rig.tokens.stats().tokens == 0
    assert await rig.tokens.accounts() == ()


async def test_a_sign_out_that_is_cancelled_on_its_way_back_leaves_no_token_in_memory() -> None:
    store = SharedStore()
    rig = people(store=store, can_ask=False)
    await rig.enrol_by_hand(ALICE)
    await rig.hold("mail", account=ALICE)
    parked, _ = store.hold("delete", "session")
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_out, ALICE)
        await parked.wait()
        call.scope.cancel()
    assert rig.tokens.stats().tokens == 0


async def test_signing_out_again_or_somebody_unknown_is_harmless() -> None:
    rig = people()
    await rig.enrol(ALICE)
    await rig.tokens.sign_out("unknown")
    assert await rig.tokens.accounts() == (ALICE,)
    for _ in range(2):
        await rig.tokens.sign_out(ALICE)
    assert await rig.tokens.accounts() == ()


# -- refusals remembered ---------------------------------------------------------------------------------------------


async def refused(rig: Rig, *scopes: str, **options: Any) -> InteractionRequired:
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get_silent, *scopes, **options)
        await settle()
        for acquisition in rig.client.parked:
            acquisition.fail(InteractionRequired(f"refused {acquisition.number}", suberror="consent_required"))
    assert isinstance(call.error, InteractionRequired)
    return call.error


async def test_a_refusal_is_remembered_for_a_minute_for_that_request() -> None:
    rig = people()
    await rig.enrol(ALICE)
    first = await refused(rig, "mail", account=ALICE)
    rig.clock.advance(59)
    again = await refused(rig, "mail", account=ALICE)
    assert (again.description, again.suberror, rig.asked) == (first.description, first.suberror, 1)
    assert again is not first
    await refused(rig, "files", account=ALICE)
    assert rig.asked == 2
    rig.clock.advance(2)
    assert (await refused(rig, "mail", account=ALICE)).description != first.description
    assert rig.asked == 3


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_refusal_is_forgotten_when_the_session_changes(elsewhere: bool) -> None:
    rig = people(store=SharedStore())
    await rig.enrol(ALICE)
    await refused(rig, "mail", account=ALICE)
    await (people(beside=rig) if elsewhere else rig).enrol(ALICE)
    assert (await rig.hold("mail", account=ALICE)).account == ALICE
    assert rig.asked == 2


async def test_an_application_without_session_is_not_asked_again_within_the_minute_either() -> None:
    rig = Rig()
    await refused(rig, "mail")
    await refused(rig, "mail")
    assert rig.asked == 1
    rig.clock.advance(-3600)
    await refused(rig, "mail")
    assert rig.asked == 2


# -- sign-outs at the worst moments ----------------------------------------------------------------------------------


async def test_a_sign_out_while_a_sign_ins_write_is_on_its_way_back_is_final() -> None:
    store = SharedStore()
    rig = people(store=store)
    done, go_on = anyio.Event(), anyio.Event()
    write = store.set

    async def slow(*args: Any, **options: Any) -> bool:
        written = await write(*args, **options)
        store.set = write  # type: ignore[method-assign]
        done.set()
        await go_on.wait()
        return written

    store.set = slow  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.sign_in, "mail")
        (await rig.asking()).land(account=ALICE)
        await done.wait()
        await rig.tokens.sign_out(ALICE)
        go_on.set()
    assert isinstance(call.error, InteractionRequired)
    assert await rig.tokens.accounts() == ()
    with pytest.raises(AccountRequired):
        await rig.tokens.get_silent("mail", account=ALICE)


async def test_who_asks_after_a_sign_out_goes_along_with_no_flight_from_before() -> None:
    rig = people(can_ask=False)
    await rig.enrol_by_hand(ALICE)
    async with anyio.create_task_group() as group:
        before = Call(group, rig.tokens.get, "mail", account=ALICE)
        acquisition = await rig.parked()
        await rig.tokens.sign_out(ALICE)
        after = Call(group, rig.tokens.get_silent, "mail", account=ALICE)
        await settle()
        assert isinstance(after.error, AccountRequired)
        acquisition.land()
    assert isinstance(before.error, InteractionRequired)


async def test_a_sign_out_takes_tokens_that_name_no_account_along() -> None:
    rig = people(can_ask=False)
    await rig.enrol_by_hand(ALICE)
    await rig.hold("mail", account=ALICE)
    for held in rig.tokens._hot:
        held.token = dataclasses.replace(held.token, account=None)
    await rig.tokens.sign_out(ALICE)
    assert rig.tokens.stats().tokens == 0


async def test_a_sign_out_and_a_close_let_go_of_the_tokens_themselves() -> None:
    rig = people(can_ask=False)
    await rig.enrol_by_hand(ALICE, BOB)
    await rig.hold("mail", account=ALICE)
    await rig.hold("mail", account=BOB)
    await rig.tokens.sign_out(ALICE)
    assert [held.token.account for held in rig.tokens._hot._ring] == [BOB]
    await rig.tokens.aclose()
    assert rig.tokens._hot._ring == []


async def test_who_rejects_a_token_does_not_get_it_for_anothers_having_asked() -> None:
    rig = people()
    await rig.enrol(ALICE, scope="mail")
    first = await rig.tokens.get("mail", account=ALICE)
    async with anyio.create_task_group() as group:
        Call(group, rig.tokens.sign_in, "other")  # the person is busy
        busy = await rig.asking()
        one = Call(group, rig.tokens.get, "mail", account=ALICE, rejected=first)
        (await rig.parked()).fail(InteractionRequired("no"))
        await settle()
        challenged = Call(group, rig.tokens.get_silent, "mail", account=ALICE, claims='{"c":1}')
        (await rig.parked()).land("second")
        await settle()
        second = challenged.outcome
        assert isinstance(second, Token)
        other = Call(group, rig.tokens.get, "mail", account=ALICE, rejected=second)
        (await rig.parked()).fail(InteractionRequired("no"))
        await settle()
        busy.land(account=ALICE)
        for _ in range(4):
            await settle()
            for acquisition in (*rig.client.parked, *rig.client.sign_ins.parked):
                acquisition.land("third", account=ALICE)
    assert one.value in ("second", "third")
    assert other.value == "third"
