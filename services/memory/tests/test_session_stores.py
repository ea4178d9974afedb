"""One suite for every `SessionStore`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pagi_memory.adapters.sqlite_sessions import SqliteSessionStore
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.domain.ports import SessionStore
from pagi_memory.testing import InMemorySessionStore

KEY = SessionKey("", "s")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def run_turns(run: str, minutes: int, count: int = 2) -> list[Turn]:
    roles = [TurnRole.USER, TurnRole.TOOL_PLAN, TurnRole.TOOL_OUTPUT, TurnRole.ASSISTANT]
    at = NOON + timedelta(minutes=minutes)
    return [Turn(roles[i % 4], f"{run}-{i} \x00 ü", run, i, at) for i in range(count)]


@pytest.fixture(params=["fake", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    if request.param == "fake":
        yield InMemorySessionStore()
        return
    real = SqliteSessionStore(tmp_path / "deep" / "heart.db")
    await real.start()
    yield real
    await real.stop()


async def test_what_was_stored_comes_back_whole(store: SessionStore) -> None:
    turns = run_turns("r1", 0, 4)
    assert await store.append(KEY, "default", turns) == 4
    assert await store.newest(KEY, 10) == turns


async def test_a_repeat_changes_nothing(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    assert await store.append(KEY, "default", run_turns("r1", 5)) == 0
    assert await store.append(KEY, "default", run_turns("r1", 0, 3)) == 1
    assert await store.newest(KEY, 10) == run_turns("r1", 0, 3)


async def test_turns_stored_late_stand_where_they_were_said(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("later", 10))
    await store.append(KEY, "default", run_turns("earlier", 0))
    assert [t.run_id for t in await store.newest(KEY, 10)] == ["earlier", "earlier", "later", "later"]
    assert [t.text for t in await store.newest(KEY, 3)] == [
        t.text for t in [*run_turns("earlier", 0)[1:], *run_turns("later", 10)]
    ]


async def test_sessions_and_tenants_do_not_see_each_other(store: SessionStore) -> None:
    await store.append(KEY, "default", run_turns("r1", 0))
    for other in (SessionKey("", "t"), SessionKey("acme", "s")):
        assert await store.newest(other, 10) == []
        assert await store.append(other, "default", run_turns("r1", 0)) == 2
    assert len(await store.newest(KEY, 10)) == 2


async def test_the_same_turns_at_once_are_stored_once(store: SessionStore) -> None:
    stored = await asyncio.gather(*(store.append(KEY, "default", run_turns("r1", 0)) for _ in range(20)))
    assert sum(stored) == 2


async def test_sqlite_keeps_turns_over_a_restart(tmp_path: Path) -> None:
    for round_ in range(2):
        store = SqliteSessionStore(tmp_path / "heart.db")
        await store.start()
        assert await store.append(KEY, "default", run_turns("r1", 0)) == (0 if round_ else 2)
        assert len(await store.newest(KEY, 10)) == 2
        await store.stop()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "heart.db").write_bytes(b"no database at all" * 100)
    store = SqliteSessionStore(tmp_path / "heart.db")
    with pytest.raises(StoreUnavailableError, match=r"heart\.db"):
        await store.start()
    await store.stop()
