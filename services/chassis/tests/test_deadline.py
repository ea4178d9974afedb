"""The moment by which the work must be done."""

from __future__ import annotations

import asyncio

import pytest
from pagi_chassis import deadline


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(deadline, "time", clock)
    return clock


def test_without_one_a_time_out_stays_as_it_is():
    assert deadline.remaining_s() is None
    assert deadline.within(5) == 5


def test_it_runs_down_and_never_below_zero(clock):
    with deadline.limit(10):
        clock.now += 4
        assert deadline.remaining_s() == 6
        assert deadline.within(60) == 6
        assert deadline.within(1) == 1
        clock.now += 60
        assert deadline.remaining_s() == 0
        assert deadline.within(1) == 0
    assert deadline.remaining_s() is None


def test_an_inner_one_only_shortens(clock):
    with deadline.limit(10):
        with deadline.limit(2):
            assert deadline.remaining_s() == 2
        with deadline.limit(60):
            assert deadline.remaining_s() == 10
        assert deadline.remaining_s() == 10


async def test_each_task_has_its_own(clock):
    async def work(seconds):
        deadline.adopt(seconds)
        await asyncio.sleep(0)
        return deadline.remaining_s()

    assert await asyncio.gather(work(3), work(None), work(5)) == [3, None, 5]
