"""What sessions in a database bear: others that write meanwhile, much of everything, odd values."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pagi_chassis.errors import InvalidArgumentError
from pagi_chassis.health import Health
from pagi_memory.adapters import sql_forgetting, sql_playbooks
from pagi_memory.adapters import sql_session_statements as statements
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.sql_script import Repeated, SqlDatabase, Statement
from pagi_memory.adapters.sql_sessions import SqlSessionStore
from pagi_memory.adapters.sql_turn_words import owner_word
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.bootstrap import build
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.domain.session import Retention, SessionRecord, Summary
from pagi_memory.domain.sessions import Sessions
from pagi_memory.settings import MemorySettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(text: str, run: str, minutes: int = 0, position: int = 0) -> Turn:
    return Turn(TurnRole.USER, text, run, position, NOON + timedelta(minutes=minutes))


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlDatabase]:
    database: SqlDatabase = (
        SqliteHeart(tmp_path / "heart.db")
        if request.param == "sqlite"
        else PostgresHeart(request.getfixturevalue("postgres_url"))
    )
    await database.start()
    yield database
    await database.stop()


async def test_what_expires_does_so_in_small_transactions(database: SqlDatabase, monkeypatch) -> None:
    monkeypatch.setattr(sql_forgetting, "TURNS_AT_ONCE", 4)
    store = SqlSessionStore(database)
    for i in range(6):
        await store.append(SessionKey("", f"s{i}"), "default", [said("x", "r", i, k) for k in range(3)])
    await store.append(SessionKey("", "long"), "default", [said("y", "r", 9, k) for k in range(11)])
    sizes: list[int] = []

    class Watched:
        dialect = database.dialect
        read = staticmethod(database.read)

        async def write(self, script):
            def counted():
                step, deleted = script(), 0
                rows = None
                try:
                    while True:
                        statement = step.send(rows) if rows is not None else next(step)
                        rows = yield statement
                        is_turns = "DELETE FROM turns" in statement.sql
                        deleted += len(statement.parameters if isinstance(statement, Repeated) else rows) * is_turns
                except StopIteration as end:
                    sizes.append(deleted)
                    return end.value

            return await database.write(counted)

    assert await SqlSessionStore(Watched()).expire(Retention(sessions=2, turns=5), NOON) == 5
    assert max(sizes) <= 6
    assert sum(sizes) == 5 * 3 + 6
    assert [(s.session_id, s.turns) for s in await store.sessions("", limit=9)] == [("long", 5), ("s5", 3)]


async def test_an_export_has_every_session_and_turn_once_though_people_speak_meanwhile(database: SqlDatabase) -> None:
    store = SqlSessionStore(database)
    sessions = Sessions(store)
    # Times that a float of seconds cannot tell apart.
    far = datetime(9000, 1, 1, tzinfo=UTC)
    records = [
        SessionRecord(f"s{i:03}", "dog", "", [Turn(TurnRole.USER, "x", "r", 0, far + timedelta(microseconds=i))])
        for i in range(250)
    ]
    long = [said("y", "r", 0, position) for position in range(450)]
    await sessions.take_in("", [*records, SessionRecord("long", "dog", "", long)])
    found: dict[str, list[Turn]] = {}
    async for record in sessions.export(""):
        if not found:
            # The last of the list is the first now.
            await store.append(SessionKey("", "s000"), "dog", [replace(records[0].turns[0], run_id="now")])
        found.setdefault(record.session_id, []).extend(record.turns)
    assert {name: len(turns) for name, turns in found.items() if len(turns) != 1} == {"long": 450, "s000": 2}
    assert len(found) == 251
    assert found["long"] == long
    listed, token = [], ""
    while True:
        page = await sessions.find("", limit=100, page_token=token)
        listed += [session.session_id for session in page.sessions]
        if not (token := page.next_token):
            break
    assert sorted(listed) == sorted(found)


async def test_what_is_changed_or_forgotten_is_not_found_by_what_follows(database: SqlDatabase) -> None:
    store = SqlSessionStore(database)
    key = SessionKey("", "s")
    answer = replace(said("In May.", "r1", 2, 2), role=TurnRole.ASSISTANT)
    call = replace(said("calendar {}", "r1", 1, 1), role=TurnRole.TOOL_PLAN)
    await store.append(key, "default", [said("When do penguins breed?", "r1"), call, answer])
    await store.append(key, "default", [said("And geese?", "r2", 5)])

    async def found(word: str) -> list[str]:
        return sorted(hit.turn.text for hit in await store.search("", [word], limit=9))

    # An answer that was changed is found by its question all the same.
    await store.edit_turn(key, "r1", 2, "In June.", NOON)
    assert await found("penguins") == ["In June.", "When do penguins breed?", "calendar {}"]
    assert await found("june") == ["And geese?", "In June."]
    await store.edit_turn(key, "r1", 0, "When do owls breed?", NOON)
    assert await found("penguins") == []
    assert await found("owls") == ["In June.", "When do owls breed?", "calendar {}"]
    await store.forget_turn(key, "r1", 0, NOON)
    assert await found("owls") == []
    await store.forget_turn(key, "r1", 2, NOON)
    assert await found("june") == []
    assert await found("geese") == ["And geese?"]


@pytest.mark.parametrize("tenant", ["", "t", "ö — 7e5", "x" * 200, "\U0001f642" * 200])
async def test_a_tenant_finds_its_own_whatever_it_is_called(database: SqlDatabase, tenant: str) -> None:
    store = SqlSessionStore(database)
    owner = owner_word(tenant)
    for other in (tenant, "acme"):
        # With another's word in the text one finds nothing of it.
        await store.append(SessionKey(other, "s"), "default", [said(f"penguins of {other[:9]} {owner}", "r")])
    [hit] = await store.search(tenant, ["penguins"], limit=9)
    assert (hit.turn.text, hit.matched_words) == (f"penguins of {tenant[:9]} {owner}", ["penguins"])


async def test_a_postgres_of_a_version_that_made_the_lexemes_anew_is_carried_over(postgres_url: str) -> None:
    database = PostgresHeart(postgres_url)
    await database.start()
    await SqlSessionStore(database).append(SessionKey("acme", "s"), "default", [said("Do penguins breed?", "r")])

    def as_before():
        yield Statement("ALTER TABLE turn_words DROP COLUMN lexemes")
        yield Statement("CREATE INDEX turn_words_index ON turn_words USING gin (to_tsvector('english', words))")

    await database.write(as_before)
    await database.stop()
    for _ in range(2):
        database = PostgresHeart(postgres_url)
        await database.start()
        [hit] = await SqlSessionStore(database).search("acme", ["penguin"], limit=9)
        assert hit.matched_words == ["penguins"]
        await database.stop()


class Road:
    """The way to a server, which can be closed and opened again."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self._there._replace(netloc=f"{self._there.username}@127.0.0.1:{self.port}").geturl()

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._there.hostname, self._there.port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.transport.abort()


async def test_a_postgres_that_goes_away_is_told_and_used_again_when_it_is_back(postgres_url: str) -> None:
    road = Road(postgres_url)
    database = PostgresHeart(await road.open())
    await database.start()
    store = SqlSessionStore(database)
    await database.check_health()
    await road.close()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        await database.check_health()
    with pytest.raises(StoreUnavailableError):
        await store.append(SessionKey("", "s"), "default", [said("x", "r")])
    await road.open()
    await database.check_health()
    assert await store.append(SessionKey("", "s"), "default", [said("x", "r")]) == 1
    await database.stop()
    await road.close()


async def test_the_service_says_that_it_cannot_do_without_its_postgres(postgres_url: str) -> None:
    *_, health = await build(MemorySettings(heart_database_url=postgres_url))
    assert isinstance(health, Health)
    health.mark_ready()
    report = await health.report()
    assert report.dependencies["postgresql"]["status"] != "ok", "it is not started"
    assert report.status == "unavailable"


async def test_a_turn_that_is_not_there_costs_no_summary(database: SqlDatabase) -> None:
    store = SqlSessionStore(database)
    key = SessionKey("", "s")
    await store.append(key, "default", [said("x", "r"), said("y", "r", 1, 1)])
    window = await store.window(key, 9)
    await store.roll(key, Summary("x", "test"), [window.pending[0].number])
    assert await store.edit_turn(key, "r", 7, "z", NOON) is None
    assert not await store.forget_turn(key, "r", 7, NOON)
    window = await store.window(key, 9)
    assert (window.summary.text, [each.turn.text for each in window.pending]) == ("x", ["y"])


async def test_a_part_of_an_export_does_not_change_who_answered(database: SqlDatabase) -> None:
    sessions = Sessions(SqlSessionStore(database))
    turns = [said("x", "r", i, i) for i in range(4)]
    await sessions.take_in("", [SessionRecord("s", "dog", "Walks", turns[:2])])
    await sessions.take_in("", [SessionRecord("s", "", "", turns[2:]), SessionRecord("other", "", "", turns)])
    found = {s.session_id: (s.persona, s.title, s.turns) for s in (await sessions.find("")).sessions}
    assert found == {"s": ("dog", "Walks", 4), "other": ("default", "x", 4)}


@pytest.mark.parametrize("persona", ["a\0b", "../x", "x" * 64])
async def test_a_persona_that_can_be_none_is_refused(database: SqlDatabase, persona: str) -> None:
    sessions = Sessions(SqlSessionStore(database))
    for asked in (sessions.find("", persona=persona), sessions.search("", "tea", persona=persona)):
        with pytest.raises(InvalidArgumentError) as caught:
            await asked
        assert caught.value.field == "persona"


async def test_a_session_that_goes_on_while_others_expire_stays(database: SqlDatabase) -> None:
    store = SqlSessionStore(database)
    for name in ("old", "goes on"):
        await store.append(SessionKey("", name), "default", [said("x", "r")])

    class SpeaksMeanwhile:
        dialect = database.dialect
        write = staticmethod(database.write)

        async def read(self, script):
            found = await database.read(script)
            await store.append(SessionKey("", "goes on"), "default", [said("again", "r2", 5)])
            return found

    late = NOON + timedelta(days=2)
    assert await SqlSessionStore(SpeaksMeanwhile()).expire(Retention(days=1), late) == 1
    assert [(s.session_id, s.turns) for s in await store.sessions("", limit=9)] == [("goes on", 2)]


async def test_a_reader_sees_one_state_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "heart.db"
    database = SqliteHeart(path)
    await database.start()
    await SqlSessionStore(database).append(SessionKey("", "s"), "default", [said("x", "r")])

    def script():
        [[before]] = yield Statement("SELECT title FROM sessions")
        other = sqlite3.connect(path)
        other.execute("UPDATE sessions SET title = 'another'")
        other.commit()
        other.close()
        [[after]] = yield Statement("SELECT title FROM sessions")
        return before, after

    assert await database.read(script) == ("x", "x")
    assert await database.read(script) == ("another", "another")
    await database.stop()


async def test_a_context_does_not_wait_for_those_who_search(tmp_path: Path) -> None:
    database = SqliteHeart(tmp_path / "heart.db")
    await database.start()
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        """Each search takes until the context is there."""

        dialect = database.dialect

        async def read(self, script):
            def slow():
                inner = script()
                step = next(inner)
                if "turn_words" in step.sql:
                    begun.set()
                    assert go_on.wait(5)
                try:
                    while True:
                        step = inner.send((yield step))
                except StopIteration as end:
                    return end.value

            return await database.read(slow)

    store = SqlSessionStore(Slow())
    searches = [asyncio.create_task(store.search("", ["tea"], limit=9)) for _ in range(4)]
    await asyncio.to_thread(begun.wait, 5)
    # Its thread reads on.
    searches.pop(0).cancel()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(3):
        window = await store.window(SessionKey("", "s"), 9)
    go_on.set()
    assert (window.newest, await asyncio.gather(*searches)) == ([], [[]] * 3)
    await database.stop()


async def test_known_playbooks_are_found_by_their_ids(tmp_path: Path) -> None:
    database = SqliteHeart(tmp_path / "heart.db")
    await database.start()

    def script():
        statement = sql_playbooks._KNOWN.format(marks="?, ?")
        return (yield Statement(f"EXPLAIN QUERY PLAN {statement}", ("", "a", "b")))

    [[*_, step]] = await database.read(script)
    await database.stop()
    assert "(id=?)" in step


async def test_how_much_a_summary_covers_is_counted_without_a_look_at_the_turns(tmp_path: Path) -> None:
    database = SqliteHeart(tmp_path / "heart.db")
    await database.start()

    def script():
        steps = []
        for statement in (statements.COUNT_TURNS, statements.COUNT_PENDING):
            steps += yield Statement(f"EXPLAIN QUERY PLAN {statement}", ("", "s"))
        return [step[-1] for step in steps]

    steps = await database.read(script)
    await database.stop()
    assert "COVERING INDEX turns_by_time" in steps[0]
    assert "turns_to_sum_up" in steps[1]
