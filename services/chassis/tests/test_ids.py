"""Ids that sort by when they were made."""

from __future__ import annotations

import time

import pytest
from pagi_chassis import telemetry
from pagi_chassis.ids import new_id


def test_later_ids_sort_behind_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    ids = []
    for later_ms in (0, 1, 1_000, 10**9):
        monkeypatch.setattr(time, "time_ns", lambda later_ms=later_ms: now + later_ms * 1_000_000)
        ids.append(new_id())

    assert ids == sorted(ids)


def test_ids_of_one_moment_differ_and_are_w3c_trace_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    ids = {new_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(telemetry.is_w3c_trace_id(each) for each in ids)
