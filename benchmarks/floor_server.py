"""A process of the floor that does nothing: answers the calls of a plan with messages that were made at its start.

Says its port on standard output as a line of JSON, and ends when its standard input does. Sizes in bytes are those that
were seen on the wire for the plan of the bench: GetContext 2.5 KB back, GetPlan 9.8 KB there, the rest below 0.5 KB.
With the argument `embed`, GetContext does one thing: it has the model read the prompt, as memory has for a new one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import grpc
import uvloop
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from pagi.memory.v1 import memory_pb2, memory_pb2_grpc
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import grpc_options

if TYPE_CHECKING:
    from pagi_memory.adapters.onnx_embedder import OnnxEmbedder

_CONTEXT = memory_pb2.GetContextResponse(
    soul="s" * 900, passages=[memory_pb2.Passage(id="p" * 32, text="t" * 450, source="s" * 30) for _ in range(3)]
)
_STORED = memory_pb2.StoreSessionHistoryResponse(stored=6)
_PLAN = gateway_pb2.GetPlanResponse(text="a" * 140)
_RESULT = sandbox_pb2.ExecuteToolResponse(verdict=sandbox_pb2.VERDICT_OK, output_json="r" * 155)


class Nothing:
    """Every service of a plan at once; each process of the floor is asked for one of them."""

    async def GetContext(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Memory's first."""
        return _CONTEXT

    async def StoreSessionHistory(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Memory's second."""
        return _STORED

    async def GetPlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The model gateway's."""
        return _PLAN

    async def ExecuteTool(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The sandbox's."""
        return _RESULT


class _Memory(Nothing, memory_pb2_grpc.MemoryServicer):
    pass


class _EmbeddingMemory(_Memory):
    def __init__(self, embedder: OnnxEmbedder) -> None:
        self._embedder = embedder

    async def GetContext(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._embedder.embed_query(request.query)
        return _CONTEXT


class _Gateway(Nothing, gateway_pb2_grpc.ModelGatewayServicer):
    pass


class _Sandbox(Nothing, sandbox_pb2_grpc.ToolServiceServicer):
    pass


async def serve(*, embeds: bool = False) -> None:
    """Serves until standard input ends."""
    server = grpc.aio.server(options=grpc_options.SERVER)
    # The rest of each service is not called.
    memory = await _embedding_memory() if embeds else _Memory()  # type: ignore[abstract]
    memory_pb2_grpc.add_MemoryServicer_to_server(memory, server)
    gateway_pb2_grpc.add_ModelGatewayServicer_to_server(_Gateway(), server)  # type: ignore[abstract]
    sandbox_pb2_grpc.add_ToolServiceServicer_to_server(_Sandbox(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await until_input_ends()
    await server.stop(1.0)


async def _embedding_memory() -> _Memory:
    # Imported here: the floor's other processes do without the model.
    from pagi_memory.adapters.onnx_embedder import OnnxEmbedder

    embedder = OnnxEmbedder()
    await embedder.start()
    return _EmbeddingMemory(embedder)  # type: ignore[abstract]


async def until_input_ends() -> None:
    """Returns when whoever started this process is gone, or asks for its end."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(embeds="embed" in sys.argv[1:]))
