"""Every point of a run, every process: the run ends, effects happen once, the answer is the undisturbed one's.

`make test` tries every point with a kill of the planner, and some with every other fault; `make chaos` tries all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from faulty_mesh import SCRIPT, FaultyMesh, Outcome
from journal_rules import check_journal
from real_mesh import eventually

ANSWER = SCRIPT[-1]["text"]
# Fault and victim, and how many of the points `make test` tries.
FAULTS = {
    ("kill", "gateway"): 5,
    ("kill", "sandbox"): 5,
    ("kill", "memory"): 3,
    ("kill", "redis"): 3,
    ("stop", "planner"): 3,
    ("stop", "gateway"): 3,
    ("stop", "sandbox"): 3,
    ("full_disk", "planner"): 6,
    ("clock", "planner"): 6,
}
ALL = bool(os.environ.get("CHAOS_ALL"))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyMesh]:
    mesh = FaultyMesh(tmp_path_factory.mktemp("chaos"))
    yield mesh
    mesh.stop()


@pytest.fixture(scope="module")
def points(mesh: FaultyMesh) -> list[str]:
    return mesh.points()


def check(outcome: Outcome, where: str, *, model_calls_lost: int = 0, may_fail: bool = False) -> Counter[str]:
    """The promises of docs/runs.md; returns what is worth printing."""
    events = outcome.events
    check_journal(where, events)
    assert all(count == 1 for count in Counter(outcome.effects).values()), (where, outcome.effects)
    assert max(Counter(outcome.played).values(), default=0) <= 1 + model_calls_lost, (where, outcome.played)
    failed = outcome.answer["status"] == "failed"
    assert not failed or may_fail, (where, outcome.answer)
    if not failed:
        assert (outcome.answer["status"], outcome.answer["result"]) == ("completed", ANSWER), (where, outcome.answer)
    lost = [data["verdict"] for _, kind, data in events if kind == "TOOL_ERROR"]
    unknown = lost.count("unknown")
    # Who is away for longer than a call is patient is said to be: the effect has not happened then.
    if not failed and not lost:
        assert outcome.effects == ["one", "two"], (where, outcome.effects, outcome.answer["steps"])
    # A run that began while the sandbox was away has no tools: its calls are `invalid`.
    assert set(lost) <= {"unknown", "unavailable", "invalid"}, (where, lost)
    assert "invalid" not in lost or "sandbox" in outcome.answer["degraded"], (where, lost)
    away = len(lost) - unknown
    return Counter(tried=1, failed=failed, unknown=unknown, away=away, duplicates=0, stuck=0)


def told(name: str, counted: Counter[str]) -> None:
    survived = counted["tried"] - counted["failed"]
    print(
        f"chaos, {name}: {counted['tried']} points tried, {survived} survived, "
        f"{counted['failed']} ended as failed with a reason, {counted['unknown']} outcomes unknown, "
        f"{counted['away']} calls without a sandbox, {counted['duplicates']} duplicates, {counted['stuck']} stuck"
    )


def test_undisturbed(mesh: FaultyMesh, points: list[str]) -> None:
    outcome = mesh.case("undisturbed")
    check(outcome, "undisturbed")
    assert outcome.effects == ["one", "two"]
    assert outcome.played == ["1", "2", "3"]
    assert len(points) > 40


@pytest.mark.timeout(300)
def test_the_planner_is_killed_at_every_point(mesh: FaultyMesh, points: list[str]) -> None:
    counted: Counter[str] = Counter()
    for point, where in enumerate(points, 1):
        outcome = mesh.case(f"kill-planner-{point}", point=point)
        counted += check(outcome, f"{point}: {where}")
    told("kill -9 of the planner", counted)


@pytest.mark.timeout(1200 if ALL else 240)
@pytest.mark.parametrize(("fault", "victim"), FAULTS, ids=[" ".join(each) for each in FAULTS])
def test_a_fault_at(mesh: FaultyMesh, points: list[str], fault: str, victim: str) -> None:
    tried = len(points) if ALL else FAULTS[fault, victim]
    counted: Counter[str] = Counter()
    for number in range(tried):
        point = 1 + number * len(points) // tried
        where = f"{fault} {victim} at {point}: {points[point - 1]}"
        outcome = mesh.case(f"{fault}-{victim}-{point}", point=point, fault=fault, victim=victim)
        # A gateway that dies has lost the answers that were on their way through it.
        lost = 1 if victim == "gateway" and fault == "kill" else 0
        counted += check(outcome, where, model_calls_lost=lost, may_fail=fault == "full_disk")
    told(f"{fault} {victim}", counted)


def test_what_was_noted_is_published_at_last(mesh: FaultyMesh) -> None:
    outcome = mesh.case("published", point=9, victim="redis")
    run_id = outcome.answer["run_id"]
    mesh._fork_planner({"point": 0, "fault": "kill", "victim": 0})
    eventually(lambda: set(mesh.notified(run_id)) >= {"STARTED", "COMPLETED"}, what="both notifications")
