"""The planner's own tools beside the sandbox's."""

from __future__ import annotations

import json

import pytest
from pagi_chassis.errors import InvalidArgumentError, UnavailableError
from pagi_planner import Agent, RunRequest
from pagi_planner.domain.model import Effects, ToolOutcome, ToolSpec
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.testing import RecordingTools, ScriptedModel, call, calling, saying


class Echo:
    """Says what it was told, of which run, under which id."""

    def __init__(self, *, requires_approval: bool = False, knows_effects: bool = True) -> None:
        self.spec = ToolSpec("echo", "Says it again", "{}", Effects.EFFECTFUL, requires_approval=requires_approval)
        self.knows_effects = knows_effects
        self.error: Exception | None = None
        self.effects: list[str] = []
        self.offered = True

    def is_offered(self, work) -> bool:
        return self.offered

    async def execute(self, call, work, effect_id):
        if self.error:
            raise self.error
        self.effects.append(effect_id)
        return ToolOutcome("ok", {"said": json.loads(call.arguments_json)["text"], "prompt": work.request.prompt})


def sandbox() -> RecordingTools:
    return RecordingTools(
        {"look": lambda _: ToolOutcome("ok", {}), "echo": lambda _: ToolOutcome("ok", "not this one")}
    )


async def test_an_own_tool_is_offered_and_called_beside_and_before_the_sandboxs():
    echo, tools = Echo(), sandbox()
    model = ScriptedModel(calling(call("echo", {"text": "hi"}), call("look", {})), saying("done"))
    agent = Agent(model, tools=tools, own_tools=[echo])
    result = await agent.run("x", run_id="r")
    assert sorted(spec.name for spec in model.requests[0].tools) == ["echo", "look"]
    assert result.steps[0].output == {"said": "hi", "prompt": "x"}
    assert echo.effects == ["r/1/0"]
    assert [each.name for each, _ in tools.executed] == ["look"]


async def test_what_is_not_offered_is_not_shown():
    echo = Echo()
    echo.offered = False
    model = ScriptedModel(saying("done"))
    await Agent(model, own_tools=[echo]).run("x")
    assert model.requests[0].tools == ()


@pytest.mark.parametrize(
    ("error", "said"),
    [(InvalidArgumentError("text is missing"), "text is missing"), (UnavailableError("gone"), "outcome is unknown")],
)
async def test_what_an_own_tool_raises_is_told_to_the_model(error, said):
    echo = Echo()
    echo.error = error
    model = ScriptedModel(calling(call("echo", {})), saying("I see"))
    await Agent(model, own_tools=[echo]).run("x")
    assert said in model.requests[1].messages[-1].text


@pytest.mark.parametrize(("knows", "again"), [(True, ["r/1/0"]), (False, [])])
async def test_cut_off_within_a_call_it_is_repeated_only_where_it_knows_its_effects(knows, again):
    journal = ListJournal()
    script = calling(call("echo", {"text": "hi"})), saying("done")
    await Agent(ScriptedModel(*script), own_tools=[Echo()], journal=journal).run(RunRequest("x", "s"), run_id="r")
    events = await journal.events("r")
    cut = next(place for place, event in enumerate(events) if event.type == "TOOL_CALL") + 1
    echo = Echo(knows_effects=knows)
    result = await Agent(ScriptedModel(saying("done")), own_tools=[echo]).reopen(RunState.of(events[:cut])).drive()
    assert (echo.effects, result.result) == (again, "done")
