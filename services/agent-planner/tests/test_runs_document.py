"""docs/runs.md against recorded runs."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pagi_chassis import telemetry
from pagi_chassis.errors import UnavailableError
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus, convert
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import ContextTooLongError
from pagi_planner.domain.json_text import MAX_DEPTH
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Decision, InputFile, Mode, Reasoning, ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.tools.turn import OBSERVATION_CHARACTERS
from pagi_planner.testing import RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

DOCUMENT = (Path(__file__).parents[3] / "docs" / "runs.md").read_text()
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def documented() -> dict[str, set[str]]:
    """Members by event type, as the table says."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| (.+) \|$", DOCUMENT, re.MULTILINE)
    members = {kind: set(re.findall(r"`([a-z0-9_]+)`", cell)) for kind, cell in rows}
    assert members["TOOL_ERROR"] == set(), "it refers to TOOL_RESULT"
    members["TOOL_ERROR"] = members["TOOL_RESULT"]
    return members


async def recorded() -> dict[str, set[str]]:
    """Members by event type, of runs that end in every way."""
    with TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "audit.db")
        await journal.start()
        try:
            return await recorded_in(journal)
        finally:
            await journal.stop()


async def recorded_in(journal: SqliteJournal) -> dict[str, set[str]]:
    tools = RecordingTools(
        {
            "look": lambda _: ToolOutcome("ok", {}),
            "fail": lambda _: ToolOutcome("failed", error="no"),
            "ask": lambda _: ToolOutcome("ok"),
        },
        need_approval={"ask"},
    )
    both = replace(calling(call("look", {}), call("fail", {})), reasoning=(Reasoning("here", "hm"),))
    agent = Agent(ScriptedModel(both, saying("done")), tools=tools, journal=journal)
    await agent.run("x", run_id="good")
    planned = ScriptedModel(
        saying("a summary"),
        saying('{"steps": [{"step": "look", "tool": "look"}]}'),
        calling(call("look", {})),
        calling(call("fail", {})),
        ContextTooLongError("too long"),
        saying("done"),
    )
    file = InputFile("a.txt", content_base64=b64encode(b"words " * 4_000).decode())
    request = RunRequest("x", mode=Mode.PLAN, files=(file,), limits=Limits(max_tokens=1_000_000))
    await Agent(planned, tools=tools, journal=journal).run(request, run_id="planned")
    with pytest.raises(UnavailableError):
        await Agent(ScriptedModel(UnavailableError("away")), journal=journal).run("x", run_id="bad")
    model = WaitingModel(saying("never"))
    running = asyncio.create_task(Agent(model, journal=journal).run("x", run_id="cancelled"))
    await model.asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    runs = Runs(
        Agent(ScriptedModel(calling(call("ask", {})), saying("done")), tools=tools, journal=journal),
        journal,
        max_concurrent=1,
    )
    waiting = await (await runs.begin(RunRequest("x"))).result()
    await runs.decide(waiting.run_id, call("ask", {}).id, Decision(approved=True))
    await runs.stop(5)
    model = WaitingModel(saying("never"))
    dead = Runs(Agent(model, journal=journal), journal, max_concurrent=1)
    resumed = await dead.begin(RunRequest("x"))
    await model.asked.wait()
    await dead.stop(0)
    alive = Runs(Agent(ScriptedModel(saying("done")), journal=journal), journal, max_concurrent=1)
    assert await alive.recover() == 1
    await alive.stop(5)
    members = defaultdict(set)
    for run_id in ("good", "planned", "bad", "cancelled", waiting.run_id, resumed.run_id):
        for event in await journal.events(run_id):
            members[event.type.value] |= set(event.data)
    return members


async def test_every_event_type_and_its_members_are_documented():
    members = await recorded()
    assert set(members) == {kind.value for kind in EventType}
    assert members == documented()


async def test_the_trace_is_in_the_first_event_and_the_ends():
    with telemetry.attach({"traceparent": TRACEPARENT}):
        members = await recorded()
    traced = {kind for kind, names in members.items() if "traceparent" in names}
    assert traced == {"PLAN_START", "PLAN_END", "PLAN_ERROR", "PLAN_CANCELLED"}


def test_every_status_and_verdict_is_documented():
    statuses = re.search(r"\| status \|.*?\n\n", DOCUMENT, re.DOTALL).group()
    assert set(re.findall(r"`([a-z_]+)`", statuses)) - {"result", "error"} == {status.value for status in RunStatus}
    for verdict in {*convert._VERDICTS.values(), "invalid", "unavailable", "unknown"}:
        assert f"`{verdict}`" in DOCUMENT


def test_the_numbers_are_those_of_the_code():
    assert f"cut to {OBSERVATION_CHARACTERS:,} characters" in DOCUMENT
    assert f"more than {MAX_DEPTH} levels" in DOCUMENT
    assert Policy().max_repeats == 3
    assert "more than three times" in DOCUMENT


async def test_a_limit_is_told_in_the_result_and_the_reason():
    tools = RecordingTools({"look": lambda _: ToolOutcome("ok", {})})
    agent = Agent(ScriptedModel(calling(call("look", {})), repeat_last=True), tools=tools)
    result = await agent.run(RunRequest("x", limits=Limits(max_steps=1)), run_id="r")
    end = (await agent.journal.events("r"))[-1]
    assert end.data["reason"] in result.result
