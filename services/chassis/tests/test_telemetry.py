"""Spans and trace context, with a real OTLP receiver."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import correlation, errors, telemetry
from pagi_chassis.testing import serving

CHOSEN = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{CHOSEN}-b7ad6b7169203331-01"


class Received:
    """The spans that arrived."""

    def __init__(self) -> None:
        self.requests = []
        self.endpoint = ""

    def take(self, request) -> None:
        self.requests.append(trace_service_pb2.ExportTraceServiceRequest.FromString(request))

    def spans(self) -> dict[str, object]:
        """By name, after everything was sent."""
        telemetry.shut_down()
        scopes = [scope for request in self.requests for part in request.resource_spans for scope in part.scope_spans]
        return {span.name: span for scope in scopes for span in scope.spans}

    def services(self) -> set[str]:
        parts = [part for request in self.requests for part in request.resource_spans]
        return {attributes(part.resource)["service.name"] for part in parts}


def attributes(holder) -> dict[str, str]:
    return {item.key: item.value.string_value for item in holder.attributes}


@pytest.fixture(autouse=True)
def _off_again():
    yield
    telemetry.shut_down()


@pytest.fixture
def grpc_receiver():
    received = Received()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):
            received.take(request.SerializeToString())
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
        received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield received
        telemetry.shut_down()
        server.stop(None).wait()


@pytest.fixture
def http_receiver():
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        received.endpoint = f"http://127.0.0.1:{server.server_port}/"
        yield received
        telemetry.shut_down()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("protocol", "receiver"), [("grpc", "grpc_receiver"), ("http/protobuf", "http_receiver")])
def test_spans_arrive_with_the_name_of_the_service(protocol, receiver, request):
    receiver = request.getfixturevalue(receiver)
    telemetry.set_up("memory", receiver.endpoint, protocol)
    with telemetry.span("outer", "producer", {"pagi.run_id": "r"}), telemetry.span("inner"):
        pass
    spans = receiver.spans()
    assert receiver.services() == {"memory"}
    assert spans["inner"].parent_span_id == spans["outer"].span_id
    assert spans["outer"].kind == 4
    assert attributes(spans["outer"])["pagi.run_id"] == "r"


class Tools(sandbox_pb2_grpc.ToolServiceServicer):
    """Answers with the trace context that it was called in."""

    async def ExecuteTool(self, request, context):
        if request.tool == "fail":
            raise errors.NotFoundError("no such tool")
        return sandbox_pb2.ExecuteToolResponse(stdout=telemetry.inject().get("traceparent", ""))


class Gateway(gateway_pb2_grpc.ModelGatewayServicer):
    """Calls the tools, once for the stream's only message."""

    def __init__(self, tools) -> None:
        self.tools = tools

    async def StreamPlan(self, request, context):
        stub = sandbox_pb2_grpc.ToolServiceStub(self.tools.channel)
        answer = await self.tools.call(stub.ExecuteTool, sandbox_pb2.ExecuteToolRequest(), timeout_s=5)
        yield gateway_pb2.StreamPlanResponse(text_delta=answer.stdout)


@asynccontextmanager
async def two_servers():
    add_tools = sandbox_pb2_grpc.add_ToolServiceServicer_to_server
    add_gateway = gateway_pb2_grpc.add_ModelGatewayServicer_to_server
    async with (
        serving(add_tools, Tools(), "pagi.sandbox.v1.ToolService") as tools,
        serving(add_gateway, Gateway(tools), "pagi.gateway.v1.ModelGateway") as gateway,
    ):
        yield tools, gateway


async def plan(gateway) -> str:
    stub = gateway_pb2_grpc.ModelGatewayStub(gateway.channel)
    [answer] = [m async for m in gateway.stream(stub.StreamPlan, gateway_pb2.StreamPlanRequest(), timeout_s=5)]
    return answer.text_delta


async def test_one_trace_joins_two_servers(grpc_receiver):
    telemetry.set_up("demo", grpc_receiver.endpoint)
    async with two_servers() as (_, gateway):
        with correlation.bind(trace_id="t-1"), telemetry.span("root"):
            await plan(gateway)
    spans = grpc_receiver.spans()
    root = spans["root"]
    stream = spans["pagi.gateway.v1.ModelGateway/StreamPlan"]
    tool = spans["pagi.sandbox.v1.ToolService/ExecuteTool"]
    assert {span.trace_id for span in spans.values()} == {root.trace_id}
    assert (stream.parent_span_id, tool.parent_span_id) == (root.span_id, stream.span_id)
    assert stream.kind == tool.kind == 2
    assert attributes(tool) == {
        "rpc.system": "grpc",
        "rpc.service": "pagi.sandbox.v1.ToolService",
        "rpc.method": "ExecuteTool",
        "pagi.trace_id": "t-1",
    }


async def test_each_call_without_a_trace_begins_its_own(grpc_receiver):
    telemetry.set_up("demo", grpc_receiver.endpoint)
    async with two_servers() as (tools, _):
        stub = sandbox_pb2_grpc.ToolServiceStub(tools.channel)
        request = sandbox_pb2.ExecuteToolRequest()
        seen = {(await tools.call(stub.ExecuteTool, request, timeout_s=5)).stdout.split("-")[1] for _ in range(2)}
    assert len(seen) == 2


async def test_a_trace_begins_under_the_id_that_the_caller_chose(grpc_receiver):
    telemetry.set_up("demo", grpc_receiver.endpoint)
    async with two_servers() as (_, gateway):
        with correlation.bind(trace_id=CHOSEN):
            assert (await plan(gateway)).split("-")[1] == CHOSEN
        with correlation.bind(trace_id="my own words"):
            assert (await plan(gateway)).split("-")[1] != CHOSEN


async def test_the_context_is_passed_on_as_it_came_where_tracing_is_off():
    assert not telemetry.is_on()
    async with two_servers() as (_, gateway):
        with telemetry.attach({"traceparent": TRACEPARENT}):
            assert await plan(gateway) == TRACEPARENT
        assert await plan(gateway) == ""


async def test_a_failure_marks_its_span(grpc_receiver):
    telemetry.set_up("demo", grpc_receiver.endpoint)
    async with two_servers() as (tools, _):
        stub = sandbox_pb2_grpc.ToolServiceStub(tools.channel)
        with pytest.raises(errors.NotFoundError):
            await tools.call(stub.ExecuteTool, sandbox_pb2.ExecuteToolRequest(tool="fail"), timeout_s=5)
    span = grpc_receiver.spans()["pagi.sandbox.v1.ToolService/ExecuteTool"]
    assert span.status.code == 2
    assert span.status.message == "NotFoundError: no such tool"
    assert span.events[0].name == "exception"


def test_no_endpoint_means_no_spans():
    telemetry.set_up("demo", "")
    with telemetry.span("x") as span:
        span.set_attribute("a", 1)
        assert telemetry.inject() == {}
    assert not telemetry.is_on()


@pytest.mark.parametrize("header", ["", "00-zz-11-01", f"00-{'0' * 32}-b7ad6b7169203331-01", "garbage"])
def test_a_context_that_is_none_is_not_passed_on(header):
    with telemetry.attach({"traceparent": header}):
        assert telemetry.inject() == {}


def test_the_context_is_put_back():
    with telemetry.attach({"traceparent": TRACEPARENT}):
        with telemetry.attach({"traceparent": TRACEPARENT.replace("b7", "c8")}):
            pass
        assert telemetry.inject()["traceparent"] == TRACEPARENT
    assert telemetry.inject() == {}


def test_a_receiver_that_hangs_holds_up_the_end_for_a_moment_only(monkeypatch, caplog):
    monkeypatch.setattr(telemetry, "LAST_SPANS_S", 0.2)
    caplog.set_level(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        telemetry.set_up("demo", f"http://127.0.0.1:{hangs.getsockname()[1]}")
        with telemetry.span("x"):
            pass
        began = time.monotonic()
        telemetry.shut_down()
        assert time.monotonic() - began < 2


@given(st.text(alphabet="0123456789abcdefABCDEFg-", max_size=40) | st.from_regex(r"\A[0-9a-f]{32}\Z"))
def test_what_can_be_the_id_of_a_trace(text):
    expected = len(text) == 32 and set(text) <= set("0123456789abcdefABCDEF") and set(text) != {"0"}
    assert telemetry.is_w3c_trace_id(text) == expected
