"""For tests: a real server and a real client in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer


@asynccontextmanager
async def serving(
    register: Callable[[Any, grpc.aio.Server], None], servicer: object, service_name: str
) -> AsyncIterator[GrpcClient]:
    """Serves one servicer on a free loopback port and yields a client of it."""
    server = GrpcServer("127.0.0.1", 0)
    server.add(register, servicer, service_name)
    await server.start()
    client = GrpcClient(f"127.0.0.1:{server.port}")
    try:
        yield client
    finally:
        await client.close()
        await server.stop()
