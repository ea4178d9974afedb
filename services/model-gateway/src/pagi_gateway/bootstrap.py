"""Builds the model gateway from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app
from pagi_chassis.settings import variable

from pagi_gateway.adapters.accounting import Accounting
from pagi_gateway.adapters.models_in_force import models_path, read_from
from pagi_gateway.adapters.models_watch import ModelsWatch
from pagi_gateway.adapters.routing_targets import RoutingTargets
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.domain.model_price import PricedModel
from pagi_gateway.domain.priced_source import PricedSource
from pagi_gateway.servicer import SERVICE_NAME, ModelGatewayServicer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pagi_chassis.lifecycle import Component

    from pagi_gateway.domain.models_config import ModelsConfig
    from pagi_gateway.domain.ports import ModelSource, Provider
    from pagi_gateway.settings import GatewaySettings


async def build(settings: GatewaySettings, *, provider: ModelSource | None = None) -> Sequence[Component]:
    """Makes the components of the service, in the order in which they start.

    Args:
        settings: What the environment says.
        provider: Who answers, in place of those whom the settings or models.yaml name.

    Raises:
        StartError: models.yaml is wrong, or the script of the scripted provider.
    """
    accounting = Accounting(settings)
    components: list[Component] = []
    if provider is None:
        health, answerer, components = _routed(settings, accounting)
    else:
        health, answerer = Health("model-gateway"), _given(provider, settings, accounting)
    if accounting.redis is not None:
        health.depends_on("redis", accounting.redis.check)
    gateway = accounting.once(Gateway(answerer, longest_s=settings.llm_timeout_seconds))
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
    return [accounting, *components, http_server, grpc_server, health]


def _given(provider: ModelSource, settings: GatewaySettings, accounting: Accounting) -> Provider:
    """Who answers, where there is no routing."""
    contents = settings.otel_instrumentation_genai_capture_message_content
    measured = TelemetryProvider(PricedSource(provider, accounting.prices), contents=contents)
    return accounting.counted(measured, lambda model: [PricedModel(provider.name, model)])


def _routed(settings: GatewaySettings, accounting: Accounting) -> tuple[Health, Provider, list[Component]]:
    """Who answers by models.yaml, or else by the environment, and what lives with it."""

    def read(path: Path) -> ModelsConfig:
        # From the first file on: without one there is nothing that could be wrong.
        health.depends_on("models.yaml", watch.check)
        return read_from(path, settings, variable)

    async def apply(config: ModelsConfig) -> None:
        await routing.apply(config)
        accounting.use(config)

    health = Health("model-gateway", detail=lambda: routing.detail())
    watch = ModelsWatch(models_path(settings), read, apply)
    config = watch.first()
    routing = RoutingTargets(settings, config, variable, accounting.prices)
    if config is not None:
        accounting.use(config)
    by_environment = config is None or config.routes is None
    health.depends_on(settings.llm_provider if by_environment else "targets", routing.pool.check)
    return health, accounting.counted(routing.router, routing.router.reach), [routing, watch]
