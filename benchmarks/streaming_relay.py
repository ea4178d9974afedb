"""The floor of `benchmarks.streaming`: a process that hands a gateway's deltas on to a socket and does nothing else."""

from __future__ import annotations

import asyncio
import sys
import uuid

import grpc
import uvloop
from pagi.gateway.v1 import gateway_pb2, gateway_pb2_grpc


async def _serve(gateway_port: int, port: int) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{gateway_port}")
    stub = gateway_pb2_grpc.ModelGatewayStub(channel)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        message = gateway_pb2.Message(role=gateway_pb2.ROLE_USER, text="long")
        plan = gateway_pb2.GetPlanRequest(messages=[message], effect_id=f"relay/{uuid.uuid4().hex}/model")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async for event in stub.StreamPlan(gateway_pb2.StreamPlanRequest(plan=plan)):
            if event.text_delta:
                writer.write(b'event: text\ndata: {"text":"%b"}\n\n' % event.text_delta.encode())
                await writer.drain()
        writer.write(b"event: end\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, sys.argv[1:])))
