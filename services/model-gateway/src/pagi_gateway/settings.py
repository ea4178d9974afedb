"""What the environment says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pagi_chassis.settings import ServiceSettings
from pydantic import Field, SecretStr, field_validator, model_validator

OFFICIAL_OPENAI_URL = "https://api.openai.com/v1"
OFFICIAL_OPENROUTER_URL = "https://openrouter.ai/api/v1"


class GatewaySettings(ServiceSettings):
    """Variables of the model gateway."""

    model_gateway_grpc_port: int = Field(default=50051, ge=0, le=65535, description="gRPC port of the model gateway.")
    model_gateway_http_port: int = Field(
        default=8005, ge=0, le=65535, description="HTTP port of the model gateway: health and metrics."
    )
    llm_provider: Literal["mock", "scripted", "openai", "openrouter", "ollama"] = Field(
        default="mock",
        description="Who answers: mock (offline, by rules), scripted (a file, for tests), openai"
        " (or any server that speaks its API), openrouter, ollama.",
    )
    default_model: str = Field(
        default="",
        description="Model that openai is asked for where a request names none; unset: gpt-4o-mini. mock and scripted"
        " have one model each and do not read it.",
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key for openai. A compatible server at another OPENAI_BASE_URL may need none.",
    )
    openai_base_url: str = Field(
        default=OFFICIAL_OPENAI_URL, description="Where openai is: any server that speaks its chat completions API."
    )
    openrouter_api_key: SecretStr = Field(default=SecretStr(""), description="Key for openrouter.")
    openrouter_base_url: str = Field(default=OFFICIAL_OPENROUTER_URL, description="Where openrouter is.")
    openrouter_model_name: str = Field(
        default="", description="Model for openrouter. Unset: DEFAULT_MODEL, or else openrouter/auto."
    )
    ollama_base_url: str = Field(default="http://127.0.0.1:11434", description="Where ollama is.")
    ollama_model_name: str = Field(
        default="", description="Model for ollama, one that was pulled. Unset: DEFAULT_MODEL, or else llama3.2."
    )
    scripted_responses_path: Path | None = Field(
        default=None, description="JSON file that the scripted provider plays; docs/models.md has the format."
    )
    llm_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Longest time for one answer of a model, in seconds; a caller may give less."
    )
    llm_connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Longest time to connect to a provider, in seconds."
    )
    model_gateway_max_concurrent: int = Field(
        default=256, ge=1, description="Calls at once; more are answered RESOURCE_EXHAUSTED."
    )

    @field_validator("openai_base_url", "openrouter_base_url", "ollama_base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        # Imported here: only a written URL needs it checked.
        from urllib.parse import urlsplit

        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("give a URL with http:// or https:// and a host")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """The chosen provider has what it needs."""
        check = _CHECKS.get(self.llm_provider)
        if check and (fault := check(self)):
            raise ValueError(f"{fault} (LLM_PROVIDER is {self.llm_provider})")
        return self

    @property
    def ollama_api_url(self) -> str:
        """Where ollama speaks OpenAI's API: under /v1, which people leave out of OLLAMA_BASE_URL."""
        url = self.ollama_base_url
        return url if "/" in url.partition("://")[2] else f"{url}/v1"


def _openai_missing(settings: GatewaySettings) -> str:
    if settings.openai_base_url == OFFICIAL_OPENAI_URL:
        return "" if settings.openai_api_key.get_secret_value() else "OPENAI_API_KEY: needed by openai"
    if not settings.default_model:
        return f"DEFAULT_MODEL: name a model that OPENAI_BASE_URL={settings.openai_base_url} serves"
    return ""


def _openrouter_missing(settings: GatewaySettings) -> str:
    return "" if settings.openrouter_api_key.get_secret_value() else "OPENROUTER_API_KEY: needed by openrouter"


def _scripted_missing(settings: GatewaySettings) -> str:
    path = settings.scripted_responses_path
    if path is None:
        return "SCRIPTED_RESPONSES_PATH: name the JSON file to play"
    if not path.is_file():
        return f"SCRIPTED_RESPONSES_PATH: no such file: {path}"
    return ""


_CHECKS = {
    "scripted": _scripted_missing,
    "openai": _openai_missing,
    "openrouter": _openrouter_missing,
}
