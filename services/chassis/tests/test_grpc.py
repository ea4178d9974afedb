"""A real server and a real client of the chassis, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import correlation, deadline, errors, telemetry
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.lifecycle import StartError
from pagi_chassis.statuses import STATUSES
from pagi_chassis.testing import serving

SERVICE = "pagi.sandbox.v1.ToolService"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
Behaviour = Callable[[sandbox_pb2.ExecuteToolRequest], Any]


class Tools(sandbox_pb2_grpc.ToolServiceServicer):
    """Answers as the test says."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.calls = 0

    async def ExecuteTool(self, request, context):
        self.calls += 1
        result = self.behave(request)
        return await result if asyncio.iscoroutine(result) else result

    async def ListTools(self, request, context):
        return sandbox_pb2.ListToolsResponse()


class Streams(gateway_pb2_grpc.ModelGatewayServicer):
    def __init__(self, deltas: Callable[[], AsyncIterator[str]]) -> None:
        self.deltas = deltas

    async def StreamPlan(self, request, context):
        async for text in self.deltas():
            yield gateway_pb2.StreamPlanResponse(text_delta=text)

    async def GetPlan(self, request, context):
        raise NotImplementedError

    async def ListModels(self, request, context):
        raise NotImplementedError


def tools_served(behave: Behaviour):
    return serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, Tools(behave), SERVICE)


async def execute(client: GrpcClient, **kwargs: Any) -> sandbox_pb2.ExecuteToolResponse:
    stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
    return await client.call(stub.ExecuteTool, sandbox_pb2.ExecuteToolRequest(tool="t"), **{"timeout_s": 5.0, **kwargs})


def raising(error: Exception) -> Behaviour:
    def behave(_: sandbox_pb2.ExecuteToolRequest) -> None:
        raise error

    return behave


@pytest.mark.parametrize("row", STATUSES, ids=lambda row: row.error.__name__)
async def test_each_error_type_arrives_as_itself(row):
    async with tools_served(raising(row.error("the reason"))) as client:
        with pytest.raises(row.error) as caught:
            await execute(client)
    assert type(caught.value) is row.error
    if row.error is not errors.DeadlineExceededError:
        assert "the reason" in caught.value.message


def test_every_error_type_has_a_row():
    def leaves(kind: type[errors.PagiError]) -> set[type[errors.PagiError]]:
        children = [c for c in kind.__subclasses__() if c.__module__ == errors.__name__]
        return set().union(*(leaves(c) for c in children)) if children else {kind}

    assert leaves(errors.PagiError) == {row.error for row in STATUSES}
    assert len({row.grpc for row in STATUSES}) == len({row.http for row in STATUSES}) == len(STATUSES)


async def test_the_field_and_the_pause_travel():
    async with tools_served(raising(errors.InvalidArgumentError("no", field="limits.timeout_ms"))) as client:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await execute(client)
    assert caught.value.field == "limits.timeout_ms"
    async with tools_served(raising(errors.ResourceExhaustedError("full", retry_after_s=2.5))) as client:
        with pytest.raises(errors.ResourceExhaustedError) as busy:
            await execute(client)
    assert busy.value.retry_after_s == 2.5


async def test_the_unexpected_is_logged_and_its_detail_withheld(caplog):
    async with tools_served(raising(KeyError("password=hunter2"))) as client:
        with correlation.bind(trace_id="abc"), pytest.raises(errors.InternalError) as caught:
            await execute(client)
    assert caught.value.message == "internal error (trace id abc)"
    assert "hunter2" in caplog.text


async def test_ids_arrive_even_where_they_are_not_ascii():
    seen = []

    def behave(_):
        seen.append(correlation.current())
        return sandbox_pb2.ExecuteToolResponse()

    async with tools_served(behave) as client:
        with correlation.bind(trace_id="t-1", run_id="r", session_id="größe 100%", tenant="acme"):
            await execute(client)
        await execute(client)
    assert seen == [correlation.Correlation("t-1", "r", "größe 100%", "acme"), correlation.Correlation()]


async def test_the_deadline_reaches_the_handler_and_shortens_onward_calls():
    seen = []

    def behave(_):
        seen.append((deadline.remaining_s(), deadline.within(60)))
        return sandbox_pb2.ExecuteToolResponse()

    async with tools_served(behave) as client:
        await execute(client, timeout_s=3.0)
    left, onward = seen[0]
    # On the wire a deadline is rounded up to three digits.
    assert 2.0 < left <= 3.1
    assert onward <= 3.1


async def test_a_hanging_peer_ends_at_the_deadline_and_its_work_is_cancelled():
    cancelled = asyncio.Event()

    async def hang(_):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with tools_served(hang) as client:
        with pytest.raises(errors.DeadlineExceededError):
            await execute(client, timeout_s=0.2)
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_an_absent_peer_is_unavailable_at_once_unless_the_call_may_be_repeated():
    server = GrpcServer("127.0.0.1", 0)
    await server.start()
    port = server.port
    await server.stop()
    client = GrpcClient(f"127.0.0.1:{port}")
    with pytest.raises(errors.UnavailableError) as caught:
        await execute(client)
    assert f"127.0.0.1:{port} cannot be reached" in caught.value.message

    async def appear() -> GrpcServer:
        late = GrpcServer("127.0.0.1", port)
        late.add(
            sandbox_pb2_grpc.add_ToolServiceServicer_to_server,
            Tools(lambda _: sandbox_pb2.ExecuteToolResponse(stdout="late")),
            SERVICE,
        )
        await late.start()
        return late

    waiting = asyncio.create_task(execute(client, repeatable=True))
    late = await appear()
    assert (await waiting).stdout == "late"
    await client.close()
    await late.stop()


async def test_a_call_that_may_not_be_repeated_waits_for_a_peer_that_is_known_to_be_away():
    server = GrpcServer("127.0.0.1", 0)
    await server.start()
    port = server.port
    await server.stop()
    client = GrpcClient(f"127.0.0.1:{port}")
    with pytest.raises(errors.UnavailableError):
        await execute(client)
    waiting = asyncio.create_task(execute(client))
    tools = Tools(lambda _: sandbox_pb2.ExecuteToolResponse(stdout="once"))
    late = GrpcServer("127.0.0.1", port)
    late.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, tools, SERVICE)
    await late.start()
    assert (await waiting).stdout == "once"
    assert tools.calls == 1
    await client.close()
    await late.stop()


async def test_a_call_that_began_is_not_repeated_unless_it_may_be():
    tools = Tools(raising(errors.UnavailableError("not now")))
    async with serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, tools, SERVICE) as client:
        with pytest.raises(errors.UnavailableError):
            await execute(client)
    assert tools.calls == 1


async def test_a_repeat_waits_as_long_as_the_peer_asks():
    tools = Tools(raising(errors.UnavailableError("loading", retry_after_s=60)))
    async with serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, tools, SERVICE) as client:
        with pytest.raises(errors.UnavailableError, match="loading"):
            await execute(client, repeatable=True)
    assert tools.calls == 1


async def test_a_message_that_quotes_what_was_sent_arrives_as_its_own_error():
    async with tools_served(raising(errors.InvalidArgumentError("ä" * 1_000_000, field="tool"))) as client:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await execute(client)
    assert caught.value.field == "tool"


async def test_more_calls_than_allowed_at_once_are_refused():
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_):
        begun.set()
        await go.wait()
        return sandbox_pb2.ExecuteToolResponse()

    server = GrpcServer("127.0.0.1", 0, max_concurrent=1)
    server.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, Tools(slow), SERVICE)
    await server.start()
    client = GrpcClient(f"127.0.0.1:{server.port}")
    first = asyncio.create_task(execute(client))
    await begun.wait()
    with pytest.raises(errors.ResourceExhaustedError):
        await execute(client)
    go.set()
    await first
    await client.close()
    await server.stop()


async def test_an_ipv6_address_is_served():
    server = GrpcServer("::1", 0)
    await server.start()
    client = GrpcClient(f"[::1]:{server.port}")
    await client.check_health()
    await client.close()
    await server.stop()


async def test_a_second_server_on_the_port_fails_loudly():
    first = GrpcServer("127.0.0.1", 0)
    await first.start()
    second = GrpcServer("127.0.0.1", first.port, port_variable="SANDBOX_GRPC_PORT")
    with pytest.raises(StartError, match="SANDBOX_GRPC_PORT"):
        await second.start()
    await first.stop()


async def test_stop_lets_a_call_in_flight_finish():
    begun = asyncio.Event()
    go = asyncio.Event()

    async def slow(_):
        begun.set()
        await go.wait()
        return sandbox_pb2.ExecuteToolResponse(stdout="finished")

    server = GrpcServer("127.0.0.1", 0)
    server.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, Tools(slow), SERVICE)
    await server.start()
    client = GrpcClient(f"127.0.0.1:{server.port}")
    call = asyncio.create_task(execute(client))
    await begun.wait()
    stopping = asyncio.create_task(server.stop())
    go.set()
    assert (await call).stdout == "finished"
    await stopping
    await client.close()


async def test_a_stream_carries_its_messages_then_its_error():
    async def deltas():
        yield "a"
        yield "b"
        raise errors.ResourceExhaustedError("enough", retry_after_s=7)

    got = []
    async with serving(
        gateway_pb2_grpc.add_ModelGatewayServicer_to_server, Streams(deltas), "pagi.gateway.v1.ModelGateway"
    ) as client:
        stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)

        async def read() -> None:
            async for message in client.stream(stub.StreamPlan, gateway_pb2.StreamPlanRequest(), timeout_s=5):
                got.append(message.text_delta)

        with pytest.raises(errors.ResourceExhaustedError) as caught:
            await read()
    assert got == ["a", "b"]
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("pause_s", [None, 0.01], ids=["while sending", "between messages"])
async def test_leaving_a_stream_ends_the_handler_without_a_fault(pause_s, caplog):
    ended = asyncio.Event()
    sent = 0

    async def deltas():
        nonlocal sent
        with correlation.bind(run_id="inner"), deadline.limit(60), telemetry.attach({"traceparent": TRACEPARENT}):
            try:
                while True:
                    yield "more" if pause_s else "x" * 100_000
                    sent += 1
                    if pause_s:
                        await asyncio.sleep(pause_s)
            finally:
                # This may run in another context than it began in.
                asyncio.get_running_loop().call_soon(ended.set)

    async with serving(
        gateway_pb2_grpc.add_ModelGatewayServicer_to_server, Streams(deltas), "pagi.gateway.v1.ModelGateway"
    ) as client:
        stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
        stream = client.stream(stub.StreamPlan, gateway_pb2.StreamPlanRequest(), timeout_s=5)
        await anext(stream)
        before = -1
        while not pause_s and before < sent:
            # Until the window is full and the server waits in the middle of a message.
            before = sent
            await asyncio.sleep(0.05)
        await stream.aclose()
        async with asyncio.timeout(5):
            await ended.wait()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_gives_their_descriptors(version):
    from grpc_reflection.v1alpha import reflection_pb2 as pb

    async with tools_served(lambda _: None) as client:
        method = client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        requests = [
            pb.ServerReflectionRequest(list_services=""),
            pb.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        answers = [answer async for answer in method(iter(requests), timeout=5)]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_health_is_served_and_watched_to_the_end():
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = GrpcServer("127.0.0.1", 0)
    server.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, Tools(lambda _: None), SERVICE)
    await server.start()
    client = GrpcClient(f"127.0.0.1:{server.port}")
    await client.check_health()
    watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    stopping = asyncio.create_task(server.stop())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await stopping
    with pytest.raises(errors.UnavailableError):
        await client.check_health()
    await client.close()
