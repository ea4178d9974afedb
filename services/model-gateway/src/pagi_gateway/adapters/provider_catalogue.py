"""Every provider by its name: what it is asked with, from the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pagi_chassis.lifecycle import StartError

from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.domain.errors import ScriptError
from pagi_gateway.domain.ports import ModelSource
from pagi_gateway.settings import OFFICIAL_OPENAI_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from pagi_gateway.adapters.http_provider import Dialect
    from pagi_gateway.adapters.http_road import Heard
    from pagi_gateway.adapters.http_stream import Patience
    from pagi_gateway.settings import GatewaySettings


@runtime_checkable
class RemoteProvider(ModelSource, Protocol):
    """A provider somewhere else: it starts, stops, and can be looked for without asking a model."""

    async def start(self) -> None:
        """Makes ready; the server need not be there yet."""

    async def stop(self) -> None:
        """Closes every connection."""

    async def check(self) -> None:
        """Raises where nobody listens at the address."""


def provider_of(
    name: str,
    settings: GatewaySettings,
    *,
    heard: Heard | None = None,
    key_variable: str = "",
    url_variable: str = "",
) -> ModelSource:
    """Makes the provider of that name; its packages are imported only here.

    Args:
        name: As `LLM_PROVIDER` spells it.
        settings: What it is asked with.
        heard: Is told the headers of every answer.
        key_variable: Named where the key is not accepted, if it is not the provider's own.
        url_variable: Named where nobody speaks the API at the address, if it is not the provider's own.

    Raises:
        StartError: The script of the scripted provider is wrong, or the provider's package is not installed.
    """
    if name == "mock":
        from pagi_gateway.adapters.mock_provider import MockProvider

        return MockProvider()
    if name == "scripted":
        return _scripted(settings)
    if name == "bedrock":
        return _bedrock(settings)
    endpoint = _ENDPOINTS[name](settings)
    if key_variable or url_variable:
        endpoint = replace(
            endpoint,
            key_variable=key_variable or endpoint.key_variable,
            url_variable=url_variable or endpoint.url_variable,
        )
    return _remote(endpoint, settings, heard)


def _scripted(settings: GatewaySettings) -> ModelSource:
    from pagi_gateway.adapters.scripted_file import read_script
    from pagi_gateway.adapters.scripted_provider import ScriptedProvider

    if settings.scripted_responses_path is None:
        raise StartError("SCRIPTED_RESPONSES_PATH: name the JSON file to play")
    try:
        return ScriptedProvider(read_script(settings.scripted_responses_path), settings.scripted_played_path)
    except ScriptError as error:
        raise StartError(f"SCRIPTED_RESPONSES_PATH: {error.message}") from error


def _bedrock(settings: GatewaySettings) -> ModelSource:
    from pagi_gateway.adapters.bedrock_provider import BedrockProvider

    return BedrockProvider(
        settings.aws_region,
        settings.default_model or "us.amazon.nova-lite-v1:0",
        base_url=settings.bedrock_base_url,
        patience=_patience(settings),
        connect_timeout_s=settings.llm_connect_timeout_seconds,
    )


def _remote(endpoint: Endpoint, settings: GatewaySettings, heard: Heard | None) -> ModelSource:
    from pagi_gateway.adapters.http_provider import HttpProvider
    from pagi_gateway.adapters.http_road import HttpRoad

    road = HttpRoad(endpoint, connect_timeout_s=settings.llm_connect_timeout_seconds, heard=heard)
    return HttpProvider(road, _dialect(endpoint, settings), patience=_patience(settings))


def _patience(settings: GatewaySettings) -> Patience:
    from pagi_gateway.adapters.http_stream import Patience

    return Patience(
        settings.llm_first_token_timeout_seconds,
        settings.llm_between_tokens_timeout_seconds,
        settings.llm_stalled_stream_timeout_seconds,
    )


def _dialect(endpoint: Endpoint, settings: GatewaySettings) -> Dialect:
    if endpoint.provider == "anthropic":
        from pagi_gateway.adapters.anthropic_dialect import AnthropicMessages

        return AnthropicMessages(endpoint)
    if endpoint.provider == "openai" and settings.openai_api == "responses":
        from pagi_gateway.adapters.responses_dialect import OpenAiResponses

        return OpenAiResponses(endpoint)
    from pagi_gateway.adapters.openai_chat import OpenAiChat

    return OpenAiChat(endpoint)


def _openai(settings: GatewaySettings) -> Endpoint:
    official = settings.openai_base_url == OFFICIAL_OPENAI_URL
    return Endpoint(
        provider="openai",
        base_url=settings.openai_base_url,
        default_model=settings.default_model or "gpt-4o-mini",
        api_key=settings.openai_api_key.get_secret_value(),
        output_limit_name="max_completion_tokens" if official else "max_tokens",
        takes_cache_key=official,
        compatible=not official,
    )


def _anthropic(settings: GatewaySettings) -> Endpoint:
    return Endpoint(
        provider="anthropic",
        base_url=settings.anthropic_api_url,
        default_model=settings.default_model or "claude-sonnet-4-5",
        api_key=settings.anthropic_api_key.get_secret_value(),
        key_variable="ANTHROPIC_API_KEY",
        url_variable="ANTHROPIC_BASE_URL",
        key_header="x-api-key",
        headers=(("anthropic-version", "2023-06-01"),),
        default_output_tokens=8192,
    )


def _ollama(settings: GatewaySettings) -> Endpoint:
    return Endpoint(
        provider="ollama",
        base_url=settings.ollama_api_url,
        default_model=settings.ollama_model_name or settings.default_model or "llama3.2",
        url_variable="OLLAMA_BASE_URL",
    )


def _openrouter(settings: GatewaySettings) -> Endpoint:
    return Endpoint(
        provider="openrouter",
        base_url=settings.openrouter_base_url,
        default_model=settings.openrouter_model_name or settings.default_model or "openrouter/auto",
        api_key=settings.openrouter_api_key.get_secret_value(),
        key_variable="OPENROUTER_API_KEY",
        url_variable="OPENROUTER_BASE_URL",
        reports_cost=True,
    )


def _keyed(provider: str, default_model: str) -> Callable[[GatewaySettings], Endpoint]:
    """A provider that differs from OpenAI only in its address, key and models."""

    def endpoint(settings: GatewaySettings) -> Endpoint:
        key: SecretStr = getattr(settings, f"{provider}_api_key")
        return Endpoint(
            provider=provider,
            base_url=getattr(settings, f"{provider}_base_url"),
            default_model=settings.default_model or default_model,
            api_key=key.get_secret_value(),
            key_variable=f"{provider.upper()}_API_KEY",
            url_variable=f"{provider.upper()}_BASE_URL",
        )

    return endpoint


_ENDPOINTS: dict[str, Callable[[GatewaySettings], Endpoint]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "ollama": _ollama,
    "openrouter": _openrouter,
    "deepseek": _keyed("deepseek", "deepseek-chat"),
    "qwen": _keyed("qwen", "qwen-plus"),
    "google": _keyed("google", "gemini-2.5-flash"),
}
