"""Any order of come, leave, land, fail, reject, and of time going by: what must never happen does not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomsal import AuthorityUnavailable, InteractionRequired, Throttled, Token
from tests.core.manager_support import ALICE, BOB, Call, Rig, SharedStore, people, settle

if TYPE_CHECKING:
    from aiomsal.testing._scripted import ScriptedAcquisition

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("mail", {"account": ALICE}),
    ("mail", {"account": BOB}),
    ("files", {"account": ALICE}),
    ("mail", {"account": ALICE, "claims": '{"a": 1}'}),
    ("mail", {}),
]
WHICH = st.integers(0, len(REQUESTS) - 1)
ANY = st.integers(0, 20)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["get", "get silently", "source", "reject"]), WHICH),
    st.tuples(st.just("leave"), ANY),
    st.tuples(st.sampled_from(["land", "land stale", "land short"]), ANY),
    st.tuples(st.sampled_from(["fail", "throttle", "refuse"]), ANY),
    st.tuples(st.just("advance"), st.sampled_from([1.0, 29.0, 31.0, 3300.0, 3650.0])),
    st.tuples(st.just("back"), st.sampled_from([1.0, 4000.0])),
    st.tuples(st.sampled_from(["sign out", "sign in"]), st.integers(0, 1)),
    st.tuples(st.just("land the sign-in"), st.integers(0, 1)),
)
LIVES = {"land": (3600.0, None), "land stale": (3600.0, 0.001), "land short": (10.0, None)}
ERRORS = {
    "fail": AuthorityUnavailable("down"),
    "throttle": Throttled("later", retry_after=5.0),
    "refuse": InteractionRequired("a person"),
}
KNOWN = {"AuthorityUnavailable", "Throttled", "InteractionRequired", "AccountRequired", "AuthorityError"}


class World:
    """A manager, those who ask it, and what they may be given."""

    def __init__(self, rig: Rig, group: Any) -> None:
        self.rig = rig
        self.group = group
        self.calls: list[tuple[Call, int, Token | None, float]] = []
        self.sources = [rig.tokens.source(scope, **options) for scope, options in REQUESTS]
        self.last: dict[int, Token] = {}
        self.others: list[Call] = []
        self.checked: set[int] = set()

    async def do(self, action: str, which: Any) -> None:
        tokens, client = self.rig.tokens, self.rig.client
        if action in ("get", "get silently", "source", "reject"):
            scope, options = REQUESTS[which]
            rejected = self.last.get(which) if action == "reject" else None
            if rejected is not None:
                call = Call(self.group, tokens.get, scope, rejected=rejected, **options)
            elif action == "source":
                call = Call(self.group, self.sources[which].get)
            else:
                call = Call(self.group, tokens.get if action == "get" else tokens.get_silent, scope, **options)
            self.calls.append((call, which, rejected, self.rig.clock()))
        elif action == "leave" and self.calls:
            self.calls[which % len(self.calls)][0].scope.cancel()
        elif action in LIVES and client.parked:
            expires_in, refresh_in = LIVES[action]
            client.parked[which % len(client.parked)].land(expires_in=expires_in, refresh_in=refresh_in)
        elif action in ERRORS and client.parked:
            client.parked[which % len(client.parked)].fail(ERRORS[action])
        elif action in ("advance", "back"):
            await settle()
            self.check()  # what was handed out before the clock moved is judged by the clock of then
            self.rig.clock.advance(which if action == "advance" else -which)
        elif action == "sign out":
            self.others.append(Call(self.group, tokens.sign_out, (ALICE, BOB)[which]))  # type: ignore[arg-type]
        elif action == "sign in":
            account = (ALICE, BOB)[which]
            self.others.append(Call(self.group, tokens.sign_in, "openid", account=account))
        elif action == "land the sign-in" and client.sign_ins.parked:
            sign_in: ScriptedAcquisition = client.sign_ins.parked[0]
            sign_in.land(account=self.whose(sign_in, which))
        await settle()
        self.check()

    def whose(self, sign_in: ScriptedAcquisition, which: int) -> Any:
        return next(
            (one for one in (ALICE, BOB) if one.home_account_id == sign_in.request.account), (ALICE, BOB)[which]
        )

    def check(self) -> None:
        aloft = Counter(acquisition.request for acquisition in self.rig.client.parked)
        assert all(count == 1 for count in aloft.values()), "two acquisitions of one request at once"
        assert len(self.rig.client.parked) <= 1, "two acquisitions of one session at once"
        assert len(self.rig.client.sign_ins.parked) <= 1, "two people asked at once"
        now = self.rig.clock()
        for place, (call, which, rejected, _) in enumerate(self.calls):
            if place in self.checked or call.outcome is None:
                continue
            self.checked.add(place)
            if not isinstance(call.outcome, Token):
                assert type(call.outcome).__name__ in KNOWN, repr(call.outcome)
                continue
            token = call.outcome
            scope, options = REQUESTS[which]
            assert now < token.expires_at, "expired"
            assert token.scopes == (scope,), "another request's"
            assert rejected is None or token.value != rejected.value, "rejected"
            if "account" in options:
                assert token.account == options["account"], "somebody else's"
            self.last[which] = token

    async def finish(self) -> None:
        """Everybody gets an end: nothing stays aloft when all that is parked has landed."""
        for _ in range(300):
            await settle()
            client = self.rig.client
            if client.parked:
                client.parked[0].land()
            elif client.sign_ins.parked:
                sign_in = client.sign_ins.parked[0]
                sign_in.land(account=self.whose(sign_in, 0))
            else:
                break
        await settle()
        self.check()
        stats = self.rig.tokens.stats()
        assert stats.flights == 0
        for call, *_ in self.calls:
            assert call.outcome is not None or call.scope.cancel_called, "somebody hangs"
        for call in self.others:
            assert not isinstance(call.outcome, BaseException) or type(call.outcome).__name__ in KNOWN


async def live(rig: Rig, actions: list[tuple[str, Any]]) -> None:
    async with anyio.create_task_group() as group:
        world = World(rig, group)
        for action, which in actions:
            await world.do(action, which)
        await world.finish()


@settings(max_examples=100)
@given(actions=st.lists(ACTIONS, max_size=40))
async def test_whatever_happens_in_memory(actions: list[tuple[str, Any]]) -> None:
    rig = people()
    await rig.enrol_by_hand(ALICE, BOB)
    await live(rig, actions)


@settings(max_examples=60)
@given(actions=st.lists(ACTIONS, max_size=30), failing=st.sets(st.just("unlock")))
async def test_whatever_happens_with_a_store(actions: list[tuple[str, Any]], failing: set[str]) -> None:
    store = SharedStore()
    rig = people(store=store)
    await rig.enrol_by_hand(ALICE, BOB)
    store.failing = failing
    await live(rig, actions)
