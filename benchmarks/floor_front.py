"""The floor's front: one HTTP POST makes the gRPC calls of a plan with two tool calls, in the same order, and no more.

GetContext, GetPlan, ExecuteTool, GetPlan, ExecuteTool, GetPlan, StoreSessionHistory, one after the other: seven calls
to three processes. Arguments: the ports of the processes that stand for memory, model-gateway and sandbox. Says its own
port on standard output as a line of JSON, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import nullcontext

import grpc
import uvicorn
import uvloop
from fastapi import FastAPI
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import grpc_options
from pydantic import BaseModel

from benchmarks.floor_server import until_input_ends

_TIMEOUT_S = 30.0
_TOOL_CALLS = 2
_IDS = (("x-trace-id", "t" * 32), ("x-run-id", "r" * 36), ("x-session-id", "s" * 40))
_QUERY_CHARS = 215
_PLAN = gateway_pb2.GetPlanRequest(
    messages=[
        gateway_pb2.Message(role=gateway_pb2.ROLE_SYSTEM, text="m" * 4_400),
        gateway_pb2.Message(role=gateway_pb2.ROLE_USER, text="m" * 60),
    ],
    tools=[gateway_pb2.ToolSpec(name="t" * 8, description="d" * 240, parameters_schema_json="j" * 480)] * 7,
)
_EXECUTE = sandbox_pb2.ExecuteToolRequest(tool="math", arguments_json="a" * 30, effect_id="e" * 40, session_id="s" * 40)
_STORE = memory_pb2.StoreSessionHistoryRequest(
    session_id="s" * 40, run_id="r" * 36, turns=[memory_pb2.Turn(role=memory_pb2.TURN_ROLE_USER, text="t" * 65)] * 6
)


class Question(BaseModel):
    """The body of the request."""

    prompt: str


class Answer(BaseModel):
    """As long as a run's."""

    result: str
    status: str = "completed"
    degraded: list[str] = []
    rest: str = "r" * 1_200


def application(memory_port: int, gateway_port: int, sandbox_port: int) -> FastAPI:
    """`POST /plan` over the three processes. Call it in the event loop."""
    memory, gateway, sandbox = (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=grpc_options.CLIENT)
        for port in (memory_port, gateway_port, sandbox_port)
    )
    memories, models = memory_pb2_grpc.MemoryStub(memory), gateway_pb2_grpc.ModelGatewayStub(gateway)
    tools = sandbox_pb2_grpc.ToolServiceStub(sandbox)
    app = FastAPI()

    @app.post("/plan", response_model=Answer)
    async def plan(question: Question) -> Answer:
        wanted = memory_pb2.GetContextRequest(session_id="s" * 40, query=question.prompt.ljust(_QUERY_CHARS), top_k=6)
        await memories.GetContext(wanted, timeout=_TIMEOUT_S, metadata=_IDS)
        for _ in range(_TOOL_CALLS):
            await models.GetPlan(_PLAN, timeout=_TIMEOUT_S, metadata=_IDS)
            await tools.ExecuteTool(_EXECUTE, timeout=_TIMEOUT_S, metadata=_IDS)
        answer = await models.GetPlan(_PLAN, timeout=_TIMEOUT_S, metadata=_IDS)
        await memories.StoreSessionHistory(_STORE, timeout=_TIMEOUT_S, metadata=_IDS)
        return Answer(result=answer.text)

    return app


async def serve(ports: list[int]) -> None:
    """Serves until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application(*ports), http="httptools", access_log=False, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    # The signals of the terminal are for the bench.
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve([listener]))
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await until_input_ends()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve([int(port) for port in sys.argv[1:]]))
