"""Builds the model gateway from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app

from pagi_gateway.adapters.provider_catalogue import RemoteProvider, provider_of
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.fitting import FittingProvider
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.servicer import SERVICE_NAME, ModelGatewayServicer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_chassis.lifecycle import Component

    from pagi_gateway.domain.ports import Provider
    from pagi_gateway.settings import GatewaySettings


async def build(settings: GatewaySettings, *, provider: Provider | None = None) -> Sequence[Component]:
    """Makes the components of the service, in the order in which they start.

    Args:
        settings: What the environment says.
        provider: Who answers, in place of the one that the settings name.

    Raises:
        StartError: The script of the scripted provider is wrong.
    """
    health = Health("model-gateway")
    components: list[Component] = []
    if provider is None:
        source = provider_of(settings.llm_provider, settings)
        if isinstance(source, RemoteProvider):
            components.append(source)
            health.depends_on(source.name, source.check)
        provider = FittingProvider(source)
    gateway = Gateway(
        TelemetryProvider(provider, contents=settings.otel_instrumentation_genai_capture_message_content),
        longest_s=settings.llm_timeout_seconds,
    )
    grpc_server = GrpcServer(
        settings.bind_host,
        settings.model_gateway_grpc_port,
        tls=settings.server_tls,
        max_concurrent=settings.model_gateway_max_concurrent,
        port_variable="MODEL_GATEWAY_GRPC_PORT",
    )
    grpc_server.add(gateway_pb2_grpc.add_ModelGatewayServicer_to_server, ModelGatewayServicer(gateway), SERVICE_NAME)
    http_server = HttpServer(
        health_app(health),
        settings.bind_host,
        settings.model_gateway_http_port,
        port_variable="MODEL_GATEWAY_HTTP_PORT",
    )
    return [*components, http_server, grpc_server, health]
