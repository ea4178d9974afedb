"""What the gateway and memory clients carry beyond one answer: what models can do, structured answers, many runs."""

from __future__ import annotations

import asyncio
import base64

import pytest
from pagi.gateway.v1 import gateway_pb2 as gw
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner import convert
from pagi_planner.adapters.gateway_catalogue import GatewayCatalogue
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.memory_client import MemoryClient
from pagi_planner.domain.errors import ContextTooLongError
from pagi_planner.domain.model import Image, Message, ModelRequest, ModelTraits, Role
from pagi_planner.domain.state.lesson import Account, Lesson, LessonStep, Trial

MODELS = gw.ListModelsResponse(
    models=[
        gw.ModelInfo(
            name="big",
            is_default=True,
            capabilities=gw.Capabilities(images=gw.SUPPORT_YES, context_tokens=200_000, max_output_tokens=8_000),
        ),
        gw.ModelInfo(
            name="judge",
            targets=[
                gw.TargetState(capabilities=gw.Capabilities(images=gw.SUPPORT_YES, context_tokens=100_000)),
                gw.TargetState(capabilities=gw.Capabilities(images=gw.SUPPORT_NO, context_tokens=8_000)),
            ],
        ),
        gw.ModelInfo(name="unknown"),
    ]
)


class Gateway(gateway_pb2_grpc.ModelGatewayServicer):
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    async def ListModels(self, request, context):
        self.asked += 1
        if self.error:
            raise self.error
        return MODELS

    async def GetPlan(self, request, context):
        assert self.error is not None
        raise self.error


def serving_gateway(gateway):
    return serving(gateway_pb2_grpc.add_ModelGatewayServicer_to_server, gateway, "pagi.gateway.v1.ModelGateway")


async def test_what_models_can_do_is_asked_once_and_of_an_alias_it_is_what_all_can():
    gateway = Gateway()
    async with serving_gateway(gateway) as client:
        catalogue = GatewayCatalogue(client)
        names = ["big", "", "judge", "unknown", "nobody"]
        known = dict(zip(names, await asyncio.gather(*map(catalogue.traits, names)), strict=True))
    assert known["big"] == known[""] == ModelTraits(200_000, 8_000, sees=True)
    assert known["judge"] == ModelTraits(8_000, 0, sees=False)
    assert known["unknown"] == known["nobody"] == ModelTraits()
    assert gateway.asked == 1


async def test_a_gateway_that_does_not_say_leaves_it_open():
    gateway = Gateway()
    gateway.error = UnavailableError("starting")
    async with serving_gateway(gateway) as client:
        catalogue = GatewayCatalogue(client, fresh_s=0)
        assert await catalogue.traits("big") == ModelTraits()
        gateway.error = None
        assert (await catalogue.traits("big")).sees is True


@pytest.mark.parametrize(
    ("said", "is_too_long"),
    [
        ("OpenAI refused the request (400): This model's maximum context length is 8192 tokens.", True),
        ("Anthropic refused the request (400): prompt is too long: 208310 tokens > 200000 maximum", True),
        ("Ollama refused the request (400): the input exceeds the available context size", True),
        ("Bedrock refused the request (400): Input is too long for requested model.", True),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", True),
        ("Please reduce the length of the messages or completion.", True),
        ("OpenAI refused the request (400): tool name is too long", False),
        ("refused the request (400): temperature must be at most 2", False),
    ],
)
async def test_a_conversation_that_is_too_long_is_told_from_other_refusals(said, is_too_long):
    gateway = Gateway()
    gateway.error = InvalidArgumentError(said)
    async with serving_gateway(gateway) as client:
        with pytest.raises(InvalidArgumentError) as caught:
            await GatewayModel(client, timeout_s=5).answer(ModelRequest((), (), "", "r/1/model"))
    assert isinstance(caught.value, ContextTooLongError) is is_too_long


def test_images_schema_and_bounds_reach_the_gateway():
    image = Image(base64.b64encode(b"png").decode(), "image/png", "a.png")
    message = Message(Role.USER, "look", images=(image,))
    asked = convert.model_request_to_proto(
        ModelRequest(
            (message,), (), "m", "r/judge/1", 0.5, max_output_tokens=7, answer_schema_json='{"type": "object"}'
        )
    )
    [part] = asked.messages[0].parts
    assert (part.image.data, part.image.media_type, part.image.name) == (b"png", "image/png", "a.png")
    assert asked.response_format.schema_json == '{"type": "object"}'
    assert (asked.limits.max_output_tokens, asked.on_unsupported) == (7, gw.ON_UNSUPPORTED_LEAVE_OUT)
    plain = convert.model_request_to_proto(ModelRequest((), (), "m", "r/1/model"))
    assert not plain.HasField("response_format")


class Memory(memory_pb2_grpc.MemoryServicer):
    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def RecordRuns(self, request, context):
        self.sizes.append(len(request.runs))
        return memory_pb2.RecordRunsResponse(
            results=[
                memory_pb2.RunRecordResult(code=3, message="it has no prompt")
                if run.HasField("playbook") and not run.playbook.prompt
                else memory_pb2.RunRecordResult()
                for run in request.runs
            ]
        )


async def test_many_runs_are_told_with_few_calls_and_each_refusal_is_its_own():
    lesson = Lesson("r", "", "", (LessonStep("add", "{}", "3"),), {}, None, 1.0)
    accounts = [Account(f"r{n}", trial=Trial(f"r{n}", ("p",), succeeded=True)) for n in range(501)]
    served = Memory()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, served, "pagi.memory.v1.Memory") as client:
        refusals = await MemoryClient(client, top_k=1).record([*accounts, Account("r", lesson)])
    assert served.sizes == [500, 2]
    assert refusals == [""] * 501 + ["it has no prompt"]


async def test_runs_that_no_message_holds_together_are_told_apart():
    lessons = [
        Lesson(f"r{n}", "", "long " * size, (), {}, None, 1.0) for n, size in enumerate([20_000] * 200 + [2_000_000])
    ]
    served = Memory()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, served, "pagi.memory.v1.Memory") as client:
        refusals = await MemoryClient(client, top_k=1).record([Account(each.run_id, each) for each in lessons])
    assert sum(served.sizes) == 200
    assert refusals == [""] * 200 + ["what there is to tell of it has more than 8,000,000 bytes"]
