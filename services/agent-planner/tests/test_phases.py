"""Understand, plan, execute, evaluate: modes, intent, the explicit plan, the judge."""

from __future__ import annotations

import json

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus
from pagi_planner.adapters.prometheus_phases import SECONDS, PrometheusPhases
from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.judgement.intent import IntentKind, intent_of, parts_of
from pagi_planner.domain.model import Judging, Mode, ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.testing import RecordingTools, ScriptedModel, WaitingModel, call, calling, saying

ADD = call("add", {"a": 1, "b": 2})
PLAN = saying(json.dumps({"steps": [{"step": "add the numbers", "tool": "add"}, {"step": "say it", "tool": ""}]}))


def verdict(score: float, advice: str = "be exact") -> object:
    return saying(json.dumps({"score": score, "reason": "so so", "advice": advice}), cost_usd=0.1)


def tools() -> RecordingTools:
    return RecordingTools(
        {
            "add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]}),
            "fail": lambda _: ToolOutcome("failed", error="it broke"),
        }
    )


async def run(*script, request: RunRequest, **kwargs):
    model = ScriptedModel(*script)
    agent = Agent(model, tools=tools(), **kwargs)
    result = await agent.run(request, run_id="r")
    events = await agent.journal.events("r")
    return result, model, {kind: [event.data for event in events if event.type is kind] for kind in EventType}


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Hello there!", IntentKind.CHAT),
        ("thanks a lot", IntentKind.CHAT),
        ("What is the capital of France?", IntentKind.QUESTION),
        ("is it raining", IntentKind.QUESTION),
        ("Write a poem about tea.", IntentKind.TASK),
        ("Tea.", IntentKind.TASK),
        ("First read a.txt, then summarise it and then save the summary.", IntentKind.MULTI_STEP),
        ("1. Read a.txt\n2. Sum the numbers\n3. Write b.txt", IntentKind.MULTI_STEP),
        ("Download the file. Count its lines. Write the count to out.txt.", IntentKind.MULTI_STEP),
        ("If a is larger then b is smaller, is it?", IntentKind.QUESTION),
    ],
)
def test_rules_tell_what_a_prompt_is(prompt, kind):
    assert intent_of(prompt).kind is kind


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", [" ", "\n", "\t", "\r\n", "1.\n", "- \n", "step 1 ", ", ", " and ", "word "])
def test_the_longest_prompt_is_read_in_a_blink_whatever_it_holds(piece):
    # What reads it in quadratic time takes minutes, and the whole planner waits.
    for prompt in (piece * (100_000 // len(piece)), "x" + piece * (99_998 // len(piece)) + "x"):
        assert intent_of(prompt).kind in IntentKind


def test_the_parts_of_a_prompt_are_its_steps():
    assert parts_of("First read a.txt, then summarise it.") == ["read a.txt", "summarise it"]
    assert parts_of("1. one\n2. two") == ["one", "two"]
    assert parts_of("Just this") == []


@pytest.mark.parametrize(("mode", "offered"), [(Mode.CHAT, []), (Mode.REACT, ["add", "fail"])])
async def test_a_chat_has_no_tools(mode, offered):
    _, model, events = await run(saying("hi"), request=RunRequest("What is 1 + 2?", mode=mode))
    assert [spec.name for spec in model.requests[0].tools] == offered
    assert events[EventType.CONTEXT_LOADED][0]["tools"] == offered
    assert events[EventType.PLAN_MADE] == []


async def test_a_chat_does_not_miss_the_sandbox():
    seen = tools()
    seen.away = UnavailableError("gone")
    model = ScriptedModel(saying("hi"))
    result = await Agent(model, tools=seen).run(RunRequest("Hello", mode=Mode.CHAT))
    assert result.degraded == ()
    assert "No tools" not in model.requests[0].messages[0].text


@pytest.mark.parametrize(
    ("prompt", "chosen"), [("Hello!", "chat"), ("What is tea?", "react"), ("First add 1 and 2, then say it.", "plan")]
)
async def test_the_intent_chooses_the_mode_where_that_is_left_to_it(prompt, chosen):
    script = (PLAN, calling(ADD), saying("x")) if chosen == "plan" else (saying("x"),)
    _, _, events = await run(*script, request=RunRequest(prompt, mode=Mode.AUTO))
    assert events[EventType.CONTEXT_LOADED][0]["mode"] == chosen


@pytest.mark.parametrize(
    ("said", "kind", "by"),
    [(saying('{"kind": "chat"}'), "chat", "model"), (saying("dunno"), "task", "rules")],
)
async def test_a_model_tells_the_intent_only_where_that_is_asked_and_rules_are_not_sure(said, kind, by):
    asked = RunRequest("Tea.", mode=Mode.AUTO, intent_by_model=True)
    _, model, events = await run(said, saying("x"), request=asked)
    assert events[EventType.CONTEXT_LOADED][0]["intent"] == {"kind": kind, "by": by}
    assert model.requests[0].answer_schema_json
    _, model, _ = await run(saying("x"), request=RunRequest("What is tea?", intent_by_model=True))
    assert len(model.requests) == 1


class TestPlan:
    request = RunRequest("First add 1 and 2, then say it.", mode=Mode.PLAN)

    async def test_it_stands_before_the_model_and_its_steps_are_tracked(self):
        result, model, events = await run(PLAN, calling(ADD), saying("3"), request=self.request)
        assert "add: the tool add" in model.requests[0].messages[0].text
        assert "1. add the numbers (tool: add)\n2. say it" in model.requests[1].messages[0].text
        assert model.requests[1].messages[-1].text == self.request.prompt
        assert [event["purpose"] for event in events[EventType.MODEL_CALL]] == ["plan"]
        assert [(step.text, step.state) for step in result.plan] == [("add the numbers", "done"), ("say it", "done")]
        assert result.usage.input_tokens == 30

    async def test_a_step_that_failed_makes_it_be_revised(self):
        first = saying('{"steps": [{"step": "try", "tool": "fail"}, {"step": "then add", "tool": "add"}]}')
        again = saying('{"steps": [{"step": "add after all", "tool": "add"}]}')
        result, model, events = await run(
            first, calling(call("fail", {})), again, calling(ADD), saying("3"), request=self.request
        )
        assert "it broke" in model.requests[2].messages[-1].text
        assert [made["revision"] for made in events[EventType.PLAN_MADE]] == [1, 2]
        assert [(step.text, step.state) for step in result.plan] == [("add after all", "done")]

    async def test_revisions_are_bounded(self):
        plan = saying('{"steps": [{"step": "try", "tool": "fail"}]}')
        script = [plan]
        for n in range(4):
            script.append(calling(call("fail", {"n": n})))
            if n < 2:
                script.append(plan)
        result, _, events = await run(*script, saying("no"), request=self.request)
        assert len(events[EventType.PLAN_MADE]) == 3
        assert result.status is RunStatus.COMPLETED

    @pytest.mark.parametrize("said", [UnavailableError("away"), saying("I shall try"), saying('{"steps": 5}')])
    async def test_rules_make_it_where_the_model_does_not(self, said):
        result, _, events = await run(said, saying("done"), request=self.request)
        assert [step.text for step in result.plan] == ["add 1 and 2", "say it"]
        [made] = events[EventType.PLAN_MADE]
        assert made["by"] == "rules"
        assert made["error"]

    async def test_a_plan_that_was_not_carried_out_is_sent_back_once(self):
        _, model, events = await run(PLAN, saying("3"), calling(ADD), saying("It is 3"), request=self.request)
        assert events[EventType.EVALUATION][0]["findings"][0]["rule"] == "unfinished_plan"
        assert "add the numbers" in model.requests[2].messages[-1].text


class TestJudge:
    request = RunRequest("What is 1 + 2?", evaluate=Judging(judge=True, threshold=0.7, max_refinements=2))

    async def test_a_good_answer_goes_out(self):
        result, model, events = await run(calling(ADD), saying("3"), verdict(0.9), request=self.request)
        assert result.result == "3"
        assert (model.requests[2].model, model.requests[2].tools) == ("judge", ())
        assert '{"sum": 3}' in model.requests[2].messages[1].text
        [judged] = events[EventType.EVALUATION]
        assert (judged["score"], judged["judge"]["score"], judged["feedback"]) == (0.9, 0.9, "")
        assert result.usage.cost_usd == pytest.approx(0.1)

    async def test_below_the_threshold_it_is_refined_as_often_as_allowed_and_the_best_answer_is_given(self):
        script = saying("2"), verdict(0.2), saying("3"), verdict(0.6), saying("4"), verdict(0.1)
        result, model, events = await run(*script, request=self.request)
        assert "so so be exact" in model.requests[2].messages[-1].text
        assert result.result == "3"
        assert [bool(each["feedback"]) for each in events[EventType.EVALUATION]] == [True, True, False]
        assert [each["effect_id"] for each in events[EventType.MODEL_CALL]] == [f"r/judge/{n}" for n in (1, 2, 3)]

    @pytest.mark.parametrize(
        "said",
        [UnavailableError("away"), saying("very good!"), saying('{"score": 7}'), saying('{"score": true}'), saying("")],
    )
    async def test_a_judge_that_is_away_or_talks_rubbish_costs_nothing(self, said):
        result, _, events = await run(saying("3"), said, request=self.request)
        assert (result.result, result.status) == ("3", RunStatus.COMPLETED)
        assert events[EventType.EVALUATION][0]["judge"]["error"]

    async def test_a_judge_that_hangs_is_not_waited_for(self):
        class Hanging(ScriptedModel):
            async def answer(self, request):
                if "judge" in request.effect_id:
                    return await WaitingModel(saying("never")).answer(request)
                return await super().answer(request)

        agent = Agent(Hanging(saying("3")), policy=Policy(aside_timeout_s=0.01))
        assert (await agent.run(self.request)).result == "3"

    async def test_where_nobody_has_set_up_a_judge_the_runs_own_model_is_one(self):
        unknown = UnknownModelError("there is no model 'judge'", field="model")
        _, model, events = await run(saying("3"), unknown, verdict(1.0), request=self.request)
        assert [asked.model for asked in model.requests] == ["", "judge", ""]
        assert events[EventType.EVALUATION][0]["judge"]["score"] == 1.0

    async def test_without_money_it_is_not_asked(self):
        request = RunRequest("x", evaluate=Judging(judge=True), limits=Limits(max_cost_usd=0.5))
        result, model, events = await run(saying("3", cost_usd=0.5), request=request)
        assert len(model.requests) == 1
        assert "USD were used up" in events[EventType.EVALUATION][0]["judge"]["error"]
        assert result.status is RunStatus.COMPLETED

    async def test_where_the_rules_send_it_back_already_it_is_not_asked(self):
        _, model, _ = await run(saying(""), saying("3"), verdict(1.0), request=self.request)
        assert [asked.model for asked in model.requests] == ["", "", "judge"]


async def test_each_phase_is_timed():
    def counted(phase: str) -> float:
        return SECONDS.labels(phase)._sum.get()

    names = ("understand", "plan", "ask", "act", "evaluate", "answer")
    before = {name: counted(name) for name in names}
    await run(PLAN, calling(ADD), saying("3"), request=TestPlan.request, timings=PrometheusPhases())
    assert all(counted(name) > before[name] for name in names)
