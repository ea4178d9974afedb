"""governance_note on both stores, and how tools in the service end."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_chassis.lifecycle import StartError
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.sqlite_notes import SqliteNoteStore
from pagi_sandbox.domain.errors import ArgumentsError
from pagi_sandbox.domain.model import Limits, ToolCall, Verdict
from pagi_sandbox.domain.service_tools import ServiceToolRunner
from pagi_sandbox.domain.tool import Effects, ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.governance_note import GovernanceNote
from pagi_sandbox.testing import InMemoryNotes

CONTEXT = ToolContext(Path(), session_id="s", tenant="acme", trace_id="t" * 32)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest_asyncio.fixture(params=["memory", "sqlite"], loop_scope="module")
async def notes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[InMemoryNotes | SqliteNoteStore]:
    store = InMemoryNotes() if request.param == "memory" else SqliteNoteStore(tmp_path / "new" / "notes.db")
    await store.start()
    yield store
    await store.stop()


class TestGovernanceNote:
    async def test_adds_and_lists_in_order(self, notes: InMemoryNotes | SqliteNoteStore) -> None:
        tool = GovernanceNote(notes, lambda: NOON)
        added = await tool.run({"proposal_id": "PROP-1", "note": "first"}, CONTEXT)
        assert added["added"] is True
        assert added["note"]["created_at"] == "2026-01-02T12:00:00.000+00:00"
        assert (added["note"]["session_id"], added["note"]["trace_id"]) == ("s", "t" * 32)
        await tool.run({"action": "add", "proposal_id": "PROP-1", "note": "second"}, CONTEXT)
        await tool.run({"proposal_id": "PROP-2", "note": "other"}, CONTEXT)
        listed = await tool.run({"action": "list", "proposal_id": "PROP-1"}, CONTEXT)
        assert [note["note"] for note in listed["notes"]] == ["first", "second"]

    async def test_a_repeat_changes_nothing(self, notes: InMemoryNotes | SqliteNoteStore) -> None:
        minutes = (NOON.replace(minute=minute) for minute in itertools.count())
        tool = GovernanceNote(notes, lambda: next(minutes))
        first = await tool.run({"proposal_id": "P", "note": "n"}, CONTEXT)
        again = await tool.run({"proposal_id": "P", "note": "n"}, CONTEXT)
        assert again["added"] is False
        assert again["note"] == first["note"]
        assert len((await tool.run({"action": "list", "proposal_id": "P"}, CONTEXT))["notes"]) == 1
        assert tool.effects is Effects.IDEMPOTENT

    async def test_tenants_see_their_own_only(self, notes: InMemoryNotes | SqliteNoteStore) -> None:
        tool = GovernanceNote(notes, lambda: NOON)
        await tool.run({"proposal_id": "P", "note": "n"}, CONTEXT)
        listed = await tool.run({"action": "list", "proposal_id": "P"}, ToolContext(Path(), tenant="other"))
        assert listed["notes"] == []

    async def test_an_empty_note_fails(self, notes: InMemoryNotes | SqliteNoteStore) -> None:
        with pytest.raises(ToolFailedError, match="empty"):
            await GovernanceNote(notes, lambda: NOON).run({"proposal_id": "P", "note": " "}, CONTEXT)

    async def test_fifty_at_once_are_all_kept(self, notes: InMemoryNotes | SqliteNoteStore) -> None:
        tool = GovernanceNote(notes, lambda: NOON)
        await asyncio.gather(*(tool.run({"proposal_id": "P", "note": str(n)}, CONTEXT) for n in range(50)))
        assert len((await tool.run({"action": "list", "proposal_id": "P"}, CONTEXT))["notes"]) == 50

    def test_its_schema_asks_for_the_note_only_where_one_is_added(self) -> None:
        spec = ServiceToolRunner([GovernanceNote(InMemoryNotes(), lambda: NOON)]).tools()[0]
        check = JsonSchemaArguments().compile(spec)
        assert check.parse('{"proposal_id": "P", "action": "list"}')
        assert check.parse('{"proposal_id": "P", "note": "n"}')
        for arguments in ('{"proposal_id": "P"}', '{"proposal_id": "P", "action": "add"}', '{"note": "n"}'):
            with pytest.raises(ArgumentsError):
                check.parse(arguments)


async def test_notes_outlive_the_process(tmp_path: Path) -> None:
    for expected in (True, False):
        store = SqliteNoteStore(tmp_path / "notes.db")
        await store.start()
        added = await GovernanceNote(store, lambda: NOON).run({"proposal_id": "P", "note": "n"}, CONTEXT)
        assert added["added"] is expected
        await store.stop()


async def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteNoteStore(tmp_path / "file" / "notes.db")
    with pytest.raises(StartError, match="SANDBOX_DB_PATH"):
        await store.start()
    await store.stop()


class Echo:
    """A ServiceTool that ends as its arguments say."""

    name = "echo"
    description = "Says it again."
    parameters: Mapping[str, Any] = {"type": "object"}
    effects = Effects.READ_ONLY

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        await asyncio.sleep(arguments.get("seconds", 0))
        if "bug" in arguments:
            raise KeyError("a bug")
        if "fault" in arguments:
            raise ToolFailedError(arguments["fault"])
        return arguments


async def test_an_answer_comes_as_json_with_its_time() -> None:
    outcome = await ServiceToolRunner([Echo()]).run(call("echo", {"q": "ö"}))
    assert (outcome.verdict, outcome.error, outcome.duration_ms > 0) == (Verdict.OK, "", True)
    assert json.loads(outcome.output_json) == {"q": "ö"}


async def test_a_tool_that_cannot_is_a_result() -> None:
    outcome = await ServiceToolRunner([Echo()]).run(call("echo", {"fault": "no such thing"}))
    assert (outcome.verdict, outcome.error) == (Verdict.FAILED, "no such thing")


async def test_a_call_out_of_time_is_a_timeout() -> None:
    outcome = await ServiceToolRunner([Echo()]).run(call("echo", {"seconds": 60}, timeout_ms=50))
    assert outcome.verdict is Verdict.TIMEOUT
    assert "50 ms" in outcome.error


async def test_a_fault_of_ours_is_not_a_result() -> None:
    with pytest.raises(KeyError):
        await ServiceToolRunner([Echo()]).run(call("echo", {"bug": True}))


def call(tool: str, arguments: Mapping[str, Any], timeout_ms: int = 5000) -> ToolCall:
    return ToolCall(tool, arguments, Limits(timeout_ms, 64, 1000), Path(), "s", tenant="acme")
