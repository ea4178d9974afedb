"""One suite for every `PlaybookStore`: the fake, SQLite, PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.sql_playbooks import SqlPlaybookStore
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.domain.playbook import Known, Outcome, Playbook, PlaybookState, PlaybookStep
from pagi_memory.domain.ports import PlaybookStore
from pagi_memory.domain.standalone import InMemoryPlaybookStore

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
VECTOR = np.array([0.6, 0.8], dtype=np.float32)


def known(id_: str = "p1", minutes: int = 0, **changes: object) -> Known:
    at = NOON + timedelta(minutes=minutes)
    steps = (PlaybookStep("math", '{"expression": "1+2"}', "3 ü"),)
    playbook = Playbook(id_, "default", "Add 1 and 2", steps, {"math": "1"}, 0.25, 12.5, at, at, **changes)
    return Known(playbook, VECTOR, "model-1")


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PlaybookStore]:
    if request.param == "fake":
        yield InMemoryPlaybookStore()
        return
    if request.param == "sqlite":
        database = SqliteHeart(tmp_path / "heart.db")
    else:
        database = PostgresHeart(request.getfixturevalue("postgres_url"))
    await database.start()
    yield SqlPlaybookStore(database)
    await database.stop()


async def test_a_playbook_comes_back_whole(store: PlaybookStore) -> None:
    new = known()
    assert await store.record("", "r1", new)
    expected = replace(new.playbook, last_used_at=NOON)
    assert await store.get("", "p1") == expected
    [back] = await store.of_persona("", "default")
    assert (back.playbook, back.model, back.vector.tolist()) == (expected, "model-1", VECTOR.tolist())
    assert await store.of_persona("", "dog") == []


async def test_the_same_task_again_updates_it_and_the_same_run_changes_nothing(store: PlaybookStore) -> None:
    await store.record("", "r1", known())
    again = replace(known(minutes=5), model="model-2")
    again = replace(again, playbook=replace(again.playbook, prompt="Add 1 to 2", cost_usd=None))
    assert not await store.record("", "r2", again)
    assert not await store.record("", "r2", again)
    assert not await store.record("", "r1", known(minutes=9))
    after = await store.get("", "p1")
    assert after
    assert (after.prompt, after.wins, after.losses, after.cost_usd) == ("Add 1 to 2", 2, 0, None)
    assert (after.created_at, after.updated_at) == (NOON, NOON + timedelta(minutes=5))


async def test_outcomes_count_once_a_run(store: PlaybookStore) -> None:
    await store.record("", "r1", known())
    counts = [store.count("", "p1", "r2", Outcome.LOSS, NOON) for _ in range(5)]
    assert sum(after is not None for after in await asyncio.gather(*counts)) == 1
    assert await store.count("", "p1", "r1", Outcome.WIN, NOON) is None
    assert await store.count("", "gone", "r3", Outcome.WIN, NOON) is None
    assert await store.count("acme", "p1", "r3", Outcome.LOSS, NOON) is None
    after = await store.count("", "p1", "r3", Outcome.WIN, NOON + timedelta(hours=1))
    assert after
    assert (after.wins, after.losses, after.last_used_at) == (2, 1, NOON + timedelta(hours=1))


async def test_one_that_is_set_aside_comes_back_when_its_task_succeeds(store: PlaybookStore) -> None:
    await store.record("", "r1", known())
    for i in range(4):
        await store.count("", "p1", f"loss{i}", Outcome.LOSS, NOON)
    await store.set_aside("", "p1", "lost", NOON)
    await store.set_aside("acme", "p1", "theirs", NOON)
    aside = await store.get("", "p1")
    assert aside
    assert (aside.state, aside.reason, aside.losses) == (PlaybookState.SET_ASIDE, "lost", 4)
    await store.record("", "r2", known(minutes=1))
    back = await store.get("", "p1")
    assert back
    assert (back.state, back.reason, back.wins, back.losses) == (PlaybookState.ACTIVE, "", 1, 0)


async def test_a_list_goes_on_where_the_page_before_ended(store: PlaybookStore) -> None:
    for i in range(5):
        await store.record("", f"r{i}", known(f"p{i}", minutes=i // 2))
    await store.record("acme", "r", known("theirs", 9))
    await store.set_aside("", "p0", "why", NOON + timedelta(minutes=-1))
    ids, after = [], None
    while page := await store.listed("", limit=2, after=after):
        ids += [playbook.id for playbook in page]
        after = (round(page[-1].updated_at.timestamp() * 1e6), page[-1].id)
    assert ids == ["p4", "p3", "p2", "p1", "p0"]
    assert [p.id for p in await store.listed("", limit=9, state=PlaybookState.SET_ASIDE)] == ["p0"]
    assert await store.listed("", limit=9, persona="dog") == []


async def test_it_is_changed_and_forgotten_by_its_tenant_only(store: PlaybookStore) -> None:
    await store.record("", "r1", known())
    changed = replace(known(), playbook=replace(known().playbook, notes="Careful", tool_versions={}))
    assert not await store.change("acme", changed)
    assert not await store.remove("acme", "p1")
    assert await store.get("acme", "p1") is None
    assert await store.change("", changed)
    after = await store.get("", "p1")
    assert after
    assert (after.notes, after.tool_versions) == ("Careful", {})
    assert await store.remove("", "p1")
    assert not await store.remove("", "p1")
    assert not await store.record("", "r1", known()), "a late repeat brings nothing back"
    assert await store.get("", "p1") is None


async def test_the_least_worthy_give_way(store: PlaybookStore) -> None:
    for i in range(4):
        await store.record("", f"r{i}", known(f"p{i}", minutes=i))
    await store.record("acme", "r", known("theirs"))
    await store.count("", "p0", "w", Outcome.WIN, NOON)
    await store.count("", "p3", "l", Outcome.LOSS, NOON)
    await store.set_aside("", "p2", "why", NOON + timedelta(days=1))
    await store.remove_least("", "default", 2)
    assert {p.id for p in await store.listed("", limit=9)} == {"p0", "p1"}
    assert len(await store.listed("acme", limit=9)) == 1


async def test_statistics_count_what_a_tenant_has(store: PlaybookStore) -> None:
    await store.record("", "r1", known("p1"))
    await store.record("", "r1", known("p2"))
    await store.record("acme", "r1", known("theirs"))
    await store.count("", "p1", "r2", Outcome.LOSS, NOON)
    await store.set_aside("", "p1", "why", NOON)
    counted = await store.statistics("")
    assert (counted.playbooks, counted.set_aside, counted.wins, counted.losses) == (2, 1, 2, 1)
