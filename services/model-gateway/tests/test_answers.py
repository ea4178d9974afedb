"""Remembered answers: one suite for the fake and for SQLite, and what only a file can show."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pagi_chassis.component import StartError
from pagi_gateway.adapters.sqlite_answers import Bounds, SqliteAnswers
from pagi_gateway.adapters.sqlite_file import SqliteFile
from pagi_gateway.domain.content import Reasoning
from pagi_gateway.domain.effects import EffectName
from pagi_gateway.domain.model import Attempt, FinishReason, Note, NoteKind, Plan, ToolCall, Usage
from pagi_gateway.domain.ports import AnswerLedger
from pagi_gateway.testing import InMemoryAnswerLedger

NAME = EffectName("acme", "run/1/0")
BOUNDS = Bounds(lifetime_s=3600, most_answers=1000, most_bytes=1 << 20)
WHOLE = Plan(
    text="all is “well” 🙂",
    tool_calls=(ToolCall("c1", "math", '{"a": 1'),),
    usage=Usage(7, 3, 0.25, reported=True, cached_input_tokens=2, cache_write_tokens=1, reasoning_tokens=1),
    finish_reason=FinishReason.TOOL_CALLS,
    model="m",
    provider="p",
    latency_ms=12.5,
    reasoning=(Reasoning("so", "signed", "id", redacted=True),),
    notes=(Note(NoteKind.LEFT_OUT, "seed", "cannot"),),
    finish_reason_raw="tool_use",
    first_token_ms=3.5,
    attempts=(
        Attempt("t", "p", "m", "ProviderDown", "gone", 1.5, 1_800_000_000_000, Usage(1, 2)),
        Attempt("u", "p", "m"),
    ),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def answers_in(
    path: Path, *, bounds: Bounds = BOUNDS, space: str = "effects", clock: Clock | None = None
) -> AsyncIterator[SqliteAnswers]:
    file = SqliteFile(path / "gateway.db", variable="MODEL_GATEWAY_DB_PATH")
    answers = SqliteAnswers(file, space, bounds, now=clock or Clock())
    try:
        await file.start()
        await answers.start()
        yield answers
    finally:
        await answers.stop()
        await file.stop()


@pytest.fixture(params=["fake", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnswerLedger]:
    if request.param == "fake":
        yield InMemoryAnswerLedger()
        return
    async with answers_in(tmp_path) as answers:
        yield answers


async def test_what_was_kept_is_found_at_once_and_later(ledger: AnswerLedger) -> None:
    assert await ledger.find(NAME) is None
    ledger.keep(NAME, "f1", WHOLE)
    assert await ledger.find(NAME) == ("f1", WHOLE)
    await written(ledger)
    assert await ledger.find(NAME) == ("f1", WHOLE)
    assert await ledger.find(EffectName("", "run/1/0")) is None
    assert await ledger.find(EffectName("acme", "run/1/1")) is None


async def test_what_is_kept_again_replaces_the_first(ledger: AnswerLedger) -> None:
    ledger.keep(NAME, "f1", WHOLE)
    ledger.keep(NAME, "f2", Plan("other"))
    await written(ledger)
    assert await ledger.find(NAME) == ("f2", Plan("other"))


async def written(ledger: AnswerLedger) -> None:
    """Until nothing stands in line."""
    async with asyncio.timeout(5):
        while getattr(ledger, "_unwritten", None):
            await asyncio.sleep(0.001)


def test_the_plan_that_is_kept_here_has_every_member_set() -> None:
    plain = Plan()
    same = {each.name for each in fields(Plan) if getattr(plain, each.name) == getattr(WHOLE, each.name)}
    assert same <= {"replayed", "cached"}


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    async with answers_in(tmp_path) as answers:
        answers.keep(NAME, "f1", WHOLE)
        await written(answers)
        # Nobody else reads what models wrote.
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("gateway.db*")} == {0o600}
    async with answers_in(tmp_path) as answers:
        assert await answers.find(NAME) == ("f1", WHOLE)
    async with answers_in(tmp_path, space="cache") as other:
        assert await other.find(NAME) is None


async def test_what_is_too_old_is_not_found_and_then_deleted(tmp_path: Path) -> None:
    clock = Clock()
    async with answers_in(tmp_path, clock=clock) as answers:
        answers.keep(NAME, "f", WHOLE)
        answers.keep(short := EffectName("", "short"), "f", WHOLE, lifetime_s=10)
        await written(answers)
        clock.now += 11
        assert await answers.find(short) is None
        assert await answers.find(NAME) is not None
        clock.now += 3600
        assert await answers.find(NAME) is None
        answers._cleaned_at = float("-inf")
        answers.keep(EffectName("", "new"), "f", WHOLE)
    assert rows(tmp_path) == ["new"]


async def test_the_oldest_go_where_there_are_too_many_or_they_are_too_large(tmp_path: Path) -> None:
    clock = Clock()
    large = Plan(text="x" * 10_000)
    bounds = [(Bounds(3600, 100, 1 << 30), WHOLE), (Bounds(3600, 1000, 1_000_000), large)]
    for number, (bound, plan) in enumerate(bounds):
        folder = tmp_path / str(number)
        async with answers_in(folder, bounds=bound, clock=clock) as answers:
            for index in range(250):
                clock.now += 1
                answers.keep(EffectName("", f"{index:03}"), "f", plan)
            await written(answers)
            # The thread cleans up after each commit: with the next one it has.
            await answers._file.flushed()
            assert await answers.find(EffectName("", "249")) is not None
            assert await answers.find(EffectName("", "000")) is None
            answers.keep(EffectName("", "huge"), "f", Plan(text="x" * 2_000_000))
        left = rows(folder)
        assert 20 < len(left) <= 101
        assert left[-1] == ("249" if plan is large else "huge")
        async with answers_in(folder, bounds=bound, clock=clock) as answers:
            assert await answers.find(EffectName("", left[0])) is not None


def rows(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "gateway.db")
    try:
        return [name for (name,) in connection.execute("SELECT name FROM answers ORDER BY kept_at")]
    finally:
        connection.close()


async def test_what_cannot_be_read_or_written_is_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with answers_in(tmp_path) as answers:
        answers.keep(NAME, "f", WHOLE)
        await written(answers)
        connection = sqlite3.connect(tmp_path / "gateway.db")
        connection.execute("UPDATE answers SET plan = x'00'")
        connection.commit()
        assert await answers.find(NAME) is None
        connection.execute("DROP TABLE answers")
        connection.commit()
        connection.close()
        assert await answers.find(NAME) is None
        answers.keep(NAME, "f", WHOLE)
        await written(answers)
        assert await answers.find(NAME) is None
        answers.keep(NAME, "f", replace(WHOLE, text="\ud800"))
    told = caplog.text
    assert told.count("cannot be read, so the model is asked again") == 3
    assert "1 of 1 statements are not kept, the last: no such table: answers" in told
    assert "an answer is not remembered" in told


async def test_a_file_that_cannot_be_opened_stops_the_start_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text("this is no database, and long enough to be looked at as one" * 20)
    with pytest.raises(StartError, match=r"MODEL_GATEWAY_DB_PATH=.*gateway\.db cannot be"):
        async with answers_in(tmp_path):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="MODEL_GATEWAY_DB_PATH="):
        async with answers_in(tmp_path / "file"):
            pass
