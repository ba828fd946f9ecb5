"""The tokens held in memory: how long each is fresh, and which goes."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal._hot import ALIASES, CHANCES, MOST_MOMENTS, TEN_YEARS, UNBELIEVABLE_LIFE, Held, HotTokens
from aiomsal._token import Token, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000.0


def hot_tokens(
    max_tokens: int = 100,
    *,
    refresh_ahead: float = 300.0,
    leeway: float = 30.0,
    random: Callable[[], float] = lambda: 0.0,
) -> HotTokens:
    return HotTokens(max_tokens, refresh_ahead=refresh_ahead, leeway=leeway, random=random)


def put(hot: HotTokens, request: TokenRequest, token: Token, number: int, now: float) -> Held:
    hot.put([request], token, number, now)
    held = hot.get(request)
    assert held is not None
    return held


def request(name: object) -> TokenRequest:
    return TokenRequest("client", "https://authority/tenant", "client_credentials", (str(name),))


def token(life: float = 3600.0, *, refresh_in: float = math.inf, at: float = NOW, value: str = "secret") -> Token:
    return Token(value, at + life, at + refresh_in, at)


# -- dates -----------------------------------------------------------------------------------------------------------


def test_an_hours_token_is_fresh_until_refresh_ahead_and_usable_until_leeway() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(), 1, NOW)
    assert (hot.since, held.fresh_until, held.usable_until) == (NOW, NOW + 3300, NOW + 3570)
    assert (held.token.expires_at, held.token.refresh_at) == (NOW + 3600, NOW + 3300)


def test_the_authoritys_advice_counts_if_it_is_earlier() -> None:
    hot = hot_tokens()
    assert put(hot, request("a"), token(refresh_in=1800), 1, NOW).fresh_until == NOW + 1800
    assert put(hot, request("b"), token(refresh_in=3500), 1, NOW).fresh_until == NOW + 3300


@pytest.mark.parametrize("refresh_in", [0.0, -5.0, -math.inf, math.nan])
def test_advice_to_refresh_at_once_or_never_is_none(refresh_in: float) -> None:
    held = put(hot_tokens(), request("a"), token(refresh_in=refresh_in), 1, NOW)
    assert held.fresh_until == held.token.refresh_at == NOW + 3300


def test_tokens_that_live_for_seconds_are_refreshed_at_half_their_life_and_used_for_nine_tenths() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(10), 1, NOW)
    assert (hot.since, held.fresh_until, held.usable_until) == (NOW, NOW + 5, NOW + 9)


@pytest.mark.parametrize("life", [math.inf, math.nan, TEN_YEARS + 60, 1e300])
def test_a_life_that_cannot_be_believed_is_an_hour(life: float, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "aiomsal"):
        held = put(hot_tokens(), request("a"), token(life), 1, NOW)
    assert held.token.expires_at == NOW + UNBELIEVABLE_LIFE
    assert (held.fresh_until, held.usable_until) == (NOW + 3300, NOW + 3570)
    assert held.token.value == "secret"
    assert "secret" not in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("life", [0.0, -1.0, -1e9, -math.inf])
def test_a_token_without_a_life_is_never_usable(life: float) -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(life), 1, NOW)
    assert not held.usable(NOW)
    assert not held.fresh_until > NOW
    assert not hot.accepts(token(life), NOW, fresh=False)


def test_a_clock_that_jumps_forward_ends_tokens_and_one_that_jumps_back_does_not_trust_them() -> None:
    held = put(hot_tokens(), request("a"), token(), 1, NOW)
    assert held.usable(NOW)
    assert held.usable(NOW - 30)
    assert not held.usable(NOW - 31)
    assert held.usable(NOW + 3569)
    assert not held.usable(NOW + 3570)
    assert not held.usable(NOW + 1e9)


@given(
    life=st.floats(0.001, 1e8),
    refresh_in=st.floats(allow_nan=True, allow_infinity=True),
    chance=st.floats(0, 1),
    ahead=st.floats(0, 1e5),
    leeway=st.floats(0, 1e4),
)
def test_jitter_never_moves_freshness_past_refresh_or_use(
    life: float, refresh_in: float, chance: float, ahead: float, leeway: float
) -> None:
    hot = hot_tokens(refresh_ahead=ahead, leeway=leeway, random=lambda: chance)
    given = token(life, refresh_in=refresh_in)
    held = put(hot, request("a"), given, 1, NOW)
    life = given.expires_at - NOW  # as floats have it
    assert held.fresh_until <= held.token.refresh_at
    assert held.fresh_until <= held.usable_until <= given.expires_at
    assert held.usable_until >= given.expires_at - life / 10 - 1e-6
    assert held.token.refresh_at <= given.expires_at
    if not refresh_in < life / 2:
        assert held.token.refresh_at >= given.expires_at - life / 2 - chance * life / 20 - 1
    if life > 1e-3 and refresh_in > 1e-3:
        assert held.fresh_until > NOW  # a new token is never due at once
    # What counts as fresh for a flight is fresh for every reader: else it would bring back what it left for.
    for now in (NOW, NOW + life / 4, held.fresh_until, held.token.refresh_at, held.usable_until):
        if hot.accepts(held.token, now, fresh=True):
            assert now < held.fresh_until
            assert hot.accepts(held.token, now, fresh=False)


def test_jitter_spreads_refreshes_by_a_tenth_at_most() -> None:
    late, early = (put(hot_tokens(random=lambda c=c: c), request("a"), token(), 1, NOW) for c in (0.0, 1.0))
    assert late.fresh_until - early.fresh_until == 30
    short = put(hot_tokens(random=lambda: 1.0), request("a"), token(refresh_in=20), 1, NOW)
    assert short.fresh_until == NOW + 18


# -- tokens from elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [math.inf, math.nan, -math.inf, 0.0, -1.0, TEN_YEARS + 60])
def test_a_recorded_token_with_an_absurd_life_is_not_trusted(life: float) -> None:
    assert not hot_tokens().accepts(token(life), NOW, fresh=False)
    assert not hot_tokens().accepts(token(life), NOW, fresh=True)


@pytest.mark.parametrize(
    ("now", "usable", "fresh"),
    [
        (-31, False, False),
        (-30, True, True),
        (0, True, True),
        (3269, True, True),
        (3270, True, False),  # from here on some reader's jitter calls for a refresh
        (3300, True, False),
        (3569, True, False),
        (3570, False, False),
    ],
)
def test_a_recorded_token_is_judged_by_the_rules_of_those_held(now: float, usable: bool, fresh: bool) -> None:
    hot = hot_tokens()
    recorded = Token("value", NOW + 3600, NOW + 3600, NOW)  # the authority gave no advice
    assert hot.accepts(recorded, NOW + now, fresh=False) is usable
    assert hot.accepts(recorded, NOW + now, fresh=True) is fresh


def test_a_token_obtained_in_the_future_is_not_trusted() -> None:
    assert not hot_tokens().accepts(token(at=NOW + 60), NOW, fresh=False)


@pytest.mark.parametrize("obtained_at", [math.nan, math.inf, -math.inf])
def test_a_token_without_a_date_is_not_trusted(obtained_at: float) -> None:
    assert not hot_tokens().accepts(Token("value", NOW + 3600, NOW + 3600, obtained_at), NOW, fresh=False)


# -- replacing -------------------------------------------------------------------------------------------------------


def test_a_flight_launched_earlier_does_not_overwrite_what_a_later_one_brought() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(value="later"), 2, NOW)
    assert put(hot, request("a"), token(value="earlier"), 1, NOW) is held
    assert held.token.value == "later"
    assert put(hot, request("a"), token(value="latest"), 3, NOW) is held
    assert held.token.value == "latest"
    assert len(hot) == 1


def test_what_was_dropped_is_never_handed_out_not_even_if_a_refresh_postpones_it() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(), 1, NOW)
    hot.drop(held)
    assert hot.get(request("a")) is None
    assert not held.usable(NOW)
    held.postpone(NOW, 30)  # as a refresh does that was aloft meanwhile
    assert not held.fresh_until > NOW
    again = put(hot, request("a"), token(value="new"), 2, NOW)
    hot.drop(held)  # of the same request, but no longer what is held
    assert hot.get(request("a")) is again
    assert again.usable(NOW)


def test_a_killed_entry_comes_to_life_with_a_new_token() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(), 1, NOW)
    held.kill()
    assert not held.usable(NOW)
    put(hot, request("a"), token(value="new"), 2, NOW)
    assert held.usable(NOW)
    assert held.fresh_until > NOW


def test_postponing_makes_a_stale_token_fresh_for_a_while_and_never_past_its_use() -> None:
    held = put(hot_tokens(), request("a"), token(), 1, NOW)
    held.postpone(NOW + 3300, 30)
    assert held.fresh_until == NOW + 3330
    held.postpone(NOW + 3500, 30)
    assert held.fresh_until == NOW + 3500 + 70 / 4
    held.postpone(NOW + 3569.5, 30)
    assert held.fresh_until == NOW + 3570
    held.postpone(NOW + 4000, 30)
    assert held.fresh_until == NOW + 3570


def test_postponing_does_not_shorten_what_a_newer_token_brought() -> None:
    held = put(hot_tokens(), request("a"), token(), 1, NOW)
    held.postpone(NOW, 30)
    assert held.fresh_until == NOW + 3300


def test_postponing_does_not_bring_back_what_was_killed() -> None:
    held = put(hot_tokens(), request("a"), token(), 1, NOW)
    held.kill()
    held.postpone(NOW, 30)
    assert not held.usable(NOW)
    assert not held.fresh_until > NOW


# -- eviction --------------------------------------------------------------------------------------------------------


def test_no_more_tokens_are_held_than_allowed() -> None:
    hot = hot_tokens(10)
    for number in range(1000):
        put(hot, request(number), token(), number, NOW)
        assert len(hot) == len(hot._held) <= 10
        assert len(hot._ring) <= 10
    assert hot.evicted == 990


def test_one_is_enough() -> None:
    hot = hot_tokens(1)
    put(hot, request("a"), token(), 1, NOW)
    assert put(hot, request("b"), token(value="b"), 2, NOW).token.value == "b"
    assert [held.request for held in hot] == [request("b")]


def test_what_has_expired_goes_first_then_what_was_not_used() -> None:
    hot = hot_tokens(4)
    held = {name: put(hot, request(name), token(60 if name == "c" else 3600), 1, NOW) for name in "abcd"}
    for name in "acd":
        held[name].used = True
    put(hot, request("e"), token(at=NOW + 100), 1, NOW + 100)
    assert hot.get(request("c")) is None
    held["a"].used = held["d"].used = True
    hot.get(request("e")).used = True  # type: ignore[union-attr]
    put(hot, request("f"), token(at=NOW + 100), 1, NOW + 100)
    assert hot.get(request("b")) is None
    assert {each.request.scopes[0] for each in hot} == {"a", "d", "e", "f"}


def test_a_token_in_constant_use_outlives_a_flood_of_others() -> None:
    hot = hot_tokens(50)
    loved = put(hot, request("loved"), token(), 0, NOW)
    for number in range(2000):
        loved.used = True
        put(hot, request(number), token(), number, NOW)
        assert hot.get(request("loved")) is loved


def test_where_all_are_used_one_goes_nevertheless() -> None:
    hot = hot_tokens(20)
    for number in range(20):
        put(hot, request(number), token(), number, NOW).used = True
    put(hot, request("new"), token(), 21, NOW)
    assert [each.used for each in hot].count(False) == CHANCES + 1  # those the hand has passed, and the new
    assert len(hot) == 20
    assert hot.get(request("new")) is not None


def test_an_eviction_looks_at_a_few_only(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = hot_tokens(1000)
    for number in range(1000):
        put(hot, request(number), token(), number, NOW).used = True
    looked = 0
    usable = type(next(iter(hot))).usable

    def count(held: object, now: float) -> bool:
        nonlocal looked
        looked += 1
        return usable(held, now)  # type: ignore[arg-type]

    monkeypatch.setattr(type(next(iter(hot))), "usable", count)
    for number in range(100):
        put(hot, request(f"new {number}"), token(), number, NOW)
    assert looked <= 100 * CHANCES
    assert len(hot) == 1000


def test_the_place_of_what_was_dropped_is_used_again() -> None:
    hot = hot_tokens(3)
    held = [put(hot, request(number), token(), number, NOW) for number in range(3)]
    for each in held:
        hot.drop(each)
    assert len(hot) == 0
    for number in range(3, 6):
        put(hot, request(number), token(), number, NOW)
    assert len(hot) == len(hot._ring) == 3
    assert hot.evicted == 0


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "use", "later"]), st.integers(0, 8)), max_size=60))
def test_whatever_comes_the_ring_the_dict_and_the_aliases_agree(steps: list[tuple[str, int]]) -> None:
    hot, now = hot_tokens(4), NOW
    for number, (what, name) in enumerate(steps):
        held = hot.get(request(name))
        if what == "put":
            held = put(hot, request(name), token(at=now), number, now)
            hot.alias(held, ("alias", name))
        elif what == "drop" and held is not None:
            hot.drop(held)
        elif what == "use" and held is not None:
            held.used = True
        elif what == "later":
            now += 1800
        assert len(hot) <= 4
        assert len(hot._ring) <= 4
        assert {id(each) for each in hot} <= {id(each) for each in hot._ring}
        assert {id(each) for each in hot.aliases.values()} <= {id(each) for each in hot}
        assert all(hot.get(each.request) is each for each in hot)


# -- aliases ---------------------------------------------------------------------------------------------------------


def test_aliases_find_what_is_held_are_bounded_and_vanish_with_it() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(), 1, NOW)
    for number in range(100):
        hot.alias(held, ("alias", number))
        hot.alias(held, ("alias", number))
    assert len(hot.aliases) == len(held.aliases) == ALIASES
    assert all(found is held for found in hot.aliases.values())
    hot.drop(held)
    assert hot.aliases == {}
    hot.alias(held, "late")
    assert hot.aliases == {}


def test_aliases_vanish_with_what_is_evicted() -> None:
    hot = hot_tokens(2)
    for number in range(50):
        hot.alias(put(hot, request(number), token(), number, NOW), number)
        assert len(hot.aliases) == len(hot)


def test_an_alias_that_has_come_to_mean_another_entry_stays_with_that() -> None:
    hot = hot_tokens()
    one, other = (put(hot, request(name), token(), 1, NOW) for name in "ab")
    hot.alias(one, "call")
    hot.alias(other, "call")
    hot.drop(one)
    assert hot.aliases == {"call": other}


# -- a clock that goes back ------------------------------------------------------------------------------------------


def test_what_was_obtained_in_the_future_is_dropped_and_the_rest_serves_on() -> None:
    hot = hot_tokens()
    old, new = put(hot, request("old"), token(), 1, NOW), put(hot, request("new"), token(at=NOW + 600), 2, NOW + 600)
    assert hot.since == NOW + 600
    hot.rewind(NOW + 300)
    assert hot.since == NOW + 300
    assert list(hot) == [old]
    assert old.usable(NOW + 300)
    assert not new.usable(NOW + 300)


def test_a_clock_set_back_by_less_than_the_leeway_costs_no_token() -> None:
    hot = hot_tokens()
    held = put(hot, request("a"), token(), 1, NOW)
    hot.rewind(NOW - 20)
    assert hot.get(request("a")) is held
    assert held.fresh_until > NOW - 20


# -- bounds of what is kept beside the tokens ------------------------------------------------------------------------


def test_the_alias_of_a_single_scope_goes_with_its_token() -> None:
    hot = hot_tokens(max_tokens=3)
    for number in range(20):
        hot.alias(put(hot, request(number), token(), number, NOW), str(number))
        assert set(hot.aliases) == {held.request.scopes[0] for held in hot}
    assert len(hot.aliases) == 3
    for held in hot:
        hot.drop(held)
    assert hot.aliases == {}


def test_moments_are_shared_and_bounded() -> None:
    hot = hot_tokens()
    one, other = (put(hot, request(name), token(at=NOW + part), 1, NOW) for name, part in (("a", 0.1), ("b", 0.2)))
    assert one.token.refresh_at is other.token.refresh_at
    for number in range(MOST_MOMENTS + 10):
        put(hot, request("a"), token(at=NOW + number), number, NOW + number)
        assert len(hot._moments) <= MOST_MOMENTS
