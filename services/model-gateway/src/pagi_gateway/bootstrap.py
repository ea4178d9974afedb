"""Builds the model gateway from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app
from pagi_chassis.lifecycle import StartError

from pagi_gateway.adapters.openai_endpoint import Endpoint
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.errors import ScriptError
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.servicer import SERVICE_NAME, ModelGatewayServicer
from pagi_gateway.settings import OFFICIAL_OPENAI_URL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_chassis.lifecycle import Component

    from pagi_gateway.adapters.openai_provider import OpenAiProvider
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
    if provider is None and (remote := _remote_provider(settings)):
        components.append(remote)
        health.depends_on(remote.name, remote.check)
        provider = remote
    gateway = Gateway(
        TelemetryProvider(provider or _offline_provider(settings)), longest_s=settings.llm_timeout_seconds
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


def _offline_provider(settings: GatewaySettings) -> Provider:
    if settings.llm_provider == "scripted" and settings.scripted_responses_path:
        from pagi_gateway.adapters.scripted_file import read_script
        from pagi_gateway.adapters.scripted_provider import ScriptedProvider

        try:
            return ScriptedProvider(read_script(settings.scripted_responses_path))
        except ScriptError as error:
            raise StartError(f"SCRIPTED_RESPONSES_PATH: {error.message}") from error
    from pagi_gateway.adapters.mock_provider import MockProvider

    return MockProvider()


def _remote_provider(settings: GatewaySettings) -> OpenAiProvider | None:
    """The provider that is asked over HTTP, if one is chosen; its packages are imported only then."""
    if settings.llm_provider not in {"openai", "openrouter", "ollama"}:
        return None
    from pagi_gateway.adapters.openai_http import OpenAiHttp
    from pagi_gateway.adapters.openai_provider import OpenAiProvider

    return OpenAiProvider(OpenAiHttp(_endpoint(settings), connect_timeout_s=settings.llm_connect_timeout_seconds))


def _endpoint(settings: GatewaySettings) -> Endpoint:
    if settings.llm_provider == "openrouter":
        return Endpoint(
            provider="openrouter",
            base_url=settings.openrouter_base_url,
            default_model=settings.openrouter_model_name or settings.default_model or "openrouter/auto",
            api_key=settings.openrouter_api_key.get_secret_value(),
            key_variable="OPENROUTER_API_KEY",
            url_variable="OPENROUTER_BASE_URL",
            reports_cost=True,
        )
    if settings.llm_provider == "ollama":
        return Endpoint(
            provider="ollama",
            base_url=settings.ollama_api_url,
            default_model=settings.ollama_model_name or settings.default_model or "llama3.2",
            url_variable="OLLAMA_BASE_URL",
        )
    official = settings.openai_base_url == OFFICIAL_OPENAI_URL
    return Endpoint(
        provider="openai",
        base_url=settings.openai_base_url,
        default_model=settings.default_model or "gpt-4o-mini",
        api_key=settings.openai_api_key.get_secret_value(),
        output_limit_name="max_completion_tokens" if official else "max_tokens",
    )
