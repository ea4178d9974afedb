"""What models get wrong ends no run: it is mended, or told to them."""

from __future__ import annotations

import json

import pytest
from pagi_planner import Agent, Policy, RunRequest, RunStatus
from pagi_planner.domain.model import ModelAnswer, Role, ToolOutcome, Usage
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.progress import MOST_SAME_ERRORS, NUDGE
from pagi_planner.domain.state.run_state import ORPHAN, RunState
from pagi_planner.testing import RecordingTools, ScriptedModel, call, calling, saying


def tools(**more) -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]}), **more})


async def test_arguments_that_are_almost_json_are_mended_and_the_conversation_with_them():
    model, seen = ScriptedModel(calling(call("add", "{'a': 1, b: 2,}", "c")), saying("3")), tools()
    agent = Agent(model, tools=seen)
    result = await agent.run("x", run_id="r")
    assert result.steps[0].output == {"sum": 3}
    assert json.loads(model.requests[1].messages[-2].tool_calls[0].arguments_json) == {"a": 1, "b": 2}
    [answer] = [e.data for e in await agent.journal.events("r") if e.type is EventType.PLAN_MODEL_RESPONSE][:1]
    assert answer["repaired"] == {"c": "{'a': 1, b: 2,}"}


async def test_arguments_that_were_cut_off_are_not_guessed():
    cut = ModelAnswer("", (call("add", '{"a": 1, "b": 2'),), Usage(10, 5), "length", "m", "m")
    model, seen = ScriptedModel(cut, saying("sorry")), tools()
    await Agent(model, tools=seen).run("x")
    assert seen.executed == []
    assert "not JSON" in model.requests[1].messages[-1].text


@pytest.mark.parametrize(
    ("name", "said"),
    [("Add", "did you mean add?"), ("ad", "did you mean add?"), ("read_fil", "did you mean read_file?"), ("zzz", "")],
)
async def test_a_name_that_does_not_exist_is_answered_with_the_nearest(name, said):
    model = ScriptedModel(calling(call(name, {})), saying("sorry"))
    result = await Agent(model, tools=tools(read_file=None)).run("x")
    error = result.steps[0].error
    assert said in error
    assert ("did you mean" in error) is bool(said)
    assert "the tools are: add, read_file" in error


async def test_a_call_without_a_result_is_closed_so_that_the_conversation_can_go_on():
    journal = ListJournal()
    agent = Agent(
        ScriptedModel(calling(call("add", {"a": 1, "b": 2}, "c")), saying("3")), tools=tools(), journal=journal
    )
    await agent.run(RunRequest("x", "s"), run_id="r")
    events = [event for event in await journal.events("r") if event.type is not EventType.TOOL_RESULT]
    asked = next(n for n, event in enumerate(events) if event.data.get("step") == 2) + 1
    model = ScriptedModel(saying("on I go"))
    result = await Agent(model, tools=tools()).reopen(RunState.of(events[:asked])).drive()
    assert result.result == "on I go"
    assert [(m.role, m.tool_call_id, m.text) for m in model.requests[0].messages[-1:]] == [(Role.TOOL, "c", ORPHAN)]


class TestLoops:
    def counting(self) -> RecordingTools:
        counts = iter(range(100))
        return RecordingTools(
            {
                "same": lambda _: ToolOutcome("ok", {}),
                "other": lambda _: ToolOutcome("ok", {}),
                "poll": lambda _: ToolOutcome("ok", {"n": next(counts)}),
                "fail": lambda _: ToolOutcome("failed", error="no such table"),
            }
        )

    async def run(self, *script, **kwargs):
        seen = self.counting()
        model = ScriptedModel(*script, **kwargs)
        return await Agent(model, tools=seen, policy=Policy(max_repeats=3)).run("x"), seen, model

    async def test_the_same_call_with_the_same_result_is_told_and_then_ends_it(self):
        result, seen, model = await self.run(calling(call("same", {})), repeat_last=True)
        assert result.status is RunStatus.NO_PROGRESS
        assert len(seen.executed) == 3
        read = [message.text.endswith(NUDGE) for message in model.requests[-1].messages if message.role is Role.TOOL]
        assert read == [False, False, True]

    async def test_the_same_call_with_other_results_is_progress(self):
        result, seen, _ = await self.run(*[calling(call("poll", {})) for _ in range(6)], saying("there"))
        assert (result.result, len(seen.executed)) == ("there", 6)

    async def test_two_calls_in_turns_are_a_loop_too(self):
        script = [calling(call(("same", "other")[n % 2], {})) for n in range(10)]
        result, seen, _ = await self.run(*script)
        assert result.status is RunStatus.NO_PROGRESS
        assert len(seen.executed) == 6

    async def test_the_same_error_again_and_again_is_one_whatever_the_arguments(self):
        script = [calling(call("fail", {"n": n})) for n in range(10)]
        result, seen, _ = await self.run(*script)
        assert result.status is RunStatus.NO_PROGRESS
        assert len(seen.executed) == MOST_SAME_ERRORS
        assert "no such table" in result.result

    async def test_many_equal_calls_of_one_turn_are_one(self):
        result, seen, _ = await self.run(calling(*[call("same", {}, f"c{n}") for n in range(4)]))
        assert (result.status, seen.executed) == (RunStatus.NO_PROGRESS, [])
