"""The gateway heard word by word, against a real server that speaks as the test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis import deadline
from pagi_chassis import errors as chassis_errors
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.testing import serving
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.model import Message, ModelAnswer, ModelRequest, Role


def piece(text: str) -> pb.StreamPlanResponse:
    return pb.StreamPlanResponse(text_delta=text)


def whole(text: str) -> pb.StreamPlanResponse:
    return pb.StreamPlanResponse(response=pb.GetPlanResponse(text=text, model="m"))


class SpeakingGateway(gateway_pb2_grpc.ModelGatewayServicer):
    """Plays one script for each call; an error in it is raised, an event is waited for."""

    def __init__(self, *scripts) -> None:
        self.scripts = list(scripts)
        self.asked: list[pb.GetPlanRequest] = []
        self.left = asyncio.Event()

    async def GetPlan(self, request, context):
        self.asked.append(request)
        return self.scripts.pop(0)[-1].response

    async def StreamPlan(self, request, context):
        self.asked.append(request.plan)
        try:
            for line in self.scripts.pop(0):
                if isinstance(line, Exception):
                    raise line
                if isinstance(line, asyncio.Event):
                    await line.wait()
                else:
                    yield line
        finally:
            self.left.set()


class Heard:
    """What came, with a bar where the model began again."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def add(self, text: str) -> None:
        self.pieces.append(text)

    def think(self, text: str) -> None:
        self.pieces.append(f"({text})")

    def begin_again(self) -> None:
        self.pieces.append("|")


@asynccontextmanager
async def gateway(*scripts, patience_s: float = 1.0):
    served = SpeakingGateway(*scripts)
    register = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
    async with serving(register, served, "pagi.gateway.v1.ModelGateway") as client:
        yield GatewayModel(client, timeout_s=5.0, patience_s=patience_s), served


def asking(model: str = "") -> ModelRequest:
    return ModelRequest((Message(Role.USER, "hi"),), (), model, "r/1/model")


async def test_the_words_come_one_by_one_and_the_answer_whole():
    script = [pb.StreamPlanResponse(reasoning_delta="hm"), piece("Hel"), piece("lo"), whole("Hello")]
    async with gateway(script) as (model, served):
        answer = await model.stream(asking(), heard := Heard())
    assert (answer.text, answer.model, heard.pieces) == ("Hello", "m", ["(hm)", "Hel", "lo"])
    assert served.asked[0].effect_id == "r/1/model"


async def test_a_stream_that_breaks_is_asked_for_again_under_the_same_effect_id():
    away = chassis_errors.UnavailableError("the provider broke off")
    scripts = ([piece("Hel"), pb.StreamPlanResponse(broken=pb.BrokenAnswer(outcome="x")), away], [away], [whole("Hi")])
    async with gateway(*scripts) as (model, served):
        answer = await model.stream(asking(), heard := Heard())
    assert (answer.text, heard.pieces) == ("Hi", ["Hel", "|", "|"])
    assert {request.effect_id for request in served.asked} == {"r/1/model"}


async def test_a_model_that_thinks_is_there():
    """Patience begins anew with each thought."""
    away, thought = chassis_errors.UnavailableError("away"), pb.StreamPlanResponse(reasoning_delta="hm")
    async with gateway(*[[thought, away]] * 4, [whole("Hi")], patience_s=0.09) as (model, served):
        answer = await model.stream(asking(), heard := Heard())
    assert (answer.text, len(served.asked), heard.pieces) == ("Hi", 5, ["(hm)", "|"] * 4)


@pytest.mark.parametrize(
    "error",
    [
        chassis_errors.UnavailableError("u", retry_after_s=7.0),
        chassis_errors.DeadlineExceededError("d"),
        chassis_errors.ResourceExhaustedError("r", retry_after_s=3.0),
        chassis_errors.FailedPreconditionError("f"),
        chassis_errors.InternalError("i"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_other_errors_keep_their_type(error):
    async with gateway([piece("Hel"), error]) as (model, _):
        with pytest.raises(type(error)) as caught, deadline.limit(2):
            await model.stream(asking(), Heard())
    assert getattr(caught.value, "retry_after_s", 0) == getattr(error, "retry_after_s", 0)


async def test_a_model_that_is_not_there_is_named():
    async with gateway([chassis_errors.NotFoundError("no model 'nix'")]) as (model, _):
        with pytest.raises(UnknownModelError):
            await model.stream(asking("nix"), Heard())


async def test_a_stream_without_an_answer_is_a_fault():
    async with gateway([piece("Hel")]) as (model, _):
        with pytest.raises(chassis_errors.InternalError, match="without an answer"):
            await model.stream(asking(), Heard())


async def test_a_gateway_that_is_away_is_unavailable_within_its_patience():
    client = GrpcClient("127.0.0.1:1", patience_s=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(chassis_errors.UnavailableError):
            await GatewayModel(client, timeout_s=30, patience_s=0.2).stream(asking(), Heard())
    await client.close()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_who_would_lose_its_work_waits_longer_for_a_gateway_that_is_away(is_streamed: bool):
    @asynccontextmanager
    async def served(port: int):
        server = GrpcServer("127.0.0.1", port)
        register = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
        server.add(register, SpeakingGateway([whole("Hi")]), "pagi.gateway.v1.ModelGateway")
        await server.start()
        try:
            yield server.port
        finally:
            await server.stop()

    async with served(0) as port:
        client = GrpcClient(f"127.0.0.1:{port}", patience_s=0.1)
    model = GatewayModel(client, timeout_s=30, patience_s=0.1, long_patience_s=20)

    async def answer(request: ModelRequest) -> ModelAnswer:
        return await (model.stream(request, Heard()) if is_streamed else model.answer(request))

    async with asyncio.timeout(20):
        patient = asyncio.create_task(answer(replace(asking(), is_patient=True)))
        with pytest.raises(chassis_errors.UnavailableError):
            await answer(asking())
        assert not patient.done()
        async with served(port):
            assert (await patient).text == "Hi"
    await client.close()


async def test_who_is_cancelled_ends_the_call_and_asks_no_more():
    async with gateway([piece("Hel"), asyncio.Event()], [whole("never")]) as (model, served):
        heard = Heard()
        asking_now = asyncio.create_task(model.stream(asking(), heard))
        while not heard.pieces:
            await asyncio.sleep(0.001)
        asking_now.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking_now
        async with asyncio.timeout(2):
            await served.left.wait()
        assert len(served.asked) == 1
