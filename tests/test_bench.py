"""What the bench must not do in silence."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import rounds

    return rounds


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    with subprocess.Popen([sys.executable, "-c", request.param], stdin=subprocess.PIPE) as process:
        yield SimpleNamespace(name="service", pid=process.pid)
        process.kill()


def test_a_target_that_does_not_come_to_rest_is_an_error(monkeypatch: pytest.MonkeyPatch, rounds: ModuleType) -> None:
    looks = itertools.count()
    # Between two looks it has always worked.
    monkeypatch.setattr(rounds, "cpu_s", lambda _: {"service": 0.1 * next(looks)})
    monkeypatch.setattr(rounds, "_LONGEST_REST_S", 0.6)
    with pytest.raises(rounds.BenchError, match=r"^mesh did not come to rest within 0\.6 s$"):
        rounds.Target("mesh", 0, []).at_rest()
    assert next(looks) > 3


@pytest.mark.parametrize("child", ["input()"], indirect=True)
def test_what_a_target_uses_at_rest_is_known(
    monkeypatch: pytest.MonkeyPatch, rounds: ModuleType, child: SimpleNamespace
) -> None:
    monkeypatch.setattr(rounds, "_IDLE_S", 0.1)
    idle = rounds.Target("mesh", 0, [child]).at_rest().idle
    assert idle == {"service": pytest.approx(0.0, abs=0.3)}
