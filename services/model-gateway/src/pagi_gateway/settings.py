"""What the environment says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pagi_chassis.settings import ServiceSettings
from pydantic import Field, SecretStr, field_validator, model_validator

OFFICIAL_OPENAI_URL = "https://api.openai.com/v1"
OFFICIAL_OPENROUTER_URL = "https://openrouter.ai/api/v1"

ProviderName = Literal[
    "mock", "scripted", "openai", "anthropic", "bedrock", "deepseek", "qwen", "google", "openrouter", "ollama"
]


class GatewaySettings(ServiceSettings):
    """Variables of the model gateway."""

    model_gateway_grpc_port: int = Field(default=50051, ge=0, le=65535, description="gRPC port of the model gateway.")
    model_gateway_http_port: int = Field(
        default=8005, ge=0, le=65535, description="HTTP port of the model gateway: health and metrics."
    )
    llm_provider: ProviderName = Field(
        default="mock",
        description="Who answers: mock (offline, by rules), scripted (a file, for tests), openai"
        " (or any server that speaks its API), anthropic, bedrock, deepseek, qwen, google, openrouter, ollama.",
    )
    default_model: str = Field(
        default="",
        description="Model that the provider is asked for where a request names none; unset: docs/models.md says which."
        " mock and scripted have one model each and do not read it.",
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key for openai. A compatible server at another OPENAI_BASE_URL may need none.",
    )
    openai_base_url: str = Field(
        default=OFFICIAL_OPENAI_URL, description="Where openai is: any server that speaks its chat completions API."
    )
    openai_api: Literal["chat", "responses"] = Field(
        default="chat",
        description="Which of openai's APIs is spoken: chat completions, which other servers know too, or responses,"
        " which keeps the reasoning of OpenAI's models over a tool loop.",
    )
    anthropic_api_key: SecretStr = Field(default=SecretStr(""), description="Key for anthropic.")
    anthropic_base_url: str = Field(default="https://api.anthropic.com", description="Where anthropic is.")
    deepseek_api_key: SecretStr = Field(default=SecretStr(""), description="Key for deepseek.")
    deepseek_base_url: str = Field(default="https://api.deepseek.com/v1", description="Where deepseek is.")
    qwen_api_key: SecretStr = Field(default=SecretStr(""), description="Key for qwen (Alibaba Cloud Model Studio).")
    qwen_base_url: str = Field(
        default="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        description="Where qwen is; in China https://dashscope.aliyuncs.com/compatible-mode/v1.",
    )
    google_api_key: SecretStr = Field(default=SecretStr(""), description="Key for google (Gemini).")
    google_base_url: str = Field(
        default="https://generativelanguage.googleapis.com/v1beta/openai",
        description="Where google speaks OpenAI's chat completions API.",
    )
    aws_region: str = Field(
        default="", description="Region of bedrock. The credentials are found as every AWS program finds them."
    )
    bedrock_base_url: str = Field(default="", description="Where bedrock is. Unset: as AWS_REGION says.")
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
    scripted_played_path: Path | None = Field(
        default=None, description="File to which the scripted provider adds each answer that it gave, for tests."
    )
    llm_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Longest time for one answer of a model, in seconds; a caller may give less."
    )
    llm_connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Longest time to connect to a provider, in seconds."
    )
    llm_first_token_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest time until a stream brings the first piece of its answer, in seconds."
    )
    llm_between_tokens_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest time without a byte in a stream that has begun, in seconds: then the provider is dead.",
    )
    llm_stalled_stream_timeout_seconds: float = Field(
        default=90.0,
        gt=0,
        description="Longest time between two pieces of a stream's answer, in seconds, even if keepalives come.",
    )
    llm_attempts: int = Field(
        default=3,
        ge=1,
        le=20,
        description="Calls that one request may cost where a provider has no room, fails or cannot be reached;"
        " models.yaml says it for its own aliases.",
    )
    models_path: Path | None = Field(
        default=None,
        description="YAML file that says who is asked, under which names, and what happens where one fails;"
        " docs/models.md has the format. Unset: models.yaml in the working directory, if there is one.",
    )
    model_gateway_db_path: Path = Field(
        default=Path("data/model_gateway.db"),
        description="SQLite file with remembered answers, which hold what models wrote, and with what was spent.",
    )
    model_ledger_max_age_hours: float = Field(
        default=24.0,
        ge=0,
        description="How long answers are remembered by effect id, so that a repeat costs nothing; 0: not at all.",
    )
    model_ledger_max_answers: int = Field(
        default=100_000, ge=1, description="How many answers are remembered by effect id; the oldest go first."
    )
    model_ledger_max_mb: int = Field(
        default=256,
        ge=1,
        description="What the answers remembered by effect id may take together, in MiB; the oldest go first.",
    )
    model_budgets_store: Literal["file", "redis"] = Field(
        default="file",
        description="Where budgets are counted: file (MODEL_GATEWAY_DB_PATH, for one gateway) or redis (REDIS_ADDR, for"
        " several that share them).",
    )
    redis_addr: str = Field(default="127.0.0.1:6379", description="Redis or Valkey: host:port or a redis:// URL.")
    model_prices_update: bool = Field(
        default=False,
        description="Fetch the newest price list of genai-prices over the network, every hour at most; else the one"
        " that was installed counts.",
    )
    otel_instrumentation_genai_capture_message_content: bool = Field(
        default=False,
        description="Write what was asked and answered into the spans of models: it may hold what people would not"
        " have shown.",
    )
    model_gateway_max_concurrent: int = Field(
        default=256, ge=1, description="Calls at once; more are answered RESOURCE_EXHAUSTED."
    )

    @field_validator(
        "openai_base_url",
        "anthropic_base_url",
        "deepseek_base_url",
        "qwen_base_url",
        "google_base_url",
        "bedrock_base_url",
        "openrouter_base_url",
        "ollama_base_url",
    )
    @classmethod
    def _is_url(cls, value: str) -> str:
        return is_url(value)

    @field_validator("redis_addr")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if "://" in value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("give host:port, or a URL that starts with redis://, rediss:// or unix://")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """The chosen provider has what it needs."""
        check = _CHECKS.get(self.llm_provider)
        if check and (fault := check(self)):
            raise ValueError(f"{fault} (LLM_PROVIDER is {self.llm_provider})")
        return self

    @property
    def redis_url(self) -> str:
        """REDIS_ADDR as a URL."""
        return self.redis_addr if "://" in self.redis_addr else f"redis://{self.redis_addr}"

    @property
    def ollama_api_url(self) -> str:
        """Where ollama speaks OpenAI's API: under /v1, which people leave out of OLLAMA_BASE_URL."""
        return _with_version(self.ollama_base_url)

    @property
    def anthropic_api_url(self) -> str:
        """Where anthropic's API is: under /v1, which its own SDK leaves out of ANTHROPIC_BASE_URL."""
        return _with_version(self.anthropic_base_url)


def is_url(value: str) -> str:
    """The URL without a slash at its end; an empty text stays one.

    Raises:
        ValueError: It is none.
    """
    if not value:
        return value
    # Imported here: only a written URL needs it checked.
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("give a URL with http:// or https:// and a host")
    return value.rstrip("/")


def with_provider(provider: str) -> type[GatewaySettings]:
    """The settings with that provider, whatever the environment says of it."""

    class Chosen(GatewaySettings):
        def __init__(self, **given: Any) -> None:
            super().__init__(**{"llm_provider": provider, **given})

    return Chosen


def _with_version(url: str) -> str:
    """The address under /v1, which people leave out of the base URL."""
    return url if "/" in url.partition("://")[2] else f"{url}/v1"


def _openai_missing(settings: GatewaySettings) -> str:
    if settings.openai_base_url == OFFICIAL_OPENAI_URL:
        return "" if settings.openai_api_key.get_secret_value() else "OPENAI_API_KEY: needed by openai"
    if not settings.default_model:
        return f"DEFAULT_MODEL: name a model that OPENAI_BASE_URL={settings.openai_base_url} serves"
    return ""


def _key_missing(provider: str) -> Callable[[GatewaySettings], str]:
    def missing(settings: GatewaySettings) -> str:
        key: SecretStr = getattr(settings, f"{provider}_api_key")
        return "" if key.get_secret_value() else f"{provider.upper()}_API_KEY: needed by {provider}"

    return missing


def _bedrock_missing(settings: GatewaySettings) -> str:
    return "" if settings.aws_region else "AWS_REGION: needed by bedrock"


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
    "bedrock": _bedrock_missing,
    **{name: _key_missing(name) for name in ("anthropic", "deepseek", "qwen", "google", "openrouter")},
}
