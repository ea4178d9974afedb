"""One suite for every `PlaybookStore`: the fake, SQLite, PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.sql_playbook_vectors import SqlPlaybookVectors
from pagi_memory.adapters.sql_playbooks import SqlPlaybookStore
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.domain.model import KnowledgeBase, Shelf, owner_of
from pagi_memory.domain.playbook import Entry, Known, Outcome, Playbook, PlaybookState, PlaybookStep, Standing
from pagi_memory.domain.ports import PlaybookStore, PlaybookVectors
from pagi_memory.domain.standalone_mind import InMemoryPlaybooks

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MIND = Shelf("default", KnowledgeBase.MIND)
VECTOR = np.array([0.6, 0.8], dtype=np.float32)


def known(id_: str = "p1", minutes: int = 0, **changes: object) -> Known:
    at = NOON + timedelta(minutes=minutes)
    steps = (PlaybookStep("math", '{"expression": "1+2"}', "3 ü"),)
    playbook = Playbook(id_, "default", "Add 1 and 2", steps, {"math": "1"}, 0.25, 12.5, at, at, **changes)
    return Known(playbook, VECTOR, "model-1")


class Both(NamedTuple):
    """What playbooks are and what their vectors are, in one store."""

    store: PlaybookStore
    vectors: PlaybookVectors


async def record(store: PlaybookStore, tenant: str, run_id: str, new: Known, most: int = 99) -> bool:
    [kept] = await store.keep(tenant, [Entry(run_id, NOON, new)], most=most)
    return kept.created


async def count(
    store: PlaybookStore, tenant: str, playbook_id: str, run_id: str, outcome: Outcome, at: datetime
) -> Standing | None:
    entry = Entry(run_id, at, tried=[playbook_id], outcome=outcome)
    [kept] = await store.keep(tenant, [entry], most=99)
    return kept.standings[0] if kept.standings else None


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Both]:
    if request.param == "fake":
        playbooks = InMemoryPlaybooks(lambda: "model-1")
        yield Both(playbooks, playbooks)
        return
    if request.param == "sqlite":
        database = SqliteHeart(tmp_path / "heart.db")
    else:
        database = PostgresHeart(request.getfixturevalue("postgres_url"))
    await database.start()
    yield Both(SqlPlaybookStore(database, forgotten_at_once=3), SqlPlaybookVectors(database, lambda: "model-1"))
    await database.stop()


@pytest.fixture
def store(both: Both) -> PlaybookStore:
    return both.store


async def test_a_playbook_comes_back_whole(store: PlaybookStore) -> None:
    new = known()
    assert await record(store, "", "r1", new)
    expected = replace(new.playbook, last_used_at=NOON)
    assert await store.get("", "p1") == expected
    assert await store.known("", ["p1", "p2"]) == {"p1"}
    assert await store.known("acme", ["p1"]) == await store.known("", []) == set()


async def test_the_same_task_again_updates_it_and_the_same_run_changes_nothing(store: PlaybookStore) -> None:
    await record(store, "", "r1", known())
    again = replace(known(minutes=5), model="model-2")
    again = replace(again, playbook=replace(again.playbook, prompt="Add 1 to 2", cost_usd=None))
    assert not await record(store, "", "r2", again)
    assert not await record(store, "", "r2", again)
    assert not await record(store, "", "r1", known(minutes=9))
    after = await store.get("", "p1")
    assert after
    assert (after.prompt, after.wins, after.losses, after.cost_usd) == ("Add 1 to 2", 2, 0, None)
    assert (after.created_at, after.updated_at) == (NOON, NOON + timedelta(minutes=5))


async def test_outcomes_count_once_a_run(store: PlaybookStore) -> None:
    await record(store, "", "r1", known())
    counts = [count(store, "", "p1", "r2", Outcome.LOSS, NOON) for _ in range(5)]
    assert sum(after is not None for after in await asyncio.gather(*counts)) == 1
    assert await count(store, "", "p1", "r1", Outcome.WIN, NOON) is None
    assert await count(store, "", "gone", "r3", Outcome.WIN, NOON) is None
    assert await count(store, "acme", "p1", "r3", Outcome.LOSS, NOON) is None
    after = await count(store, "", "p1", "r3", Outcome.WIN, NOON + timedelta(hours=1))
    assert after == Standing("p1", 2, 1, PlaybookState.ACTIVE)
    playbook = await store.get("", "p1")
    assert playbook
    assert (playbook.wins, playbook.losses, playbook.last_used_at) == (2, 1, NOON + timedelta(hours=1))


async def test_one_that_is_set_aside_comes_back_when_its_task_succeeds(store: PlaybookStore) -> None:
    await record(store, "", "r1", known())
    for i in range(4):
        await count(store, "", "p1", f"loss{i}", Outcome.LOSS, NOON)
    await store.set_aside("", "p1", "lost", NOON)
    await store.set_aside("acme", "p1", "theirs", NOON)
    aside = await store.get("", "p1")
    assert aside
    assert (aside.state, aside.reason, aside.losses) == (PlaybookState.SET_ASIDE, "lost", 4)
    await record(store, "", "r2", known(minutes=1))
    back = await store.get("", "p1")
    assert back
    assert (back.state, back.reason, back.wins, back.losses) == (PlaybookState.ACTIVE, "", 1, 0)


async def test_one_found_by_its_vector_is_always_as_it_is_now(both: Both) -> None:
    store, other = both.store, known("p2")
    await record(store, "", "r1", known())
    await record(store, "", "r1", other)
    [entry, second] = sorted(await both.vectors.entries(MIND))

    async def now() -> Playbook | None:
        assert await store.of_entries("acme", [entry]) == {}
        found = await store.of_entries("", [entry, second, "999"])
        assert found.get(entry) == await store.get("", "p1")
        assert found[second].id == "p2"
        return found.get(entry)

    assert await now() == await now() == replace(known().playbook, last_used_at=NOON)
    await count(store, "", "p1", "r2", Outcome.LOSS, NOON)
    assert (await now()).losses == 1
    await store.set_aside("", "p1", "lost", NOON)
    assert (await now()).reason == "lost"
    await record(store, "", "r3", known(minutes=1))
    assert (await now()).state is PlaybookState.ACTIVE
    await store.change("", replace(known().playbook, notes="Careful"))
    assert (await now()).notes == "Careful"
    await store.remove("", "p1")
    assert await now() is None


async def test_one_that_gave_way_is_not_found_by_its_vector(both: Both) -> None:
    await record(both.store, "", "r1", known())
    [entry] = await both.vectors.entries(MIND)
    assert await both.store.of_entries("", [entry])
    await record(both.store, "", "r2", known("p2", minutes=1), most=1)
    assert await both.store.of_entries("", [entry]) == {}


async def test_a_list_goes_on_where_the_page_before_ended(store: PlaybookStore) -> None:
    for i in range(5):
        await record(store, "", f"r{i}", known(f"p{i}", minutes=i // 2))
    await record(store, "acme", "r", known("theirs", 9))
    await store.set_aside("", "p0", "why", NOON + timedelta(minutes=-1))
    ids, after = [], None
    while page := await store.listed("", limit=2, after=after):
        ids += [playbook.id for playbook in page]
        after = (round(page[-1].updated_at.timestamp() * 1e6), page[-1].id)
    assert ids == ["p4", "p3", "p2", "p1", "p0"]
    assert [p.id for p in await store.listed("", limit=9, state=PlaybookState.SET_ASIDE)] == ["p0"]
    assert await store.listed("", limit=9, persona="dog") == []


async def test_it_is_changed_and_forgotten_by_its_tenant_only(store: PlaybookStore) -> None:
    await record(store, "", "r1", known())
    changed = replace(known().playbook, notes="Careful", tool_versions={})
    assert not await store.change("acme", changed)
    assert not await store.remove("acme", "p1")
    assert await store.get("acme", "p1") is None
    assert await store.change("", changed)
    after = await store.get("", "p1")
    assert after
    assert (after.notes, after.tool_versions) == ("Careful", {})
    assert await store.remove("", "p1") == "default"
    assert await store.remove("", "p1") == ""
    assert not await record(store, "", "r1", known()), "a late repeat brings nothing back"
    assert await store.get("", "p1") is None


async def test_the_least_worthy_give_way(store: PlaybookStore, both: Both) -> None:
    for i in range(4):
        await record(store, "", f"r{i}", known(f"p{i}", minutes=i))
    await record(store, "acme", "r", known("theirs"))
    await count(store, "", "p0", "w", Outcome.WIN, NOON)
    await count(store, "", "p3", "l", Outcome.LOSS, NOON)
    await store.set_aside("", "p2", "why", NOON + timedelta(days=1))
    await record(store, "", "r9", known("p4", minutes=9), most=3)
    assert {p.id for p in await store.listed("", limit=9)} == {"p0", "p1", "p4"}
    assert await both.vectors.count(MIND) == 3
    assert len(await store.listed("acme", limit=9)) == 1


async def test_statistics_count_what_a_tenant_has(store: PlaybookStore) -> None:
    await record(store, "", "r1", known("p1"))
    await record(store, "", "r1", known("p2"))
    await record(store, "acme", "r1", known("theirs"))
    await count(store, "", "p1", "r2", Outcome.LOSS, NOON)
    await store.set_aside("", "p1", "why", NOON)
    counted = await store.statistics("")
    assert (counted.playbooks, counted.set_aside, counted.wins, counted.losses) == (2, 1, 2, 1)


async def test_runs_that_nobody_repeats_any_more_are_forgotten_and_their_counts_stay(store: PlaybookStore) -> None:
    for day in range(6):
        at = NOON + timedelta(days=day)
        await record(store, "acme" if day == 1 else "", f"r{day}", known("theirs" if day == 1 else "p1", day * 1_440))
        await count(store, "", "p1", f"w{day}", Outcome.LOSS, at)

    async def forget(**bounds: object) -> int:
        counts = [await store.statistics(tenant) for tenant in ("", "acme")]
        forgotten = 0
        while some := await store.forget_runs(**bounds):
            forgotten += some
        assert counts == [await store.statistics(tenant) for tenant in ("", "acme")]
        return forgotten

    assert await forget(before=NOON, most=12) == 0
    assert await forget(before=NOON + timedelta(days=2), most=99) == 4
    assert await forget(before=NOON, most=6) == 2, "more than the newest six"
    assert await count(store, "", "p1", "w5", Outcome.LOSS, NOON) is None, "that one is still known"
    assert await count(store, "", "p1", "w0", Outcome.LOSS, NOON)
    assert (await store.statistics("")).losses == 7


async def test_of_runs_of_one_time_no_more_are_forgotten_than_must_be_and_some_at_once(both: Both) -> None:
    store = both.store
    await record(store, "", "r0", known())
    await store.keep("", [Entry(f"r{i}", NOON, tried=["p1"], outcome=Outcome.WIN) for i in range(1, 11)], most=99)

    async def forget(**bounds: object) -> list[int]:
        return [await store.forget_runs(**bounds) for _ in range(5)]

    rest = [0, 0, 0]
    in_memory = isinstance(store, InMemoryPlaybooks)
    assert await forget(before=NOON, most=6) == ([5, 0, *rest] if in_memory else [3, 2, *rest])
    after = NOON + timedelta(seconds=1)
    assert await forget(before=after, most=6) == ([6, 0, *rest] if in_memory else [3, 3, *rest])


async def test_many_runs_are_kept_at_once(store: PlaybookStore) -> None:
    at = NOON + timedelta(minutes=1)
    entries = [
        Entry("r1", at, known("p1")),
        Entry("r2", at, known("p2"), tried=["p1", "gone"], outcome=Outcome.LOSS),
        Entry("r1", at, known("p1"), tried=["p1"], outcome=Outcome.WIN),
        Entry("r3", at, tried=["p1", "p2"], outcome=Outcome.WIN),
    ]
    kept = await store.keep("", entries, most=99)
    assert [(k.created, k.is_new_task, [s.id for s in k.standings]) for k in kept] == [
        (True, True, []),
        (True, True, ["p1"]),
        (False, False, []),
        (False, False, ["p1", "p2"]),
    ]
    assert not any(k.created or k.is_new_task or k.standings for k in await store.keep("", entries, most=99))
    p1, p2 = await store.get("", "p1"), await store.get("", "p2")
    assert p1
    assert p2
    assert (p1.wins, p1.losses, p2.wins, p2.losses) == (2, 1, 2, 0)


async def test_the_vectors_of_a_shelf(both: Both) -> None:
    store, vectors = both
    theirs = Shelf("default", KnowledgeBase.MIND, owner_of("acme"))
    for place, tenant in enumerate(["", "", "acme"]):
        await record(store, tenant, "r", known(f"p{place}"))
    assert await vectors.counts() == {MIND: 2, theirs: 1}
    assert (await vectors.count(MIND), await vectors.count(Shelf("dog", KnowledgeBase.MIND))) == (2, 0)
    names = await vectors.entries(MIND)
    assert {p.id for p in (await store.of_entries("", sorted(names))).values()} == {"p0", "p1"}
    assert await store.of_entries("acme", sorted(names)) == await store.of_entries("", []) == {}
    assert {name: vector.tolist() for name, vector in (await vectors.some([*sorted(names), "999"])).items()} == (
        dict.fromkeys(names, VECTOR.tolist())
    )
    assert await vectors.some([]) == {}
    ids, matrix = await vectors.vectors(MIND)
    assert (set(ids), matrix.tolist()) == (names, [VECTOR.tolist()] * 2)
    assert [hit.passage_id for hit in await vectors.nearest(VECTOR, [theirs], 9)] == sorted(
        await vectors.entries(theirs)
    )


async def test_a_vector_has_another_name_after_each_change_and_only_then(both: Both) -> None:
    store, vectors = both
    await record(store, "", "r1", known())
    stamps, names = [await vectors.stamp(MIND)], [await vectors.entries(MIND)]

    async def look() -> None:
        stamps.append(await vectors.stamp(MIND))
        names.append(await vectors.entries(MIND))

    await record(store, "", "r2", known(minutes=1))
    await store.change("", replace(known().playbook, notes="x"))
    await look()
    assert (stamps[0], names[0]) == (stamps[1], names[1])
    other = replace(known(minutes=2), playbook=replace(known(minutes=2).playbook, prompt="Add one and two"))
    await record(store, "", "r3", other)
    await look()
    again = known(minutes=3)
    await store.change("", again.playbook, again)
    await look()
    await store.remove("", "p1")
    await look()
    await record(store, "", "r4", known("p2"))
    await look()
    assert len(set(stamps)) == 5
    assert all(not a & b for i, a in enumerate(names[1:]) for b in names[1:][:i])


async def test_vectors_of_another_model_are_made_beside_the_others(both: Both) -> None:
    store, vectors = both
    await record(store, "", "r1", known("p1"))
    await record(store, "acme", "r2", known("p2"))
    missing = await vectors.without_vector("model-2", 9)
    assert sorted(missing.values()) == ["Add 1 and 2"] * 2
    assert len(await vectors.without_vector("model-2", 1)) == 1
    assert await vectors.without_vector("model-1", 9) == {}
    changed = replace(known("p1", minutes=1), playbook=replace(known("p1", minutes=1).playbook, prompt="Another task"))
    await store.change("", changed.playbook, changed)
    await vectors.add_vectors("model-2", dict.fromkeys(missing, VECTOR))
    assert list((await vectors.without_vector("model-2", 9)).values()) == ["Another task"], "its prompt has changed"
    assert await vectors.counts() == {MIND: 1, Shelf("default", KnowledgeBase.MIND, owner_of("acme")): 1}
