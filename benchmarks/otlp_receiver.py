"""Receives spans by OTLP over gRPC and counts them.

Says its port on standard output as a line of JSON, and the number of spans so far for every line that it reads.
"""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
import uvloop
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc

_MOST_BYTES = 64 * 1024 * 1024


class Counter(pb_grpc.TraceServiceServicer):
    """Counts."""

    def __init__(self) -> None:
        self.spans = 0

    async def Export(  # noqa: N802
        self, request: pb.ExportTraceServiceRequest, context: object
    ) -> pb.ExportTraceServiceResponse:
        """Takes a batch."""
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return pb.ExportTraceServiceResponse()


async def _serve() -> None:
    counter = Counter()
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.so_reuseport", 0)))
    pb_grpc.add_TraceServiceServicer_to_server(counter, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _say({"port": port})
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        _say({"spans": counter.spans})
    await server.stop(1.0)


def _say(text: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(text) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
