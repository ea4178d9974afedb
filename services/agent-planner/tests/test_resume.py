"""A run that is cut off after any event goes on from its journal, and ends as the undisturbed one."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest
from pagi_planner import Agent, Policy, RunRequest, RunStatus
from pagi_planner.domain.errors import (
    ContextTooLongError,
    DecidedError,
    EffectConflictError,
    RunEndedError,
    UnknownCallError,
)
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import (
    Decision,
    Effects,
    InputFile,
    Judging,
    Mode,
    ModelRequest,
    Reasoning,
    ToolOutcome,
)
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import Phase, RunState
from pagi_planner.domain.time_travel.replay import replay
from pagi_planner.testing import InMemoryMemory, RecordingTools, ScriptedModel, call, calling, saying

TWO = calling(call("add", {"n": 1}), call("add", {"n": 2}))
# By the effect id of the model call: a gateway gives a repeat the answer that it has given before.
ANSWERS = {"r/1/model": TWO, "r/2/model": saying(""), "r/3/model": saying("done")}


# A model whose provider wants its reasoning back with the calls.
THINKING = {**ANSWERS, "r/1/model": replace(TWO, reasoning=(Reasoning("here", "two numbers", "EqQB"),))}


# Every phase and every kind of event: a file that is summarised, an intent that a model tells, a plan that is revised
# because a step failed, a conversation that is too long for the model, an empty answer, and one that is judged.
FILE = InputFile("long.txt", content_base64=base64.b64encode(b"A fact. " * 4_000).decode())
PLAIN = RunRequest("x", "s")
RICH = RunRequest("The numbers", "s", mode=Mode.AUTO, files=(FILE,), evaluate=Judging(judge=True), intent_by_model=True)
RICH_ANSWERS = {
    "r/file/0-0": saying("It is about facts."),
    "r/file/0-1": saying("It goes on about facts."),
    "r/intent/1": saying('{"kind": "multi_step"}'),
    "r/plan/1": saying('{"steps": [{"step": "fail first", "tool": "fail"}, {"step": "add", "tool": "add"}]}'),
    "r/1/model": calling(call("fail", {})),
    "r/plan/2": saying('{"steps": [{"step": "add", "tool": "add"}]}'),
    "r/2/model": calling(call("add", {"n": 1}), call("long", {})),
    "r/3/model": calling(call("read_artifact", {"artifact": "2/1", "search": "needle"})),
    "r/4/model": ContextTooLongError("maximum context length"),
    "r/5/model": saying(""),
    "r/6/model": saying("done"),
    "r/judge/2": saying('{"score": 0.9, "reason": "right", "advice": ""}'),
}


class RememberingModel:
    """Answers by effect id, as the gateway does, and keeps what it was asked."""

    def __init__(self, answers=ANSWERS) -> None:
        self.asked: list[str] = []
        self.requests: dict[str, ModelRequest] = {}
        self._answers = answers

    async def answer(self, request):
        self.asked.append(request.effect_id)
        assert self.requests.setdefault(request.effect_id, request) == request
        answer = self._answers[request.effect_id]
        if isinstance(answer, Exception):
            raise answer
        return answer


def tools(**kwargs) -> RecordingTools:
    return RecordingTools(
        {
            "add": lambda x: ToolOutcome("ok", {"n": x["n"]}),
            "fail": lambda _: ToolOutcome("failed", error="no"),
            "long": lambda _: ToolOutcome("ok", "hay " * 5_000 + "needle" + " hay" * 5_000),
        },
        **kwargs,
    )


async def whole(request: RunRequest = PLAIN, answers=ANSWERS) -> ListJournal:
    journal = ListJournal()
    await Agent(RememberingModel(answers), tools=tools(), journal=journal).run(request, run_id="r")
    return journal


async def test_the_rich_run_has_every_kind_of_event():
    events = await (await whole(RICH, RICH_ANSWERS)).events("r")
    seldom = {"APPROVAL_REQUESTED", "APPROVAL_DECIDED", "PLAN_ERROR", "PLAN_CANCELLED", "RUN_RESUMED"}
    assert {event.type.value for event in events} == {kind.value for kind in EventType} - seldom
    made = [event.data for event in events if event.type is EventType.PLAN_MADE]
    assert [[step["state"] for step in each["steps"]] for each in made] == [["open", "open"], ["open"]]
    state = RunState.of(events)
    assert [step.state for step in state.plan.steps] == ["done"]
    assert state.steps[3].output["found"] == 1


@pytest.mark.parametrize(("request_", "answers"), [(PLAIN, ANSWERS), (PLAIN, THINKING), (RICH, RICH_ANSWERS)])
async def test_cut_off_after_any_event_it_goes_on_and_ends_as_the_undisturbed_run(request_, answers):
    events = await (await whole(request_, answers)).events("r")
    undisturbed = RunState.of(events)
    asked = RememberingModel(answers)
    await Agent(asked, tools=tools()).run(request_, run_id="r")
    understood = [event.type for event in events].index(EventType.CONTEXT_LOADED)
    for cut in range(1, len(events)):
        journal = ListJournal()
        for event in events[:cut]:
            journal.append(event)
        done = {event.data["effect_id"] for event in events[:cut] if event.type in _FINISHED}
        model, seen, memory = RememberingModel(answers), tools(), InMemoryMemory()
        agent = Agent(model, tools=seen, journal=journal, memory=memory)
        result = await agent.reopen(RunState.of(events[:cut])).drive()
        again = await journal.events("r")
        assert [event.type for event in again] == [event.type for event in events], cut
        assert [event.seq for event in again] == list(range(1, len(events) + 1))
        assert (result.status, result.result) == (undisturbed.status, "done")
        assert [(s.tool, s.input, s.output) for s in result.steps] == [
            (s.tool, s.input, s.output) for s in undisturbed.steps
        ]
        assert not done & {*model.asked, *(effect for _, effect in seen.executed)}, "what is finished is not done again"
        assert memory.exchanges["r"].turns[-1].text == "done"
        if cut > understood:
            # The gateway would refuse a repeat of an effect id that asks for something else.
            assert {name: asked.requests[name] for name in model.requests} == model.requests, cut


async def test_the_rich_run_is_replayed_from_its_journal_without_a_difference():
    assert await replay(await (await whole(RICH, RICH_ANSWERS)).events("r")) is None


_FINISHED = (EventType.PLAN_MODEL_RESPONSE, EventType.MODEL_RESULT, EventType.TOOL_RESULT, EventType.TOOL_ERROR)


@pytest.mark.parametrize(("effects", "runs_again"), [(Effects.EFFECTFUL, False), (Effects.IDEMPOTENT, True)])
async def test_tools_that_do_not_know_their_effects_repeat_only_what_is_harmless(effects, runs_again):
    events = await (await whole()).events("r")
    cut = [event.type for event in events].index(EventType.TOOL_RESULT)
    seen = tools(effects=effects)
    result = await Agent(RememberingModel(), tools=seen).reopen(RunState.of(events[:cut])).drive()
    assert len(seen.executed) == (2 if runs_again else 0)
    assert all(("outcome is unknown" in (step.error or "")) is not runs_again for step in result.steps)
    assert result.result == "done"


class Conflicting:
    """Knows other requests under the first effect ids of a question."""

    def __init__(self, conflicts: int) -> None:
        self.asked: list[str] = []
        self._conflicts = conflicts

    async def answer(self, request):
        self.asked.append(request.effect_id)
        if len(self.asked) <= self._conflicts:
            raise EffectConflictError(f"{request.effect_id!r} names another request already")
        return saying("done")


async def test_a_question_that_reads_otherwise_after_a_restart_is_asked_anew_under_another_effect_id():
    events = await (await whole()).events("r")
    asked = [event.type for event in events].index(EventType.PLAN_MODEL_REQUEST)
    journal, model = ListJournal(), Conflicting(2)
    for event in events[: asked + 1]:
        journal.append(event)
    result = await Agent(model, journal=journal).reopen(RunState.of(events[: asked + 1])).drive()
    assert (result.status, result.result) == (RunStatus.COMPLETED, "done")
    assert model.asked == ["r/1/model", "r/1/model/2", "r/1/model/3"]
    again = await journal.events("r")
    noted = [event.data for event in again if event.type is EventType.PLAN_MODEL_REQUEST]
    assert [(data["step"], data["effect_id"]) for data in noted] == [(1, effect) for effect in model.asked]
    assert RunState.of(again).model_calls == 1


async def test_a_gateway_that_knows_every_effect_id_otherwise_ends_the_run():
    model = Conflicting(99)
    with pytest.raises(EffectConflictError):
        await Agent(model).run(RunRequest("x"), run_id="r")
    assert len(model.asked) == 4


class TestApproval:
    """Two calls of one turn need a person's word; a third does not."""

    def runs(self, journal, **script) -> tuple[Runs, RecordingTools, ScriptedModel]:
        seen = RecordingTools({name: lambda x: ToolOutcome("ok", x) for name in ("pay", "look")}, need_approval={"pay"})
        first = calling(call("pay", {"n": 1}, "a"), call("look", {"n": 2}, "b"), call("pay", {"n": 3}, "c"))
        model = ScriptedModel(first, saying("paid"))
        return Runs(Agent(model, tools=seen, journal=journal), journal, max_concurrent=2), seen, model

    async def test_it_waits_runs_the_rest_and_each_is_decided_by_its_id(self, journal):
        runs, seen, model = self.runs(journal)
        begun = await runs.begin(RunRequest("x"))
        waiting = await begun.result()
        assert (waiting.status, runs.active) == (RunStatus.WAITING_APPROVAL, 0)
        assert [each.name for each, _ in seen.executed] == ["look"]
        # Another process takes the word: the journal has all that this takes.
        runs, seen, model = self.runs(journal)
        model._script.pop(0)
        assert await runs.recover() == 0
        denied = await runs.decide(begun.run_id, "a", Decision(False, "too dear"))
        assert denied.status is RunStatus.WAITING_APPROVAL
        await runs.decide(begun.run_id, "c", Decision(True, arguments_json='{"n": 4}'))
        await runs.stop(5)
        result = await runs.get(begun.run_id)
        assert (result.status, result.result) == (RunStatus.COMPLETED, "paid")
        assert [(json.loads(each.arguments_json), effect) for each, effect in seen.executed] == [
            ({"n": 4}, f"{begun.run_id}/1/2")
        ]
        read = [message.text for message in model.requests[0].messages if message.tool_call_id]
        assert "too dear" in read[0]
        assert [json.loads(text) for text in read[1:]] == [{"n": 2}, {"n": 4}]

    async def test_a_word_on_what_does_not_wait_is_refused(self, journal):
        runs, _, _ = self.runs(journal)
        begun = await runs.begin(RunRequest("x"))
        await begun.result()
        with pytest.raises(UnknownCallError, match="those that wait: a, c"):
            await runs.decide(begun.run_id, "b", Decision(True))
        for call_id in "ac":
            await runs.decide(begun.run_id, call_id, Decision(True))
        with pytest.raises((DecidedError, RunEndedError)):
            await runs.decide(begun.run_id, "a", Decision(False))
        await runs.stop(5)
        with pytest.raises(RunEndedError):
            await runs.decide(begun.run_id, "a", Decision(False))
        again = await runs.decide(begun.run_id, "a", Decision(True))
        assert again.status is RunStatus.COMPLETED, "the same word twice is one"

    async def test_the_operator_says_which_tools_need_a_word_beside_those_that_say_so(self):
        for patterns, waits in [(("p?y",), True), (("x", "*"), True), (("pa",), False), ((), False)]:
            tools = RecordingTools({"pay": lambda x: ToolOutcome("ok", x)})
            model = ScriptedModel(calling(call("pay", {"n": 1}, "a")), saying("paid"))
            result = await Agent(model, tools=tools, policy=Policy(approval_tools=patterns)).run("x")
            assert (result.status is RunStatus.WAITING_APPROVAL) is waits, patterns

    async def test_a_waiting_run_is_cancelled(self, journal):
        runs, _, _ = self.runs(journal)
        begun = await runs.begin(RunRequest("x"))
        await begun.result()
        assert (await runs.cancel(begun.run_id)).status is RunStatus.CANCELLED
        assert RunState.of(await journal.events(begun.run_id)).phase is Phase.ENDED

    async def test_a_word_given_while_another_call_runs_is_taken(self, journal):
        runs, seen, _ = self.runs(journal)
        gate = asyncio.Event()
        execute = seen.execute

        async def held(call, **kwargs):
            if call.name == "look":
                await gate.wait()
            return await execute(call, **kwargs)

        seen.execute = held
        begun = await runs.begin(RunRequest("x"))
        async with asyncio.timeout(5):
            while not begun.state.intents:
                await asyncio.sleep(0)
        for call_id in "ac":
            await runs.decide(begun.run_id, call_id, Decision(True))
        gate.set()
        assert (await begun.result()).result == "paid"
        assert sorted(each.name for each, _ in seen.executed) == ["look", "pay", "pay"]
