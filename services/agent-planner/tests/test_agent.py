"""The loop, over fakes."""

from __future__ import annotations

import asyncio
import json

import pytest
from pagi_chassis.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus
from pagi_planner.domain.errors import UnknownModelError, UnknownPersonaError, UnknownToolError
from pagi_planner.domain.model import Effects, Passage, Role, ToolOutcome
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import FINAL, EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.testing import (
    InMemoryMemory,
    RecordingTools,
    ScriptedModel,
    SteppingClock,
    WaitingModel,
    call,
    calling,
    saying,
)

ADD = call("add", {"a": 1, "b": 2})


def adding() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})})


def request(prompt: str = "What is 1 + 2?", **kwargs) -> RunRequest:
    return RunRequest(prompt, kwargs.pop("session_id", "s"), **kwargs)


async def journal_of(agent: Agent, run_id: str):
    events = await agent.journal.events(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return events


async def test_it_runs_alone_with_nothing_but_a_model():
    result = await Agent(ScriptedModel(saying("hello"))).run("Say hello")
    assert (result.result, result.status, result.error) == ("hello", RunStatus.COMPLETED, "")


async def test_a_run_waits_for_a_gateway_when_it_has_work_to_lose():
    model, journal = ScriptedModel(calling(ADD), saying("It is 3.")), ListJournal()
    result = await Agent(model, tools=adding(), journal=journal).run(request())
    assert [asked.is_patient for asked in model.requests] == [False, True]
    # Taken up by another planner: whoever began it may have gone.
    begun = RunState.of(await journal.events(result.run_id, limit=1))
    again = ScriptedModel(calling(ADD), saying("It is 3."))
    await Agent(again, tools=adding()).reopen(begun, FIRST_EPOCH + 1).drive()
    assert [asked.is_patient for asked in again.requests] == [True, True]


async def test_a_tool_call_is_run_and_its_result_reaches_the_model():
    model, tools = ScriptedModel(calling(ADD), saying("It is 3.")), adding()
    agent = Agent(model, tools=tools, clock=SteppingClock())
    result = await agent.run(request())
    assert result.result == "It is 3."
    assert [(step.step, step.tool, step.input, step.output, step.error) for step in result.steps] == [
        (1, "add", {"a": 1, "b": 2}, {"sum": 3}, None)
    ]
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.cost_usd) == (20, 10, None)
    last = model.requests[1].messages
    assert [message.role for message in last] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL]
    assert last[-1].tool_call_id == last[-2].tool_calls[0].id == ADD.id
    assert json.loads(last[-1].text) == {"sum": 3}
    assert [event.type.value for event in await journal_of(agent, result.run_id)] == [
        "PLAN_START",
        "CONTEXT_LOADED",
        "PLAN_MODEL_REQUEST",
        "PLAN_MODEL_RESPONSE",
        "TOOL_CALL",
        "TOOL_RESULT",
        "PLAN_MODEL_REQUEST",
        "PLAN_MODEL_RESPONSE",
        "EVALUATION",
        "PLAN_END",
    ]


async def test_the_state_is_the_fold_of_the_journal():
    agent = Agent(ScriptedModel(calling(ADD, call("nix", "{")), saying("3")), tools=adding(), clock=SteppingClock())
    result = await agent.run(request())
    assert RunState.of(await journal_of(agent, result.run_id)).result() == result


async def test_every_effect_is_in_the_journal_before_it_happens():
    journal = ListJournal()
    seen = []

    class LookingModel(ScriptedModel):
        async def answer(self, asked):
            seen.append((asked.effect_id, [e.data.get("effect_id") for e in await journal.events(run_id)][-1]))
            return await super().answer(asked)

    def look(_):
        intents = [e.data["effect_id"] for e in journal._events[run_id] if e.type is EventType.TOOL_CALL]
        seen.append((tools.executed[-1][1], intents[-1]))
        return ToolOutcome("ok", {})

    run_id = "run-1"
    tools = RecordingTools({"look": look})
    agent = Agent(LookingModel(calling(call("look", {})), saying("done")), tools=tools, journal=journal)
    await agent.run(request(), run_id=run_id)
    assert seen == [
        ("run-1/1/model", "run-1/1/model"),
        ("run-1/1/0", "run-1/1/0"),
        ("run-1/2/model", "run-1/2/model"),
    ]


async def test_calls_of_one_turn_run_together_and_are_answered_in_their_order():
    order = []

    class Gated:
        """`slow` ends only after `fast` has."""

        def __init__(self) -> None:
            self.fast_done = asyncio.Event()

        async def specs(self):
            return await RecordingTools({"slow": None, "fast": None}).specs()

        async def execute(self, call, **_):
            if call.name == "slow":
                await self.fast_done.wait()
            order.append(call.name)
            self.fast_done.set()
            return ToolOutcome("ok", {"from": call.name})

    model = ScriptedModel(calling(call("slow", {}), call("fast", {})), saying("both"))
    async with asyncio.timeout(5):
        await Agent(model, tools=Gated()).run(request())
    assert order == ["fast", "slow"]
    assert [json.loads(m.text)["from"] for m in model.requests[1].messages if m.role is Role.TOOL] == ["slow", "fast"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (call("nix", {}), "there is no tool named 'nix'; the tools are: add"),
        (call("add", "{"), "not JSON"),
        (call("add", "[1]"), "not a JSON object"),
    ],
)
async def test_a_call_that_cannot_be_made_is_told_to_the_model(asked, said):
    model, tools = ScriptedModel(calling(asked), saying("sorry, no")), adding()
    result = await Agent(model, tools=tools).run(request())
    assert said in json.loads(model.requests[1].messages[-1].text)["error"]
    assert said in result.steps[0].error
    assert tools.executed == []


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (None, {"stdout": "out\n", "stderr": "err\n"}),
        ({"n": 1}, {"n": 1, "stdout": "out\n", "stderr": "err\n"}),
        (5, {"output": 5, "stdout": "out\n", "stderr": "err\n"}),
    ],
)
async def test_what_a_tool_printed_stands_beside_its_answer(answer, shown):
    tools = RecordingTools({"add": lambda _: ToolOutcome("ok", answer, "out\n", "err\n")})
    model = ScriptedModel(calling(ADD), saying("3"))
    result = await Agent(model, tools=tools).run(request())
    assert result.steps[0].output == shown
    assert json.loads(model.requests[1].messages[-1].text) == shown


async def test_arguments_that_the_tool_refuses_are_told_to_the_model():
    tools = RecordingTools({"add": lambda _: InvalidArgumentError("a must be a number", field="a")})
    model = ScriptedModel(calling(ADD), saying("I see"))
    result = await Agent(model, tools=tools).run(request())
    assert result.status is RunStatus.COMPLETED
    assert "a must be a number" in model.requests[1].messages[-1].text


@pytest.mark.parametrize(
    ("effects", "said"), [(Effects.READ_ONLY, "unavailable now"), (Effects.EFFECTFUL, "outcome is unknown")]
)
async def test_a_sandbox_that_fails_is_told_to_the_model(effects, said):
    tools = RecordingTools({"add": lambda _: UnavailableError("gone")}, effects=effects)
    model = ScriptedModel(calling(ADD), saying("I could not add"))
    result = await Agent(model, tools=tools).run(request())
    assert said in model.requests[1].messages[-1].text
    assert result.degraded == ("sandbox",)


async def test_without_tools_and_memory_the_run_goes_on_and_says_so():
    memory, tools = InMemoryMemory(away=UnavailableError("no memory")), adding()
    tools.away = DeadlineExceededError("no sandbox")
    model = ScriptedModel(saying("fine"))
    result = await Agent(model, memory=memory, tools=tools).run(request())
    assert result.status is RunStatus.COMPLETED
    assert set(result.degraded) == {"memory", "sandbox"}
    assert "No tools can be reached" in model.requests[0].messages[0].text
    assert model.requests[0].tools == ()


async def test_the_next_run_of_a_session_reads_the_first():
    memory, model = InMemoryMemory(), ScriptedModel(saying("Hello Ada"), saying("Ada"))
    agent = Agent(model, memory=memory)
    await agent.run(request("I am Ada."))
    await agent.run(request("Who am I?"))
    await_other = ScriptedModel(saying("?"))
    await Agent(await_other, memory=memory).run(request("Who am I?", session_id="other"))
    assert [m.text for m in model.requests[1].messages[1:]] == ["I am Ada.", "Hello Ada", "Who am I?"]
    assert [m.text for m in await_other.requests[0].messages[1:]] == ["Who am I?"]


async def test_passages_are_given_and_cited_sources_are_marked():
    passages = [
        Passage("1", "Tea is <b>green</b>.", 0.9, "Domain-KB", "Domain-KB/tea.md", ("Tea",)),
        Passage("2", "Ice is cold.", 0.5, "Domain-KB", "Domain-KB/ice.md"),
    ]
    model = ScriptedModel(saying("Green. Source: Domain-KB/tea.md"))
    result = await Agent(model, memory=InMemoryMemory(passages=passages)).run(request("What colour is tea?"))
    system = model.requests[0].messages[0].text
    assert system.startswith("You are a test.")
    assert '<passage source="Domain-KB/tea.md" heading="Tea">Tea is &lt;b&gt;green&lt;/b&gt;.</passage>' in system
    assert [(source.source, source.cited) for source in result.sources] == [
        ("Domain-KB/tea.md", True),
        ("Domain-KB/ice.md", False),
    ]


@pytest.mark.parametrize(
    ("error", "field", "kwargs"),
    [
        (UnknownToolError, "tools[1]", {"tools": ("add", "nix")}),
        (UnknownPersonaError, "persona", {"persona": "nobody"}),
        (UnknownModelError, "model", {"model": "nothing"}),
    ],
)
async def test_a_request_for_what_does_not_exist_fails_and_is_recorded(error, field, kwargs):
    model = ScriptedModel(UnknownModelError("there is no such model", field="model"))
    agent = Agent(model, memory=InMemoryMemory(), tools=adding())
    with pytest.raises(error) as caught:
        await agent.run(request(**kwargs), run_id="r")
    assert caught.value.field == field
    events = await journal_of(agent, "r")
    assert events[-1].type is EventType.PLAN_ERROR
    assert events[-1].data["error_type"] == error.__name__


async def test_only_the_tools_that_were_asked_for_are_offered():
    tools = RecordingTools({name: lambda _: ToolOutcome("ok", {}) for name in ("a", "b", "c")})
    model = ScriptedModel(saying("x"), saying("y"))
    agent = Agent(model, tools=tools)
    await agent.run(request(tools=("c", "a")))
    await agent.run(request(tools=()))
    assert [[spec.name for spec in asked.tools] for asked in model.requests] == [["c", "a"], []]


async def test_the_gateway_away_fails_the_run_with_the_reason():
    agent = Agent(ScriptedModel(UnavailableError("gateway away", retry_after_s=3)))
    with pytest.raises(UnavailableError):
        await agent.run(request(), run_id="r")
    state = RunState.of(await journal_of(agent, "r"))
    assert (state.status, state.error) == (RunStatus.FAILED, "gateway away")


async def test_a_fault_of_ours_is_recorded_without_its_detail():
    agent = Agent(ScriptedModel(KeyError("secret")))
    with pytest.raises(KeyError):
        await agent.run(request(), run_id="r")
    assert RunState.of(await journal_of(agent, "r")).error == "internal error"


async def test_steps_end_the_run_with_what_was_reached():
    calls = [calling(call("add", {"a": n, "b": 0})) for n in range(5)]
    agent = Agent(ScriptedModel(*calls), tools=adding())
    result = await agent.run(request(limits=Limits(max_steps=2)))
    assert result.status is RunStatus.LIMIT_STEPS
    assert len(result.steps) == 2
    assert "2 steps were used up" in result.result
    assert '{"sum": 1}' in result.result


async def test_money_ends_the_run():
    calls = [calling(call("add", {"a": n, "b": 0}), cost_usd=0.4) for n in range(9)]
    model = ScriptedModel(*calls)
    result = await Agent(model, tools=adding()).run(request(limits=Limits(max_cost_usd=1.0)))
    assert result.status is RunStatus.LIMIT_COST
    assert len(model.requests) == 3
    assert [asked.max_cost_usd for asked in model.requests] == [1.0, pytest.approx(0.6), pytest.approx(0.2)]


async def test_tokens_end_the_run():
    # Each answer reports 15 tokens.
    calls = [calling(call("add", {"a": n, "b": 0})) for n in range(9)]
    model = ScriptedModel(*calls)
    result = await Agent(model, tools=adding()).run(request(limits=Limits(max_tokens=40)))
    assert result.status is RunStatus.LIMIT_TOKENS
    assert len(model.requests) == 3
    assert "its 40 tokens were used up" in result.result
    assert '{"sum": 2}' in result.result


async def test_tool_calls_end_the_run_before_a_turn_that_would_be_too_much():
    two = calling(call("add", {"a": 1, "b": 0}), call("add", {"a": 2, "b": 0}))
    tools = adding()
    agent = Agent(
        ScriptedModel(two, calling(call("add", {"a": 3, "b": 0}), call("add", {"a": 4, "b": 0}))), tools=tools
    )
    result = await agent.run(request(limits=Limits(max_tool_calls=3)))
    assert result.status is RunStatus.LIMIT_TOOL_CALLS
    assert len(tools.executed) == 2
    assert '{"sum": 2}' in result.result


async def test_time_ends_the_run_and_what_hangs():
    model = WaitingModel(saying("too late"))
    agent = Agent(model)
    async with asyncio.timeout(5):
        result = await agent.run(request(limits=Limits(timeout_s=0.05)))
    assert result.status is RunStatus.LIMIT_TIME
    assert "Nothing was reached yet" in result.result


async def test_the_same_call_again_and_again_is_a_loop():
    model = ScriptedModel(calling(ADD), repeat_last=True)
    tools = adding()
    result = await Agent(model, tools=tools, policy=Policy(max_repeats=3)).run(request())
    assert result.status is RunStatus.NO_PROGRESS
    assert len(tools.executed) == 3


async def test_an_empty_answer_is_asked_again_once():
    model = ScriptedModel(saying(""), saying("now"))
    result = await Agent(model).run(request())
    assert result.result == "now"
    assert "Give an answer in words." in model.requests[1].messages[-1].text

    model = ScriptedModel(saying(" "), repeat_last=True)
    result = await Agent(model, policy=Policy(max_refinements=2)).run(request())
    assert len(model.requests) == 3
    assert result.status is RunStatus.COMPLETED


async def test_a_cancelled_run_is_recorded_as_cancelled():
    model = WaitingModel(saying("never"))
    agent = Agent(model)
    task = asyncio.create_task(agent.run(request(), run_id="r"))
    await model.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    events = await journal_of(agent, "r")
    assert events[-1].type is EventType.PLAN_CANCELLED


async def test_history_that_cannot_be_stored_is_reported_as_degraded():
    memory = InMemoryMemory()
    model = WaitingModel(saying("hi"))
    agent = Agent(model, memory=memory)
    task = asyncio.create_task(agent.run(request()))
    await model.asked.wait()
    memory.away = UnavailableError("gone now")
    model.go.set()
    result = await task
    assert (result.status, result.degraded) == (RunStatus.COMPLETED, ("memory",))
    assert result.run_id not in agent.parts.remembered


async def test_every_run_has_exactly_one_final_event():
    agent = Agent(ScriptedModel(calling(ADD), saying("3")), tools=adding())
    result = await agent.run(request())
    events = await journal_of(agent, result.run_id)
    assert [event.type in FINAL for event in events].count(True) == 1
