"""One suite for every `SessionStore`: the fake, SQLite, PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pagi_memory.adapters import sql_session_statements as statements
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.sql_script import Statement
from pagi_memory.adapters.sql_sessions import SqlSessionStore
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.domain.ports import SessionStore
from pagi_memory.domain.session import Retention, SaidVector, SessionRecord, Summary
from pagi_memory.testing import InMemorySessionStore

KEY = SessionKey("", "s")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def run_turns(run: str, minutes: int, count: int = 2) -> list[Turn]:
    roles = [TurnRole.USER, TurnRole.TOOL_PLAN, TurnRole.TOOL_OUTPUT, TurnRole.ASSISTANT]
    at = NOON + timedelta(minutes=minutes)
    return [Turn(roles[i % 4], f"{run}-{i} '\" ü ?", run, i, at) for i in range(count)]


def said(text: str, run: str, minutes: int = 0, position: int = 0, role: TurnRole = TurnRole.USER) -> Turn:
    return Turn(role, text, run, position, NOON + timedelta(minutes=minutes))


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    if request.param == "fake":
        yield InMemorySessionStore()
        return
    if request.param == "sqlite":
        database = SqliteHeart(tmp_path / "deep" / "heart.db")
    else:
        database = PostgresHeart(request.getfixturevalue("postgres_url"))
    await database.start()
    yield SqlSessionStore(database)
    await database.stop()


async def test_what_was_stored_comes_back_whole(store: SessionStore) -> None:
    turns = run_turns("r1", 0, 4)
    assert await store.append(KEY, "default", turns) == 4
    assert await store.newest(KEY, 10) == await store.turns(KEY, limit=99) == turns


async def test_a_repeat_changes_nothing(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    assert await store.append(KEY, "default", run_turns("r1", 5)) == 0
    assert await store.append(KEY, "default", run_turns("r1", 0, 3)) == 1
    assert await store.newest(KEY, 10) == run_turns("r1", 0, 3)


async def test_many_turns_at_once_are_each_stored_once_and_found_by_the_turn_before(store: SessionStore) -> None:
    turns = [said(f"word{i}", "r1", position=i) for i in range(120)]
    twice = said("another text", "r1", position=7)
    vector = SaidVector("r1", 100, "model-1", np.array([0.6, 0.8], dtype=np.float32))
    assert await store.append(KEY, "default", [*turns[:10], twice, *turns[10:]], [vector]) == 120
    assert await store.turns(KEY, limit=200) == turns
    assert await store.turns(KEY, after=turns[99], limit=9) == turns[100:109]
    for place in (0, 49, 50, 51, 119):
        found = await store.search("", [f"word{place}"], limit=9)
        # Its own words, and those of the turn before.
        assert {hit.turn.position for hit in found} == {place, place + 1} - {120}
    near = await store.nearest("", vector.vector, "model-1", limit=9)
    assert [hit.turn.position for hit in near] == [100]


async def test_turns_stored_late_stand_where_they_were_said(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("later", 10))
    await store.append(KEY, "other", run_turns("earlier", 0))
    assert [t.run_id for t in await store.newest(KEY, 10)] == ["earlier", "earlier", "later", "later"]
    assert [t.text for t in await store.newest(KEY, 3)] == [
        t.text for t in [*run_turns("earlier", 0)[1:], *run_turns("later", 10)]
    ]
    found = await store.session(KEY)
    assert found
    assert (found[0].persona, found[0].updated_at) == ("default", NOON + timedelta(minutes=10))


async def test_sessions_and_tenants_do_not_see_each_other(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    for other in (SessionKey("", "t"), SessionKey("acme", "s")):
        assert await store.newest(other, 10) == []
        assert await store.session(other) is None
        assert await store.append(other, "default", run_turns("r1", 0)) == 2
    assert len(await store.newest(KEY, 10)) == 2


async def test_the_same_turns_at_once_are_stored_once(store: SessionStore) -> None:
    stored = await asyncio.gather(*(store.append(KEY, "default", run_turns("r1", 0)) for _ in range(20)))
    assert sum(stored) == 2


async def test_a_list_goes_on_where_the_page_before_ended(store: SessionStore) -> None:
    for i in range(5):
        await store.append(SessionKey("", f"s{i}"), "dog" if i == 3 else "default", run_turns("r", i // 2))
    await store.append(SessionKey("acme", "theirs"), "default", run_turns("r", 9))
    names, after = [], None
    while page := await store.sessions("", limit=2, after=after):
        names += [session.session_id for session in page]
        after = (round(page[-1].updated_at.timestamp() * 1e6), page[-1].session_id)
    assert names == ["s4", "s3", "s2", "s1", "s0"]
    [of_dog] = await store.sessions("", limit=9, persona="dog")
    assert (of_dog.session_id, of_dog.turns, of_dog.title) == ("s3", 2, "r-0 '\" ü ?")


async def test_a_title_stays_as_it_was_given(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    assert await store.rename(KEY, "Mine")
    await store.append(KEY, "default", run_turns("r2", 1))
    [session] = await store.sessions("", limit=1)
    assert (session.title, session.turns) == ("Mine", 4)
    assert not await store.rename(SessionKey("acme", "s"), "Theirs")


async def test_a_forgotten_session_stays_forgotten(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    await store.append(SessionKey("acme", "s"), "default", run_turns("r1", 0))
    assert await store.forget_session(SessionKey("", "other"), NOON) is None
    assert await store.forget_session(KEY, NOON) == 2
    assert await store.forget_session(KEY, NOON) is None
    assert await store.append(KEY, "default", run_turns("r1", 0)) == 0
    assert await store.session(KEY) is None
    assert await store.search("", ["r1"], limit=9) == []
    assert await store.append(KEY, "default", run_turns("r2", 0)) == 2
    assert len(await store.newest(SessionKey("acme", "s"), 9)) == 2


async def test_a_turn_is_changed_and_forgotten(store: SessionStore) -> None:
    await store.append(KEY, "default", [said("blue whales", "r1"), said("green", "r1", 0, 1, TurnRole.ASSISTANT)])
    theirs = SessionKey("acme", "s")
    assert await store.edit_turn(theirs, "r1", 0, "x", NOON) is None
    assert not await store.forget_turn(theirs, "r1", 0, NOON)
    edited = await store.edit_turn(KEY, "r1", 0, "red foxes", NOON)
    assert edited
    assert (edited.text, edited.edited_at) == ("red foxes", NOON)
    assert (await store.newest(KEY, 9))[0] == edited
    assert (await store.search("", ["foxes"], limit=9))[0].turn.text == "red foxes"
    assert await store.forget_turn(KEY, "r1", 0, NOON)
    assert not await store.forget_turn(KEY, "r1", 0, NOON)
    assert await store.append(KEY, "default", [said("blue whales", "r1")]) == 0
    assert [turn.text for turn in await store.newest(KEY, 9)] == ["green"]


async def test_search_finds_words_dates_and_answers_by_their_question(store: SessionStore) -> None:
    await store.append(
        KEY, "dog", [said("When do penguins breed?", "r1"), said("In May.", "r1", 1, 1, TurnRole.ASSISTANT)]
    )
    await store.append(SessionKey("", "t"), "default", [said("penguin", "r2", 5)])
    await store.append(SessionKey("acme", "s"), "default", [said("penguins breed", "r1")])
    hits = await store.search("", ["penguins", "breed"], limit=9)
    assert (hits[0].session_id, hits[0].turn.text) == ("s", "When do penguins breed?")
    assert {hit.turn.text for hit in hits} >= {"When do penguins breed?"}
    assert set(hits[0].matched_words) >= {"breed", "penguins"}
    assert hits[0].score > 0
    assert hits[0].title == "When do penguins breed?"
    assert {hit.session_id for hit in await store.search("", ["penguins", "breed"], session_id="s", limit=9)} == {"s"}
    assert {hit.session_id for hit in await store.search("", ["penguins"], persona="dog", limit=9)} == {"s"}
    assert len(await store.search("", ["penguins", "breed"], limit=1)) == 1
    assert {hit.session_id for hit in await store.search("", ["march"], limit=9)} == {"s", "t"}
    assert await store.search("", ["'", '"', "\\", "owner", "*", "NEAR(a"], limit=9) == []
    assert await store.search("nobody", ["penguins"], limit=9) == []


async def test_turns_are_found_by_what_they_mean(store: SessionStore) -> None:
    def meant(run: str, *vector: float, model: str = "m") -> SaidVector:
        return SaidVector(run, 0, model, np.array(vector, dtype=np.float32))

    east, north = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
    await store.append(KEY, "dog", [said("east", "r1"), said("x", "r1", 0, 1)], [meant("r1", 1, 0)])
    await store.append(KEY, "dog", [said("north", "r2", 1)], [meant("r2", 0, 1)])
    await store.append(SessionKey("", "t"), "default", [said("north-east", "r3", 2)], [meant("r3", 0.6, 0.8)])
    await store.append(SessionKey("", "t"), "default", [said("another model", "r4", 3)], [meant("r4", 0, 1, model="n")])
    await store.append(SessionKey("acme", "s"), "default", [said("theirs", "r5")], [meant("r5", 0, 1)])

    async def found(vector: np.ndarray, limit: int = 9, tenant: str = "", model: str = "m", **where: str) -> list[str]:
        hits = await store.nearest(tenant, vector, model, **where, limit=limit)
        return [hit.turn.text for hit in hits]

    assert await found(north) == ["north", "north-east", "east"]
    assert await found(east, limit=2) == ["east", "north-east"]
    assert await found(north, session_id="s") == ["north", "east"]
    assert await found(north, persona="default") == ["north-east"]
    assert await found(north, session_id="t", persona="dog") == await found(north, tenant="nobody") == []
    assert (await found(north, model="n"), await found(north, tenant="acme")) == (["another model"], ["theirs"])
    [best] = await store.nearest("", north, "m", limit=1)
    assert (best.session_id, best.title, best.score) == ("s", "east", pytest.approx(1))
    # A repeat changes nothing; what is changed or forgotten is not found by what it once meant.
    assert await store.append(KEY, "dog", [said("north", "r2", 1)], [meant("r2", 1, 0)]) == 0
    assert (await found(north))[0] == "north"
    await store.edit_turn(KEY, "r2", 0, "south", NOON)
    await store.forget_turn(KEY, "r1", 0, NOON)
    assert await found(north) == ["north-east"]
    await store.forget_session(SessionKey("", "t"), NOON)
    assert await found(north) == []
    await store.append(KEY, "dog", [said("east", "r6", 9), said("y", "r7", 10)], [meant("r6", 1, 0)])
    await store.expire(Retention(turns=1), NOON)
    assert await found(east) == []


async def test_a_summary_covers_turns_once(store: SessionStore) -> None:
    for i in range(3):
        await store.append(KEY, "default", [said(f"t{i}", f"r{i}", i)])
    window = await store.window(KEY, 1)
    assert [each.turn.text for each in window.newest] == ["t2"]
    assert [each.turn.text for each in window.pending] == ["t0", "t1", "t2"]
    numbers = [each.number for each in window.pending[:2]]
    assert await store.roll(KEY, Summary("first two", "test", version=window.summary.version), numbers)
    assert not await store.roll(KEY, Summary("late", "test", version=window.summary.version), numbers)
    assert not await store.roll(SessionKey("acme", "s"), Summary("theirs"), numbers)
    window = await store.window(KEY, 9)
    assert (window.summary.text, window.summary.made_by) == ("first two", "test")
    session = await store.session(KEY)
    assert session
    assert (session[0].turns, session[1].text, session[1].turns) == (3, "first two", 2)
    assert [each.turn.text for each in window.pending] == ["t2"]
    # Stored late, said early: it waits for the next summary.
    await store.append(KEY, "default", [said("late", "r9", -5)])
    assert [each.turn.text for each in (await store.window(KEY, 9)).pending] == ["late", "t2"]


@pytest.mark.parametrize("change", ["edit", "forget"])
async def test_a_summary_does_not_outlive_what_it_tells_of(store: SessionStore, change: str) -> None:
    await store.append(KEY, "default", [said("t0", "r0"), said("t1", "r0", 0, 1)])
    window = await store.window(KEY, 9)
    await store.roll(KEY, Summary("t0", "test", version=window.summary.version), [window.pending[0].number])
    stale = (await store.window(KEY, 9)).summary
    if change == "edit":
        await store.edit_turn(KEY, "r0", 0, "new", NOON)
    else:
        await store.forget_turn(KEY, "r0", 0, NOON)
    window = await store.window(KEY, 9)
    assert window.summary.text == ""
    assert len(window.pending) == (2 if change == "edit" else 1)
    assert not await store.roll(KEY, stale, [window.pending[0].number])


async def test_what_is_taken_in_is_there_once_also_where_it_was_forgotten(store: SessionStore) -> None:
    records = [
        SessionRecord("b", "dog", "Mine", run_turns("r1", 0, 3)),
        SessionRecord("a", "default", "", [Turn(TurnRole.USER, "edited", "r", 0, NOON, NOON)]),
    ]
    assert await store.take_in("", records) == 4
    assert await store.take_in("", records) == 0
    assert await store.turns(SessionKey("", "a"), limit=99) == records[1].turns
    await store.forget_session(SessionKey("", "b"), NOON)
    assert await store.take_in("", records) == 3
    found = await store.session(SessionKey("", "b"))
    assert found
    assert (found[0].title, found[0].persona) == ("Mine", "dog")
    assert await store.sessions("acme", limit=9) == []


async def test_statistics_count_what_a_tenant_has(store: SessionStore) -> None:
    assert (await store.statistics("")).oldest_at is None
    await store.append(KEY, "default", [said("four", "r0"), said("five!", "r1", 5)])
    await store.append(SessionKey("acme", "s"), "default", [said("theirs", "r0")])
    counted = await store.statistics("")
    assert (counted.sessions, counted.turns, counted.characters, counted.summarised) == (1, 2, 9, 0)
    assert (counted.oldest_at, counted.newest_at) == (NOON, NOON + timedelta(minutes=5))


async def test_what_is_too_old_or_too_much_expires(store: SessionStore) -> None:
    now = NOON + timedelta(days=10)
    for i in range(4):
        await store.append(SessionKey("", f"s{i}"), "default", run_turns("r", i * 24 * 60, 3))
    await store.append(SessionKey("acme", "s"), "default", run_turns("r", 0, 3))
    assert await store.expire(Retention(), now) == 0
    assert await store.expire(Retention(days=8), now) == 3
    assert [s.session_id for s in await store.sessions("", limit=9)] == ["s3", "s2"]
    assert await store.sessions("acme", limit=9) == []
    assert await store.expire(Retention(sessions=1, turns=2), now) == 1
    [kept] = await store.sessions("", limit=9)
    assert (kept.session_id, kept.turns) == ("s3", 2)
    assert [turn.position for turn in await store.turns(SessionKey("", "s3"), limit=99)] == [1, 2]


async def test_sqlite_keeps_turns_over_a_restart(tmp_path: Path) -> None:
    for round_ in range(2):
        database = SqliteHeart(tmp_path / "heart.db")
        await database.start()
        store = SqlSessionStore(database)
        assert await store.append(KEY, "default", run_turns("r1", 0)) == (0 if round_ else 2)
        assert len(await store.newest(KEY, 10)) == 2
        await database.stop()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "heart.db").write_bytes(b"no database at all" * 100)
    database = SqliteHeart(tmp_path / "heart.db")
    with pytest.raises(StoreUnavailableError, match=r"heart\.db"):
        await database.start()
    await database.stop()


async def test_what_waits_to_be_summed_up_is_found_without_reading_the_session(tmp_path: Path) -> None:
    database = SqliteHeart(tmp_path / "heart.db")
    await database.start()

    def script():
        return (
            yield Statement(f"EXPLAIN QUERY PLAN {statements.PENDING}", (KEY.tenant, KEY.session_id, 1, "r", 0, 200))
        )

    [[*_, step]] = await database.read(script)
    await database.stop()
    assert "turns_to_sum_up (tenant=? AND session_id=? AND (created_at_us" in step


async def test_a_full_disk_is_told_and_nothing_is_half_stored(tmp_path: Path) -> None:
    database = SqliteHeart(tmp_path / "heart.db")
    await database.start()
    store = SqlSessionStore(database)
    await store.append(KEY, "default", run_turns("r1", 0))

    def bound(pages: int):
        def script():
            yield Statement(f"PRAGMA max_page_count = {pages}")

        return script

    await database.write(bound(1))
    with pytest.raises(StoreUnavailableError, match="full"):
        await store.append(KEY, "default", [*run_turns("r2", 1), said("x" * 1_000_000, "r2", 1, 9)])
    assert await store.newest(KEY, 10) == run_turns("r1", 0)
    await database.write(bound(1_000_000))
    assert await store.append(KEY, "default", run_turns("r2", 1)) == 2
    await database.stop()


async def test_a_file_of_the_first_version_is_carried_over(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "heart.db")
    connection.executescript(
        """
        CREATE TABLE sessions (tenant TEXT NOT NULL, session_id TEXT NOT NULL, persona TEXT NOT NULL,
            created_at_us BIGINT NOT NULL, updated_at_us BIGINT NOT NULL, PRIMARY KEY (tenant, session_id));
        CREATE TABLE turns (tenant TEXT NOT NULL, session_id TEXT NOT NULL, run_id TEXT NOT NULL,
            position INTEGER NOT NULL, role TEXT NOT NULL, body TEXT NOT NULL, created_at_us BIGINT NOT NULL,
            PRIMARY KEY (tenant, session_id, run_id, position));
        CREATE INDEX turns_by_time ON turns (tenant, session_id, created_at_us, run_id, position);
        INSERT INTO sessions VALUES ('', 's', 'dog', 1000000, 2000000);
        INSERT INTO turns VALUES ('', 's', 'r', 0, 'user', 'Penguins?', 1000000),
            ('', 's', 'r', 1, 'assistant', 'Yes.' || char(0), 2000000);
        """
    )
    connection.close()
    for _ in range(2):
        database = SqliteHeart(tmp_path / "heart.db")
        await database.start()
        store = SqlSessionStore(database)
        assert [turn.text for turn in await store.turns(KEY, limit=99)] == ["Penguins?", "Yes.\0"]
        [session] = await store.sessions("", limit=9)
        assert (session.title, session.persona, session.updated_at.timestamp()) == ("Penguins?", "dog", 2.0)
        assert [hit.turn.position for hit in await store.search("", ["penguins"], limit=9)] == [0]
        assert await store.append(KEY, "dog", [said("x", "r")]) == 0
        await database.stop()


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    database = PostgresHeart("postgresql://me:secret@127.0.0.1:1/heart")
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/heart") as caught:
        await database.start()
    assert "secret" not in str(caught.value)
    await database.stop()


async def test_several_processes_share_one_postgres(postgres_url: str) -> None:
    databases = [PostgresHeart(postgres_url) for _ in range(3)]
    await asyncio.gather(*(database.start() for database in databases))
    stores = [SqlSessionStore(database) for database in databases]
    appends = [
        stores[i % 3].append(SessionKey("", f"s{i % 2}"), "default", run_turns(f"r{i % 10}", i % 10)) for i in range(60)
    ]
    assert sum(await asyncio.gather(*appends)) == 20
    assert sum(session.turns for session in await stores[0].sessions("", limit=9)) == 20
    for database in databases:
        await database.stop()
