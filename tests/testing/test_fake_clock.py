from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiomsal.testing import FakeClock

pytestmark = pytest.mark.timeout(10)


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(1000)
    assert [clock(), clock()] == [1000, 1000]
    assert clock.advance(2.5) == 1002.5
    clock.advance(-2)
    assert clock() == 1000.5
    clock.set(7)
    assert clock() == 7


def test_it_starts_at_the_present_time() -> None:
    before = time.time()
    assert before <= FakeClock()() <= time.time()


def test_no_advance_is_lost_between_threads() -> None:
    clock = FakeClock(0)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2000):
            pool.submit(clock.advance, 1)
    assert clock() == 2000
