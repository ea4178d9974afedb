"""What a model thought on the way to its tool calls goes back with them, in its run, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from pagi.agent.v1 import agent_pb2, agent_pb2_grpc
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi_chassis.testing import serving
from pagi_planner import Agent, RunRequest, convert
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.context.compaction import extract
from pagi_planner.domain.context.tokens import GENERAL, message_tokens
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import (
    Judging,
    Message,
    Mode,
    ModelAnswer,
    ModelRequest,
    ModelTraits,
    Reasoning,
    Role,
    ToolCall,
    ToolOutcome,
    Usage,
)
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.time_travel.fork import Change
from pagi_planner.domain.time_travel.replay import replay
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.testing import InMemoryMemory, LoneStore, RecordingTools, ScriptedModel, call, calling, saying

HERE = "anthropic (api.anthropic.com) claude ANTHROPIC_API_KEY"
SIGNED = Reasoning(HERE, "Grübel… \U0001f914", "EqQB", text_before=0)
REDACTED = Reasoning(HERE, "", "sealed", redacted=True, text_before=3, calls_before=1)
OF_A_CALL = Reasoning("google", "", "CiQB", "c2", calls_before=1)
FIRST = replace(calling(call("add", {"n": 1}, "c1"), text="One."), reasoning=(SIGNED, REDACTED))
SECOND = replace(calling(call("add", {"n": 2}, "c2")), reasoning=(OF_A_CALL,))
HI = RunRequest("add", "s")


def tools() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", x["n"])})


def thinker(*more: ModelAnswer) -> ScriptedModel:
    return ScriptedModel(FIRST, SECOND, *(more or [saying("It is 3.")]))


def carried(messages: tuple[Message, ...]) -> list[tuple[Reasoning, ...]]:
    return [message.reasoning for message in messages if message.role is Role.ASSISTANT]


async def run(model: ScriptedModel, request: RunRequest = HI, **parts) -> list[Event]:
    agent = Agent(model, tools=tools(), **parts)
    await agent.run(request, run_id="r")
    return list(await agent.journal.events("r"))


async def test_every_later_call_of_the_run_carries_it():
    model = thinker()
    await run(model)
    assert [carried(request.messages) for request in model.requests] == [
        [],
        [(SIGNED, REDACTED)],
        [(SIGNED, REDACTED), (OF_A_CALL,)],
    ]


async def test_also_behind_a_poor_answer_whose_own_reasoning_nobody_wants():
    empty = replace(saying(""), reasoning=(SIGNED,))
    model = thinker(empty, saying("It is 3."))
    events = await run(model)
    assert carried(model.requests[3].messages) == [(SIGNED, REDACTED), (OF_A_CALL,), ()]
    held = [event.data.get("reasoning") for event in events if event.type is EventType.PLAN_MODEL_RESPONSE]
    assert [bool(each) for each in held] == [True, True, False, False]


async def test_no_later_run_of_the_session_carries_it():
    memory = InMemoryMemory()
    await run(thinker(), memory=memory)
    model = thinker()
    await Agent(model, tools=tools(), memory=memory).run(HI, run_id="r-2")
    assert len(model.requests[0].messages) > 2, "the earlier turns are there"
    assert not any(message.reasoning for message in model.requests[0].messages)
    assert "EqQB" not in repr(memory.exchanges)


async def test_nothing_that_is_asked_beside_the_conversation_carries_it():
    class Aside(ScriptedModel):
        async def answer(self, request):
            if "/model" in request.effect_id:
                return await super().answer(request)
            asides.append(request)
            steps = {"steps": [{"step": "add", "tool": "add"}], "score": 0.9, "reason": "right", "advice": ""}
            return saying(json.dumps(steps))

    asides: list = []
    fails = RecordingTools(
        {"add": lambda x: ToolOutcome("ok", 3) if x["n"] == 2 else ToolOutcome("failed", error="no")}
    )
    request = replace(HI, mode=Mode.PLAN, evaluate=Judging(judge=True))
    await Agent(Aside(FIRST, SECOND, saying("I add: it is 3.")), tools=fails).run(request, run_id="r")
    assert {aside.effect_id.split("/")[1] for aside in asides} == {"plan", "judge"}
    assert not any(message.reasoning for aside in asides for message in aside.messages)
    assert "Grübel" not in repr(asides)


@pytest.mark.parametrize("cut", range(2, 14))
async def test_another_process_goes_on_with_the_same_messages(tmp_path, cut):
    """Through the file: what was journaled is all that it knows."""
    undisturbed = thinker()
    events = await run(undisturbed)
    assert len(events) == 14
    asked = {request.effect_id: request for request in undisturbed.requests}
    answers = {"r/1/model": FIRST, "r/2/model": SECOND, "r/3/model": saying("It is 3.")}

    class Remembering(ScriptedModel):
        async def answer(self, request):
            assert request == asked[request.effect_id]
            return answers[request.effect_id]

    journal = SqliteJournal(tmp_path / "audit.db")
    await journal.start()
    for event in events[:cut]:
        journal.append(event)
    await journal.sync("r")
    state = RunState.of(await journal.events("r"))
    result = await Agent(Remembering(), tools=tools(), journal=journal).reopen(state).drive()
    again = [event.data for event in await journal.events("r") if event.type is EventType.PLAN_MODEL_RESPONSE]
    await journal.stop()
    assert result.result == "It is 3."
    assert again == [event.data for event in events if event.type is EventType.PLAN_MODEL_RESPONSE]


async def test_a_replay_has_it_and_shows_where_it_is_missing():
    events = await run(thinker())
    assert await replay(events) is None
    place = [event.type for event in events].index(EventType.PLAN_MODEL_RESPONSE)
    events[place] = replace(events[place], data={**events[place].data, "reasoning": []})
    assert (await replay(events)).members == ["reasoning"]


async def test_a_fork_goes_on_with_it():
    journal = ListJournal()
    await Agent(thinker(), tools=tools(), journal=journal).run(HI, run_id="r")
    model = ScriptedModel(saying("three"))
    runs = Runs(Agent(model, tools=tools(), journal=journal), LoneStore(journal), max_concurrent=1)
    result = await (await runs.fork("r", 2, Change(model="another"))).result()
    # Whether it can be used there, the gateway knows.
    assert carried(model.requests[0].messages) == [(SIGNED, REDACTED), (OF_A_CALL,)]
    assert result.result == "three"


async def test_a_turn_that_is_compacted_takes_it_along():
    class Window:
        async def traits(self, model):
            return ModelTraits(context_tokens=4_000, max_output_tokens=100)

    thought = Reasoning(HERE, "hay " * 800, "EqQB")
    looks = [replace(calling(call("add", {"n": n}, f"c{n}")), usage=Usage(), reasoning=(thought,)) for n in range(8)]
    model = ScriptedModel(*looks, saying("done"))
    events = await run(model, catalogue=Window())
    compactions = [event.data for event in events if event.type is EventType.CONTEXT_COMPACTED]
    assert compactions, "thoughts fill the window, too"
    assert all(each["tokens_after"] < each["tokens_before"] for each in compactions)
    for request in model.requests[1:]:
        turns = carried(request.messages)
        assert turns == [(thought,)] * len(turns)
        assert turns, "the newest exchange stays whole"
        assert "hay" not in request.messages[0].text, "no summary tells of it"
    assert len(carried(model.requests[-1].messages)) < 8


def test_what_is_sent_back_is_counted():
    bare = message_tokens(Message(Role.ASSISTANT, "x"))
    thought = Reasoning("o", "hay " * 400, "s" * 4_000)
    assert message_tokens(Message(Role.ASSISTANT, "x", reasoning=(thought,))) - bare == GENERAL.tokens("hay " * 400)
    sealed = Reasoning("o", "", "s" * 4_000)
    assert message_tokens(Message(Role.ASSISTANT, "x", reasoning=(sealed, sealed))) - bare == 2_000
    told = extract(
        "", [Message(Role.ASSISTANT, "said", (ToolCall("c", "add", "{}"),), reasoning=(thought,))], GENERAL, 99
    )
    assert "hay" not in told


class TestTheGatewaysWords:
    def test_of_an_answer_only_what_is_wanted_back_is_taken(self):
        calls = [pb.ToolCall(id="c1", name="add", arguments_json="{}")]
        thoughts = [
            pb.Reasoning(text="shown", origin="o"),
            pb.Reasoning(text="summary", signature="s", id="rs", origin="o", give_back=pb.GIVE_BACK_WITHOUT_TEXT),
            pb.Reasoning(text="t", signature="u", origin="o", give_back=pb.GIVE_BACK_WHOLE, text_before=2),
        ]
        answer = convert.model_answer_from_proto(pb.GetPlanResponse(tool_calls=calls, reasoning=thoughts))
        assert answer.reasoning == (Reasoning("o", "", "s", "rs"), Reasoning("o", "t", "u", text_before=2))
        assert convert.model_answer_from_proto(pb.GetPlanResponse(text="x", reasoning=thoughts)).reasoning == ()

    def test_of_a_message_all_of_it_is_sent(self):
        message = Message(Role.ASSISTANT, "x", (ToolCall("c1", "add", "{}"),), reasoning=(SIGNED, REDACTED))
        [sent] = convert.model_request_to_proto(ModelRequest((message,), (), "m", "e")).messages
        assert list(sent.reasoning) == [
            pb.Reasoning(text=SIGNED.text, signature="EqQB", origin=HERE),
            pb.Reasoning(signature="sealed", redacted=True, origin=HERE, text_before=3, calls_before=1),
        ]


class TestNobodyIsShownIt:
    SECRETS = ("Grübel", "EqQB", "sealed", HERE)

    async def test_over_http(self, planner):
        planner.model, planner.tools = thinker(), tools()
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            body = {"prompt": "add", "show_thinking": True}
            stream = await client.post("/plan", json=body, headers={"Accept": "text/event-stream"})
            run_id = stream.headers["X-Run-ID"]
            told = [
                stream,
                await client.get(f"/runs/{run_id}/events"),
                await client.get(f"/runs/{run_id}"),
                await client.get(f"/runs/{run_id}/timeline"),
            ]
        assert [answer.status_code for answer in told] == [200] * 4
        for answer in told:
            assert "It is 3." in answer.text or "timeline" in str(answer.url)
            assert not [secret for secret in self.SECRETS if secret in json.dumps(answer.text, ensure_ascii=False)]
        held = json.dumps([event.data for event in await planner.journal.events(run_id)], ensure_ascii=False)
        assert all(secret in held for secret in self.SECRETS), "it was there to be shown"

    async def test_over_grpc(self, planner):
        planner.model, planner.tools = thinker(), tools()
        servicer = AgentServicer(planner.runs, planner.bounds)
        async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
            run_ = agent_pb2_grpc.AgentStub(client.channel).Run
            asked = agent_pb2.RunRequest(run_id="r", prompt="add", show_thinking=True)
            told = str([event async for event in client.stream(run_, asked, timeout_s=10)])
        assert "PLAN_MODEL_RESPONSE" in told
        assert not [secret for secret in self.SECRETS[1:] if secret in told]


async def test_a_model_that_does_not_reason_leaves_no_trace_of_it():
    events = await run(ScriptedModel(calling(call("add", {"n": 1})), saying("1")))
    assert not any("reasoning" in event.data for event in events)
