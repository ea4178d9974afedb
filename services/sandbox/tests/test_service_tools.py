"""governance_note on both stores, web_search on a local HTTP server, and how tools in the service end."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pagi_chassis.lifecycle import StartError
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.searxng_search import SearxngSearch
from pagi_sandbox.adapters.sqlite_notes import SqliteNoteStore
from pagi_sandbox.domain.errors import ArgumentsError
from pagi_sandbox.domain.model import Limits, SearchHit, ToolCall, Verdict
from pagi_sandbox.domain.search import NoWebSearch
from pagi_sandbox.domain.service_tools import ServiceToolRunner
from pagi_sandbox.domain.tool import Effects, ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.governance_note import GovernanceNote
from pagi_sandbox.domain.tools.web_search import WebSearch
from pagi_sandbox.testing import InMemoryNotes, ScriptedSearch

CONTEXT = ToolContext(Path(), session_id="s", tenant="acme", trace_id="t" * 32)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite"])
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


class Searxng:
    """A local HTTP server that answers as an instance does."""

    def __init__(self) -> None:
        self.queries: list[Mapping[str, str]] = []
        self.status, self.body, self.delay_s = 200, json.dumps({"results": []}).encode(), 0.0

    async def answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
async def instance() -> AsyncIterator[tuple[Searxng, SearxngSearch]]:
    server = Searxng()
    app = web.Application()
    app.router.add_get("/searx/search", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    search = SearxngSearch(f"http://127.0.0.1:{port}/searx/")
    await search.start()
    yield server, search
    await search.stop()
    await runner.cleanup()


class TestSearxng:
    async def test_asks_and_takes_what_can_be_used(self, instance: tuple[Searxng, SearxngSearch]) -> None:
        server, search = instance
        results = [
            {"title": "One", "url": "https://one.example/", "content": "first"},
            {"title": "No address"},
            {"title": "Script", "url": "javascript:alert(1)"},
            "nonsense",
            {"title": None, "url": "http://two.example/", "content": "x" * 5000},
            {"title": "Three", "url": "http://three.example/"},
        ]
        server.body = json.dumps({"results": results}).encode()
        answer = await WebSearch(search).run({"query": "größe & maß", "max_results": 2}, CONTEXT)
        assert server.queries == [{"q": "größe & maß", "format": "json"}]
        assert answer["provider"] == "searxng"
        assert [hit["url"] for hit in answer["results"]] == ["https://one.example/", "http://two.example/"]
        assert answer["results"][0] == {"title": "One", "url": "https://one.example/", "snippet": "first"}
        assert len(answer["results"][1]["snippet"]) == 1000

    @pytest.mark.parametrize(
        ("status", "body", "complaint"),
        [
            (403, b"", "formats: \\[html, json\\]"),
            (429, b"", "try later"),
            (500, b"", "status 500"),
            (200, b"<html>", "something else than JSON"),
            (200, b"[]", "without results"),
            (200, b" " * (4 * 2**20 + 1), "more than"),
        ],
    )
    async def test_a_bad_answer_is_a_clear_failure(
        self, instance: tuple[Searxng, SearxngSearch], status: int, body: bytes, complaint: str
    ) -> None:
        server, search = instance
        server.status, server.body = status, body
        with pytest.raises(ToolFailedError, match=complaint):
            await search.search("x", 5)

    async def test_a_call_out_of_time_is_a_timeout(self, instance: tuple[Searxng, SearxngSearch]) -> None:
        server, search = instance
        server.delay_s = 10
        runner = ServiceToolRunner([WebSearch(search)])
        outcome = await runner.run(call("web_search", {"query": "x"}, timeout_ms=100))
        assert outcome.verdict is Verdict.TIMEOUT
        assert "100 ms" in outcome.error

    async def test_no_network_is_a_clear_failure(self) -> None:
        search = SearxngSearch("http://127.0.0.1:9")
        await search.start()
        outcome = await ServiceToolRunner([WebSearch(search)]).run(call("web_search", {"query": "x"}))
        await search.stop()
        assert outcome.verdict is Verdict.FAILED
        assert "cannot be reached" in outcome.error


async def test_without_a_provider_the_failure_says_what_to_set() -> None:
    outcome = await ServiceToolRunner([WebSearch(NoWebSearch())]).run(call("web_search", {"query": "x"}))
    assert outcome.verdict is Verdict.FAILED
    assert "WEB_SEARCH_PROVIDER=searxng and SEARXNG_URL" in outcome.error


async def test_an_answer_comes_as_json_with_its_time() -> None:
    search = ScriptedSearch([SearchHit("T", "https://e.example/", "s")])
    outcome = await ServiceToolRunner([WebSearch(search)]).run(call("web_search", {"query": "q"}))
    assert (outcome.verdict, outcome.error, outcome.duration_ms > 0) == (Verdict.OK, "", True)
    assert json.loads(outcome.output_json)["results"][0]["title"] == "T"
    assert search.queries == ["q"]


async def test_a_fault_of_ours_is_not_a_result() -> None:
    class Faulty(WebSearch):
        async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        await ServiceToolRunner([Faulty(NoWebSearch())]).run(call("web_search", {"query": "x"}))


def call(tool: str, arguments: Mapping[str, Any], timeout_ms: int = 5000) -> ToolCall:
    return ToolCall(tool, arguments, Limits(timeout_ms, 64, 1000), Path(), "s", tenant="acme")
