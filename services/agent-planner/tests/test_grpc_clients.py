"""The clients of gateway, memory and sandbox against real servers, which answer as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import correlation, deadline
from pagi_chassis import errors as chassis_errors
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_planner import Agent, Limits, RunRequest, RunStatus, convert
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.memory_client import QUERY_CHARACTERS, MemoryClient
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.domain.errors import EffectConflictError, UnknownModelError, UnknownPersonaError
from pagi_planner.domain.model import (
    Effects,
    Exchange,
    Message,
    ModelAnswer,
    ModelRequest,
    Role,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Turn,
    Usage,
)

Behaviour = Callable[[Any], Any]
ERRORS = [
    chassis_errors.UnavailableError("u", retry_after_s=7.0),
    chassis_errors.DeadlineExceededError("d"),
    chassis_errors.ResourceExhaustedError("r", retry_after_s=3.0),
    chassis_errors.FailedPreconditionError("f"),
    chassis_errors.PermissionDeniedError("p"),
    chassis_errors.InternalError("i"),
]


class Served:
    """A servicer whose every method is one behaviour; keeps what it was asked and under which ids."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.asked: list[Any] = []
        self.ids: list[correlation.Correlation] = []

    async def answer(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        self.ids.append(correlation.current())
        answer = self.behave(request)
        answer = await answer if asyncio.iscoroutine(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class Gateway(Served, gateway_pb2_grpc.ModelGatewayServicer):
    GetPlan = Served.answer


class Memory(Served, memory_pb2_grpc.MemoryServicer):
    GetContext = Served.answer
    StoreSessionHistory = Served.answer


class Sandbox(Served, sandbox_pb2_grpc.ToolServiceServicer):
    ListTools = Served.answer
    ExecuteTool = Served.answer


@asynccontextmanager
async def gateway(behave: Behaviour):
    served = Gateway(behave)
    register = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
    async with serving(register, served, "pagi.gateway.v1.ModelGateway") as client:
        yield GatewayModel(client, timeout_s=5.0), served


@asynccontextmanager
async def memory(behave: Behaviour):
    served = Memory(behave)
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, served, "pagi.memory.v1.Memory") as client:
        yield MemoryClient(client, top_k=4), served


@asynccontextmanager
async def sandbox(behave: Behaviour, fresh_s: float = 10.0):
    served = Sandbox(behave)
    register = sandbox_pb2_grpc.add_ToolServiceServicer_to_server
    async with serving(register, served, "pagi.sandbox.v1.ToolService") as client:
        yield SandboxTools(client, timeout_s=5.0, fresh_s=fresh_s), served


def asking(**kwargs: Any) -> ModelRequest:
    return ModelRequest(
        **{"messages": (Message(Role.USER, "hi"),), "tools": (), "model": "", "effect_id": "e", **kwargs}
    )


class TestGatewayModel:
    async def test_a_request_arrives_whole_and_an_answer_comes_back_whole(self):
        answer = gateway_pb2.GetPlanResponse(
            text="thinking",
            tool_calls=[gateway_pb2.ToolCall(id="c2", name="add", arguments_json="{")],
            usage=gateway_pb2.Usage(input_tokens=7, output_tokens=3, cost_usd=0.5),
            finish_reason=gateway_pb2.FINISH_REASON_TOOL_CALLS,
            model="m-1",
            provider="p",
            latency_ms=1.5,
        )
        messages = (
            Message(Role.SYSTEM, "be"),
            Message(Role.USER, "do"),
            Message(Role.ASSISTANT, "", (ToolCall("c1", "add", '{"a":1}'),)),
            Message(Role.TOOL, "1", tool_call_id="c1"),
        )
        request = ModelRequest(messages, (ToolSpec("add", "adds", '{"type":"object"}'),), "m", "r/1/model", 0.25)
        async with gateway(lambda _: answer) as (model, served):
            with correlation.bind(trace_id="t", run_id="r"):
                got = await model.answer(request)
        assert got == ModelAnswer(
            "thinking", (ToolCall("c2", "add", "{"),), Usage(7, 3, 0.5), "tool_calls", "m-1", "p", 1.5
        )
        assert (served.ids[0].trace_id, served.ids[0].run_id) == ("t", "r")
        assert json_format.MessageToDict(served.asked[0], preserving_proto_field_name=True) == {
            "messages": [
                {"role": "ROLE_SYSTEM", "text": "be"},
                {"role": "ROLE_USER", "text": "do"},
                {"role": "ROLE_ASSISTANT", "tool_calls": [{"id": "c1", "name": "add", "arguments_json": '{"a":1}'}]},
                {"role": "ROLE_TOOL", "text": "1", "tool_call_id": "c1"},
            ],
            "tools": [{"name": "add", "description": "adds", "parameters_schema_json": '{"type":"object"}'}],
            "model": "m",
            "limits": {"max_cost_usd": 0.25},
            "effect_id": "r/1/model",
        }

    async def test_what_a_newer_gateway_says_is_borne(self):
        async with gateway(lambda _: gateway_pb2.GetPlanResponse(text="x", finish_reason=99)) as (model, _):
            got = await model.answer(asking())
        assert (got.finish_reason, got.usage.cost_usd) == ("other", None)

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    async def test_its_errors_keep_their_type(self, error):
        async with gateway(lambda _: error) as (model, _):
            with pytest.raises(type(error)) as caught, deadline.limit(0.5):
                await model.answer(asking())
        assert getattr(caught.value, "retry_after_s", 0) == getattr(error, "retry_after_s", 0)

    async def test_a_model_that_is_not_there_is_the_callers_fault_only_where_it_was_named(self):
        async with gateway(lambda _: chassis_errors.NotFoundError("no model 'nix'")) as (model, _):
            with pytest.raises(UnknownModelError, match="no model 'nix'") as caught:
                await model.answer(asking(model="nix"))
            assert caught.value.field == "model"
            with pytest.raises(chassis_errors.FailedPreconditionError, match="default model"):
                await model.answer(asking())

    async def test_what_the_provider_refuses_is_told_and_what_we_wrote_wrongly_is_our_fault(self):
        async with gateway(lambda _: chassis_errors.InvalidArgumentError("the conversation is too long")) as (model, _):
            with pytest.raises(chassis_errors.InvalidArgumentError, match="too long"):
                await model.answer(asking())
        wrong = chassis_errors.InvalidArgumentError("answers no call", field="messages[3].tool_call_id")
        async with gateway(lambda _: wrong) as (model, _):
            with pytest.raises(chassis_errors.InternalError, match=r"messages\[3\]"):
                await model.answer(asking())
        known = chassis_errors.InvalidArgumentError("names another request already", field="effect_id")
        async with gateway(lambda _: known) as (model, _):
            with pytest.raises(EffectConflictError, match="another request"):
                await model.answer(asking())

    async def test_a_gateway_that_is_away_is_unavailable_within_its_patience(self):
        client = GrpcClient("127.0.0.1:1", patience_s=0.2)
        async with asyncio.timeout(5):
            with pytest.raises(chassis_errors.UnavailableError):
                await GatewayModel(client, timeout_s=30).answer(asking())
        await client.close()

    async def test_the_end_of_a_run_ends_the_call(self):
        ended = asyncio.Event()

        async def never(_):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with gateway(never) as (model, _), asyncio.timeout(5):
            result = await Agent(model).run(RunRequest("hi", limits=Limits(timeout_s=0.2)))
            await ended.wait()
        assert result.status is RunStatus.LIMIT_TIME


NOW = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)


class TestMemoryClient:
    async def test_a_context_comes_back_whole(self):
        turn = memory_pb2.Turn(role=memory_pb2.TURN_ROLE_TOOL_OUTPUT, text="3")
        turn.created_at.FromDatetime(NOW)
        passage = memory_pb2.Passage(
            id="p",
            text="text",
            score=0.5,
            knowledge_base=memory_pb2.KNOWLEDGE_BASE_BODY,
            source="Body-KB/a.md",
            headings=["A", "B"],
        )
        newer = memory_pb2.Passage(id="q", knowledge_base=99)
        answer = memory_pb2.GetContextResponse(soul="SOUL", turns=[turn], passages=[passage, newer])
        async with memory(lambda _: answer) as (client, served):
            context = await client.recall(RunRequest("what?", "s", persona="dog"))
        assert context.soul == "SOUL"
        assert context.turns == (Turn("tool-output", "3", NOW),)
        first, second = context.passages
        assert (first.knowledge_base, first.source, first.headings, first.score) == (
            "Body-KB",
            "Body-KB/a.md",
            ("A", "B"),
            0.5,
        )
        assert (second.id, second.knowledge_base) == ("q", "")
        assert served.asked == [memory_pb2.GetContextRequest(session_id="s", query="what?", persona="dog", top_k=4)]

    async def test_a_long_prompt_is_asked_with_as_much_of_it_as_memory_takes(self):
        async with memory(lambda _: memory_pb2.GetContextResponse()) as (client, served):
            await client.recall(RunRequest("ä" * 100_000, "s"))
        assert served.asked[0].query == "ä" * QUERY_CHARACTERS

    async def test_an_exchange_is_stored_whole(self):
        roles = ("user", "tool-plan", "tool-output", "assistant")
        turns = tuple(Turn(role, f"text {role}", NOW) for role in roles)
        async with memory(lambda _: memory_pb2.StoreSessionHistoryResponse(stored=4)) as (client, served):
            await client.remember(Exchange("s", "r", "dog", turns))
        [asked] = served.asked
        assert (asked.session_id, asked.run_id, asked.persona) == ("s", "r", "dog")
        assert [memory_pb2.TurnRole.Name(turn.role) for turn in asked.turns] == [
            "TURN_ROLE_USER",
            "TURN_ROLE_TOOL_PLAN",
            "TURN_ROLE_TOOL_OUTPUT",
            "TURN_ROLE_ASSISTANT",
        ]
        assert {turn.created_at.ToDatetime(tzinfo=UTC) for turn in asked.turns} == {NOW}

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    async def test_its_errors_keep_their_type(self, error):
        async with memory(lambda _: error) as (client, _):
            for call in (client.recall(RunRequest("x", "s")), client.remember(Exchange("s", "r", "", ()))):
                with pytest.raises(type(error)), deadline.limit(0.5):
                    await call

    async def test_a_persona_that_is_not_there_is_named(self):
        async with memory(lambda _: chassis_errors.NotFoundError("no persona 'nix'")) as (client, _):
            with pytest.raises(UnknownPersonaError, match="nix") as caught:
                await client.recall(RunRequest("x", "s", persona="nix"))
        assert caught.value.field == "persona"

    @pytest.mark.parametrize(("field", "known"), [("query", "prompt"), ("session_id", "session_id"), ("", "")])
    async def test_a_field_that_it_refuses_has_the_callers_name(self, field, known):
        async with memory(lambda _: chassis_errors.InvalidArgumentError("no", field=field)) as (client, _):
            with pytest.raises(chassis_errors.InvalidArgumentError) as caught:
                await client.recall(RunRequest("x", "s"))
        assert caught.value.field == known


TOOL = sandbox_pb2.Tool(
    name="add", description="adds", parameters_schema_json="{}", effects=sandbox_pb2.EFFECTS_IDEMPOTENT
)


def listing(*tools: sandbox_pb2.Tool) -> sandbox_pb2.ListToolsResponse:
    return sandbox_pb2.ListToolsResponse(tools=tools)


async def execute(tools: SandboxTools, **kwargs: Any) -> ToolOutcome:
    call = ToolCall("c", "add", kwargs.pop("arguments", '{"a":1}'))
    return await tools.execute(call, **{"session_id": "s", "effect_id": "r/1/0", **kwargs})


class TestSandboxTools:
    async def test_tools_come_with_their_schema_and_effects_the_worst_where_unknown(self):
        other = sandbox_pb2.Tool(name="new", effects=99)
        async with sandbox(lambda _: listing(TOOL, other)) as (tools, _):
            specs = await tools.specs()
        assert specs == (ToolSpec("add", "adds", "{}", Effects.IDEMPOTENT), ToolSpec("new", "", "", Effects.EFFECTFUL))

    async def test_the_list_is_asked_for_once_while_it_is_fresh(self):
        async with sandbox(lambda _: listing(TOOL)) as (tools, served):
            for _ in range(3):
                await tools.specs()
        assert len(served.asked) == 1

    async def test_an_old_list_is_given_at_once_and_refreshed_behind_the_answer(self):
        newer = sandbox_pb2.Tool(name="sub")
        answers = [listing(TOOL), listing(TOOL, newer)]
        async with sandbox(lambda _: answers[min(len(served.asked), 2) - 1], fresh_s=0) as (tools, served):
            assert len(await tools.specs()) == 1
            assert len(await tools.specs()) == 1
            async with asyncio.timeout(5):
                while len(await tools.specs()) == 1:
                    await asyncio.sleep(0.001)

    async def test_while_the_sandbox_is_away_the_tools_that_are_known_stay(self, caplog):
        caplog.set_level("INFO")
        away = False
        async with sandbox(
            lambda _: chassis_errors.FailedPreconditionError("stopping") if away else listing(TOOL), fresh_s=0
        ) as (tools, served):
            before = await tools.specs()
            away = True
            await tools.specs()
            async with asyncio.timeout(5):
                while "is not refreshed: stopping" not in caplog.text:
                    await asyncio.sleep(0.001)
            assert await tools.specs() == before
            assert len(served.asked) >= 2

    async def test_an_unknown_list_of_a_sandbox_that_is_away_is_an_error(self):
        client = GrpcClient("127.0.0.1:1", patience_s=0.1)
        with pytest.raises(chassis_errors.UnavailableError):
            await SandboxTools(client, timeout_s=5).specs()
        await client.close()

    async def test_a_call_arrives_whole_and_an_outcome_comes_back_whole(self):
        answer = sandbox_pb2.ExecuteToolResponse(
            verdict=sandbox_pb2.VERDICT_OK,
            output_json='{"sum": 3}',
            stdout="out",
            stderr="err",
            duration_ms=1.5,
            truncated=True,
        )
        async with sandbox(lambda _: answer) as (tools, served):
            outcome = await execute(tools)
            await execute(tools, arguments="")
        assert outcome == ToolOutcome("ok", {"sum": 3}, "out", "err", "", 1.5, truncated=True)
        asked, empty = served.asked
        assert (asked.tool, asked.arguments_json, asked.session_id, asked.effect_id) == ("add", '{"a":1}', "s", "r/1/0")
        assert empty.arguments_json == "{}"

    @pytest.mark.parametrize(
        ("verdict", "name"),
        [
            (sandbox_pb2.VERDICT_FAILED, "failed"),
            (sandbox_pb2.VERDICT_TIMEOUT, "timeout"),
            (sandbox_pb2.VERDICT_MEMORY, "memory"),
            (sandbox_pb2.VERDICT_OUTPUT, "output"),
            (sandbox_pb2.VERDICT_CRASH, "crash"),
            (sandbox_pb2.VERDICT_DISK, "disk"),
            (sandbox_pb2.VERDICT_PROCESSES, "processes"),
            (sandbox_pb2.VERDICT_DENIED, "denied"),
            (sandbox_pb2.VERDICT_OUTCOME_UNKNOWN, "unknown"),
            (sandbox_pb2.VERDICT_UNSPECIFIED, "crash"),
            (99, "crash"),
        ],
    )
    async def test_a_tool_that_failed_is_an_outcome_with_a_reason(self, verdict, name):
        async with sandbox(lambda _: sandbox_pb2.ExecuteToolResponse(verdict=verdict)) as (tools, _):
            outcome = await execute(tools)
        assert (outcome.verdict, outcome.error) == (name, f"the tool ended with {name}")
        async with sandbox(lambda _: sandbox_pb2.ExecuteToolResponse(verdict=verdict, error="why")) as (tools, _):
            assert (await execute(tools)).error == "why"

    @pytest.mark.parametrize("output", ["{", "nonsense", '{"a": NaN}', '{"a":' * 200 + "1" + "}" * 200])
    async def test_an_answer_that_cannot_be_read_is_the_tools_fault(self, output):
        answer = sandbox_pb2.ExecuteToolResponse(verdict=sandbox_pb2.VERDICT_OK, output_json=output, stdout="printed")
        async with sandbox(lambda _: answer) as (tools, _):
            outcome = await execute(tools)
        assert (outcome.verdict, outcome.output, outcome.stdout) == ("failed", None, "printed")
        assert "cannot be read" in outcome.error

    @pytest.mark.parametrize(
        "error", [*ERRORS, chassis_errors.NotFoundError("n")], ids=lambda error: type(error).__name__
    )
    async def test_its_errors_keep_their_type(self, error):
        async with sandbox(lambda _: error) as (tools, _):
            with pytest.raises(type(error)), deadline.limit(0.5):
                await execute(tools)

    async def test_arguments_that_do_not_fit_are_told_with_the_place(self):
        wrong = chassis_errors.InvalidArgumentError("a is no number", field="arguments_json.a")
        async with sandbox(lambda _: wrong) as (tools, _):
            with pytest.raises(chassis_errors.InvalidArgumentError, match="a is no number"):
                await execute(tools)

    async def test_a_call_is_repeated_under_its_effect_id_while_the_sandbox_is_away(self):
        def once_away(_):
            answer = sandbox_pb2.ExecuteToolResponse(verdict=sandbox_pb2.VERDICT_OK, output_json="{}")
            return (
                chassis_errors.UnavailableError("restarting", retry_after_s=0.01) if len(served.asked) == 1 else answer
            )

        async with sandbox(once_away) as (tools, served):
            assert (await execute(tools)).verdict == "ok"
        assert [asked.effect_id for asked in served.asked] == ["r/1/0", "r/1/0"]


@pytest.mark.parametrize(
    ("enum", "table"),
    [
        (sandbox_pb2.Verdict, convert._VERDICTS),
        (gateway_pb2.FinishReason, convert._FINISH_REASONS),
        (memory_pb2.TurnRole, convert._TURN_ROLE_NAMES),
        (memory_pb2.KnowledgeBase, convert._KNOWLEDGE_BASES),
    ],
    ids=["verdicts", "finish reasons", "turn roles", "knowledge bases"],
)
def test_every_value_of_the_contract_has_a_name_here(enum, table):
    missing = {name for name, number in enum.items() if number not in table}
    assert {name for name in missing if not name.endswith(("_UNSPECIFIED", "_OTHER"))} == set()


TEXT = st.text(st.characters(exclude_categories=("Cs",)))
CALLS = st.builds(ToolCall, TEXT, TEXT, TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(
    TEXT,
    st.lists(CALLS, max_size=3),
    st.builds(Usage, st.integers(0, 2**60), st.integers(0, 2**60), st.none() | st.floats(0, 1e6)),
    st.sampled_from(["stop", "tool_calls", "length", "content_filter"]),
)
def test_every_answer_of_a_model_survives_the_wire(text, calls, usage, finish_reason):
    wire = gateway_pb2.GetPlanResponse(
        text=text,
        tool_calls=[
            gateway_pb2.ToolCall(id=each.id, name=each.name, arguments_json=each.arguments_json) for each in calls
        ],
        usage=gateway_pb2.Usage(
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_usd=usage.cost_usd
        ),
        finish_reason=gateway_pb2.FinishReason.Value(f"FINISH_REASON_{finish_reason.upper()}"),
    )
    got = convert.model_answer_from_proto(gateway_pb2.GetPlanResponse.FromString(wire.SerializeToString()))
    assert got == ModelAnswer(text, tuple(calls), usage, finish_reason)


@given(JSON, TEXT, TEXT)
def test_every_output_of_a_tool_survives_the_wire(output, stdout, error):
    wire = sandbox_pb2.ExecuteToolResponse(
        verdict=sandbox_pb2.VERDICT_OK, output_json=json.dumps(output), stdout=stdout, error=error
    )
    got = convert.tool_outcome_from_proto(sandbox_pb2.ExecuteToolResponse.FromString(wire.SerializeToString()))
    assert (got.output, got.stdout, got.error) == (output, stdout, error)


@given(
    st.lists(
        st.builds(
            Turn,
            st.sampled_from(["user", "assistant", "tool-plan", "tool-output"]),
            TEXT,
            st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
        ),
        max_size=5,
    )
)
def test_every_turn_survives_the_way_to_memory_and_back(turns):
    stored = convert.exchange_to_proto(Exchange("s", "r", "", tuple(turns)))
    back = convert.context_from_proto(memory_pb2.GetContextResponse(turns=stored.turns))
    assert list(back.turns) == turns
    assert all(timedelta(0) == turn.created_at.utcoffset() for turn in back.turns)
