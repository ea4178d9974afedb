"""Runs that are forked, drawn as a timeline, and replayed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pagi_chassis.errors import InvalidArgumentError, UnavailableError
from pagi_planner import Agent, RunRequest, RunStatus
from pagi_planner.domain.errors import RunNotFoundError
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Decision, Judging, ToolOutcome, Usage
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.time_travel.fork import Change, forkable
from pagi_planner.domain.time_travel.replay import replay
from pagi_planner.domain.time_travel.timeline import timeline
from pagi_planner.testing import RecordingTools, ScriptedModel, SteppingClock, call, calling, saying

SCRIPT = Path(__file__).parents[3] / "scripts" / "replay_run.py"
FIRST = calling(call("add", {"n": 1}), call("fail", {}), cost_usd=0.5)


def tools() -> RecordingTools:
    behaviours = {
        "add": lambda x: ToolOutcome("ok", {"n": x["n"]}, stdout="added"),
        "fail": lambda _: ToolOutcome("failed", error="no"),
        "pay": lambda x: ToolOutcome("ok", x),
    }
    return RecordingTools(behaviours, need_approval={"pay"})


ASKED = RunRequest("What is 1?", "s")


async def run(journal, *script):
    agent = Agent(ScriptedModel(*script), tools=tools(), journal=journal, clock=SteppingClock())
    return await agent.run(ASKED, run_id="r")


class TestFork:
    @pytest.fixture
    async def source(self, journal):
        await run(journal, FIRST, calling(call("add", {"n": 2})), saying("two"))
        return await journal.events("r")

    def runs(self, journal, *script):
        self.model, self.tools = ScriptedModel(*script), tools()
        return Runs(Agent(self.model, tools=self.tools, journal=journal), journal, max_concurrent=2)

    async def test_it_goes_on_from_the_step_with_another_model_and_does_nothing_again(self, journal, source):
        runs = self.runs(journal, saying("other"))
        begun = await runs.fork("r", 1, Change(model="big"))
        result = await begun.result()
        assert (result.status, result.result, result.session_id) == (RunStatus.COMPLETED, "other", "s")
        [asked] = self.model.requests
        assert (asked.model, asked.effect_id) == ("big", f"{result.run_id}/2/model")
        assert self.tools.executed == []
        assert [step.tool for step in result.steps] == ["add", "fail"]
        # The steps that were taken over were paid for by the run that made them.
        assert result.usage == Usage(10, 5, None)
        told = RunState.of(await journal.events(result.run_id)).request["forked_from"]
        assert told == {"run_id": "r", "step": 1}
        assert [event.seq for event in await journal.events(result.run_id)] == list(range(1, 13))
        assert await journal.events("r") == source

    async def test_the_prompt_is_changed_in_the_conversation(self, journal, source):
        runs = self.runs(journal, saying("other"), saying("anew"))
        await (await runs.fork("r", 2, Change(prompt="What is 2?"))).result()
        assert [m.text for m in self.model.requests[0].messages if m.role == "user"] == ["What is 2?"]
        assert len(self.model.requests[0].messages) == 2 + 3 + 2
        anew = await (await runs.fork("r", 0, Change(prompt="Begin anew"))).result()
        assert (anew.result, [m.role for m in self.model.requests[1].messages]) == ("anew", ["system", "user"])

    async def test_no_answer_to_the_other_prompt_is_given_however_good_it_was(self, journal):
        def verdict(score: float):
            return saying(f'{{"score": {score}, "reason": "so", "advice": ""}}')

        judged = replace(ASKED, evaluate=Judging(judge=True, threshold=0.9, max_refinements=1))
        script = (saying("one"), verdict(0.8), saying("1"), verdict(0.95), saying("two"), verdict(0.1), saying("one"))
        runs = self.runs(journal, *script, verdict(0.1))
        begun = await runs.begin(judged)
        assert (await begun.result()).result == "1"
        assert (await (await runs.fork(begun.run_id, 1, Change(prompt="What is 2?"))).result()).result == "two"
        # It was one to the same prompt, and is the best still.
        assert (await (await runs.fork(begun.run_id, 1, Change())).result()).result == "one"

    @pytest.mark.parametrize("step", [-1, 3, 4])
    async def test_a_step_that_leads_nowhere_is_refused_with_those_that_do(self, journal, source, step):
        assert forkable(source) == [0, 1, 2]
        with pytest.raises(InvalidArgumentError, match="it does from: 0, 1, 2") as caught:
            await self.runs(journal).fork("r", step, Change())
        assert caught.value.field == "step"

    async def test_of_a_run_that_is_not_there(self, journal):
        with pytest.raises(RunNotFoundError):
            await self.runs(journal).fork("nix", 0, Change())


class TestTimeline:
    async def test_every_event_is_in_a_span_or_a_moment(self, journal):
        await run(journal, FIRST, saying("done"))
        spans = timeline(await journal.events("r"))
        assert [(s.kind, s.name, s.step) for s in spans] == [
            ("context", "", 0),
            ("model", "scripted", 1),
            ("tool", "add", 1),
            ("tool", "fail", 1),
            ("model", "scripted", 2),
            ("evaluation", "", 2),
            ("end", "", 2),
        ]
        assert all(span.ended_at and span.ended_at >= span.started_at for span in spans)
        assert spans[1].detail["cost_usd"] == 0.5
        assert spans[3].detail["error"] == "no"
        assert spans[-1].detail["status"] == "completed"

    async def test_what_is_not_over_has_no_end(self, journal):
        agent = Agent(ScriptedModel(calling(call("pay", {"n": 1}))), tools=tools(), journal=journal)
        runs = Runs(agent, journal, max_concurrent=1)
        begun = await runs.begin(RunRequest("x"))
        await begun.result()
        [*_, last] = await runs.timeline(begun.run_id)
        assert (last.kind, last.name, last.ended_at) == ("approval", "pay", None)


class TestReplay:
    @pytest.mark.parametrize("step", [0, 1, 2])
    @pytest.mark.parametrize("change", [Change(), Change(model="big"), Change(prompt="What is 2?")])
    async def test_a_fork_is_replayed_from_what_it_took_over(self, journal, step, change):
        await run(journal, FIRST, calling(call("add", {"n": 2})), saying("two"))
        script = [calling(call("add", {"n": 3})), saying("three")]
        agent = Agent(ScriptedModel(*script), tools=tools(), journal=journal)
        forked = await Runs(agent, journal, max_concurrent=1).fork("r", step, change)
        await forked.result()
        events = list(await journal.events(forked.run_id))
        assert await replay(events) is None
        answer = max(n for n, event in enumerate(events) if event.type is EventType.PLAN_MODEL_RESPONSE)
        told = replace(events[answer], data={**events[answer].data, "text": "four"})
        found = await replay([*events[:answer], told, *events[answer + 1 :]])
        assert found.recorded.data["result"] == "three"

    async def record(self, journal, *script):
        runs = Runs(Agent(ScriptedModel(*script), tools=tools(), journal=journal), journal, max_concurrent=1)
        begun = await runs.begin(RunRequest("x"))
        result = await begun.result()
        if result.status is RunStatus.WAITING_APPROVAL:
            word = Decision(True, arguments_json='{"n": 5}')
            await runs.decide(begun.run_id, "p", word)
            await runs.stop(5)
        return list(await journal.events(begun.run_id))

    @pytest.mark.parametrize(
        "script",
        [
            (FIRST, saying("done")),
            (calling(call("pay", {"n": 1}, "p"), call("nix", {})), saying(""), saying("paid")),
            (
                calling(call("add", {"n": 1})),
                calling(call("add", {"n": 1})),
                calling(call("add", {"n": 1})),
                calling(call("add", {"n": 1})),
            ),
        ],
    )
    async def test_the_same_answers_lead_the_same_way(self, journal, script):
        events = await self.record(journal, *script)
        assert await replay(events) is None

    async def test_of_a_run_that_failed(self, journal):
        with pytest.raises(UnavailableError):
            await run(journal, FIRST, UnavailableError("gone"))
        assert await replay(await journal.events("r")) is None

    async def test_the_first_difference_is_shown(self, journal, tmp_path):
        events = await self.record(journal, FIRST, saying("done"))
        place = [event.type for event in events].index(EventType.TOOL_RESULT)
        events[place] = replace(events[place], data={**events[place].data, "observation": "something else"})
        found = await replay(events)
        assert (found.recorded.type, found.members) == (EventType.TOOL_RESULT, ["observation"])

    async def test_what_ended_before_it_began_cannot_be_replayed(self, journal):
        events = await self.record(journal, saying("done"))
        with pytest.raises(ValueError, match="nothing to replay"):
            await replay(events[:1])

    async def test_the_script_tells_people(self, journal, tmp_path):
        events = await self.record(journal, FIRST, saying("done"))
        run_id = events[0].run_id

        def script(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(SCRIPT), *arguments, "--database", str(tmp_path / "audit.db")]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        same, unknown = script(run_id), script("run-nix")
        assert (same.returncode, same.stdout) == (0, f"{run_id}: {len(events)} events, every step is the same\n")
        assert unknown.returncode == 2
        assert "there is no run 'run-nix'" in unknown.stderr
        with sqlite3.connect(tmp_path / "audit.db") as database:
            database.execute(
                "UPDATE audit_log SET data = json_set(data, '$.observation', 'x') WHERE event_type = ?",
                ("TOOL_RESULT",),
            )
        database.close()
        changed = script(run_id)
        assert changed.returncode == 1
        assert "observation, recorded" in changed.stdout
        (tmp_path / "audit.db").unlink()
        missing = script(run_id)
        assert (missing.returncode, "there is no such file" in missing.stderr) == (2, True)


class TestOverHttp:
    async def test_a_fork_and_the_timelines_of_both(self, planner):
        planner.model = ScriptedModel(calling(call("add", {"a": 1, "b": 2})), saying("3"), saying("three"))
        async with planner.client() as client:
            run_id = (await client.post("/plan", json={"prompt": "1 + 2?"})).json()["run_id"]
            forked = await client.post(f"/runs/{run_id}/fork?step=1", json={"prompt": "1 + 2, in words?"})
            assert (forked.status_code, forked.json()["result"]) == (200, "three")
            assert [step["tool"] for step in forked.json()["steps"]] == ["add"]
            for each in (run_id, forked.json()["run_id"]):
                spans = (await client.get(f"/runs/{each}/timeline")).json()["spans"]
                assert [span["kind"] for span in spans] == ["context", "model", "tool", "model", "evaluation", "end"]
                assert spans[2]["name"] == "add"

    async def test_a_fork_that_changes_nothing_needs_no_body(self, planner):
        async with planner.client() as client:
            run_id = (await client.post("/plan", json={"prompt": "hi"})).json()["run_id"]
            forked = await client.post(f"/runs/{run_id}/fork?step=0")
            assert (forked.status_code, forked.json()["status"]) == (200, "completed")

    @pytest.mark.parametrize(
        ("path", "body", "status", "said"),
        [
            ("nix/fork?step=0", {}, 404, "there is no run 'nix'"),
            ("{}/fork?step=7", {}, 422, "it does from: 0"),
            ("{}/fork", {}, 422, "step"),
            ("{}/fork?step=0", {"prompt": " "}, 422, "prompt"),
            ("{}/fork?step=0", {"prompt": "x" * 100_001}, 422, "100000 characters"),
            ("{}/fork?step=0", {"nix": 1}, 422, "nix"),
        ],
    )
    async def test_what_is_wrong_is_named(self, planner, path, body, status, said):
        async with planner.client() as client:
            run_id = (await client.post("/plan", json={"prompt": "hi"})).json()["run_id"]
            answer = await client.post(f"/runs/{path.format(run_id)}", json=body)
            assert (answer.status_code, said in answer.text) == (status, True), answer.text
            assert (await client.get("/runs/nix/timeline")).status_code == 404
