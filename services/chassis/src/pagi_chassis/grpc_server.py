"""A gRPC server with what each of ours has: health, reflection, the edge of every RPC, a graceful end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health  # type: ignore[attr-defined]

from pagi_chassis import grpc_options, ports
from pagi_chassis.grpc_reflection import ReflectionHandler
from pagi_chassis.tls import ServerTls

GRACE_S = 5.0


class GrpcServer:
    """A component that serves on one port.

    Args:
        host: Address to listen on.
        port: 0 takes a free one; `port` tells which after the start.
        tls: None: plaintext.
        max_concurrent: RPCs at once; more are answered RESOURCE_EXHAUSTED. None: no bound.
        port_variable: The environment variable to name where the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ServerTls | None = None,
        max_concurrent: int | None = None,
        port_variable: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._max_concurrent = max_concurrent
        self._port_variable = port_variable
        self._registrations: list[tuple[Callable[[Any, Any], None], Any]] = []
        self._names: list[str] = []
        self._health = grpc_health.HealthServicer()
        self._server: grpc.aio.Server | None = None

    def add(self, register: Callable[[Any, Any], None], servicer: object, service_name: str) -> None:
        """Serves one more service.

        Args:
            register: The generated `add_…Servicer_to_server`.
            servicer: Its implementation.
            service_name: Full name, e.g. `pagi.sandbox.v1.ToolService`.
        """
        self._registrations.append((register, servicer))
        self._names.append(service_name)

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            StartError: The port is taken, or a TLS file cannot be used.
        """
        # Imported here: the edge brings prometheus_client, whose import takes half as long as that of grpc.
        from pagi_chassis.grpc_edge import EdgeRegistry

        credentials = self._tls.credentials() if self._tls else None
        if self.port:
            # gRPC says only that it failed; the socket says why.
            ports.listen(self.host, self.port, self._port_variable).close()
        # Made here and not in the constructor: grpc binds it to the running loop.
        server = grpc.aio.server(options=grpc_options.SERVER, maximum_concurrent_rpcs=self._max_concurrent)
        edge = EdgeRegistry(server)
        for register, servicer in self._registrations:
            register(servicer, edge)
        # Health and reflection are watched by machines every second: neither traced nor counted.
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_generic_rpc_handlers((ReflectionHandler(self._names),))
        address = ports.address(self.host, self.port)
        try:
            self.port = (
                server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise ports.refusal(self.host, self.port, error, self._port_variable) from error
        await server.start()
        self._server = server
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Tells watchers that it leaves, lets calls in flight finish for up to 5 s, then ends them."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        # grpc waits out the grace for streams that never end by themselves, as Watch is.
        await asyncio.shield(self._server.stop(GRACE_S))
        self._server = None
