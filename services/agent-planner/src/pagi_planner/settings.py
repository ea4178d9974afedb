"""The planner's variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pagi_chassis.settings import ServiceSettings
from pydantic import AliasChoices, Field, SecretStr, field_validator


class PlannerSettings(ServiceSettings):
    """What the agent-planner reads from the environment."""

    agent_planner_port: int = Field(default=8585, ge=0, le=65535, description="HTTP port of the agent-planner.")
    agent_planner_grpc_port: int = Field(
        default=50050, ge=0, le=65535, description="gRPC port of the agent-planner (pagi.agent.v1)."
    )
    agent_max_turns: int = Field(default=10, ge=1, le=1000, description="Most model calls of a run.")
    agent_max_tokens: int | None = Field(
        default=None, ge=1, description="Most tokens that all model calls of a run read and write; unset: no bound."
    )
    agent_max_tool_calls: int | None = Field(
        default=None, ge=0, description="Most tool calls of a run; unset: no bound but its model calls."
    )
    agent_max_refinements: int = Field(default=1, ge=0, le=10, description="How often a poor answer is sent back.")
    agent_judge_model: str = Field(
        default="judge",
        min_length=1,
        description="Model or alias that judges answers where a request asks for it; where the gateway has none of "
        "this name, the run's own model does.",
    )
    agent_compaction: Literal["extract", "model"] = Field(
        default="extract",
        description="Who summarises the part of a conversation that has no room any more: rules, or a model call.",
    )
    agent_max_depth: int = Field(
        default=2, ge=0, le=5, description="Generations of runs that a run may hand tasks to; 0: the tool is off."
    )
    agent_max_children: int = Field(default=8, ge=1, le=100, description="Tasks that one run may hand on.")
    agent_rag_top_k: int = Field(default=6, ge=1, le=100, description="Passages that a run is given.")
    agent_max_prompt_characters: int = Field(default=100_000, ge=1, description="Longest prompt that is taken.")
    max_context_tokens: int = Field(
        default=8_000,
        ge=500,
        description="Most tokens that a run's first messages have, and its whole window where the gateway does not "
        "know that of the model.",
    )
    max_concurrent_requests: int = Field(
        default=150, ge=1, description="Runs in progress at once; more are answered 503 with Retry-After."
    )
    request_timeout_seconds: float = Field(default=60.0, gt=0, le=86_400, description="Longest wall time of a run.")
    model_gateway_addr: str = Field(default="127.0.0.1:50051", description="gRPC address of the model-gateway.")
    agent_gateway_patience_seconds: float = Field(
        default=20.0,
        ge=0,
        le=86_400,
        description="How long a run that has asked a model before waits for a model-gateway that is away; one that "
        "asks for the first time waits 2 seconds.",
    )
    memory_grpc_addr: str = Field(default="127.0.0.1:50052", description="gRPC address of memory.")
    sandbox_grpc_addr: str = Field(
        default="127.0.0.1:50053",
        validation_alias=AliasChoices("SANDBOX_GRPC_ADDR", "RUST_SANDBOX_GRPC_ADDR"),
        description="gRPC address of the sandbox.",
    )
    redis_addr: str = Field(default="127.0.0.1:6379", description="Redis or Valkey: host:port or a redis:// URL.")
    pagi_notifications_channel: str = Field(
        default="pagi_notifications", min_length=1, description="Redis channel for whoever listens now."
    )
    pagi_notifications_stream: str = Field(
        default="pagi:notifications", min_length=1, description="Redis stream from which notifications are delivered."
    )
    pagi_audit_db_path: Path = Field(default=Path("data/pagi_audit.db"), description="SQLite file of the journal.")
    pagi_audit_db_synchronous: Literal["normal", "full"] = Field(
        default="normal",
        description="normal: what is written survives the death of the process; full: that of the machine too.",
    )
    pagi_audit_database_url: SecretStr = Field(
        default=SecretStr(""),
        description="PostgreSQL for the journal, shared by any number of planners, e.g. "
        "postgresql://user:password@host/pagi. Empty: the file PAGI_AUDIT_DB_PATH. "
        "Needs the extra pagi-planner[postgresql].",
    )
    agent_lapse_seconds: float = Field(
        default=4.0,
        ge=2,
        le=600,
        description="A planner on PostgreSQL that shows no sign of life for so long loses its runs to another one.",
    )
    pagi_api_key: SecretStr = Field(
        default=SecretStr(""), description="Where set, requests need it as X-API-Key or as a bearer token."
    )

    @field_validator("pagi_audit_database_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("give a URL that starts with postgresql://")
        return value

    agent_stream_heartbeat_seconds: float = Field(
        default=15.0, gt=0, le=3_600, description="A stream without events gets a comment after so long."
    )
    agent_stream_stall_seconds: float = Field(
        default=60.0, gt=0, le=3_600, description="A client of a stream that takes nothing for so long is gone."
    )
    agent_stream_max_events: int = Field(
        default=500, ge=1, description="A client of a stream that falls behind by more events is cut off."
    )
    agent_stream_max_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1_024,
        description="The same in bytes of events, or characters of a model's answer.",
    )
    agent_approval_tools: str = Field(
        default="",
        description="Tools that need a person's word for each call, beside those that say so themselves: names with * "
        "and ?, separated by commas.",
    )
    agent_allowed_origins: str = Field(
        default="",
        description="Origins of web pages that may open /ws, separated by commas; pages of the planner's own host may.",
    )

    @property
    def approval_tools(self) -> tuple[str, ...]:
        """The patterns of `AGENT_APPROVAL_TOOLS`."""
        return _listed(self.agent_approval_tools)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `AGENT_ALLOWED_ORIGINS`."""
        return _listed(self.agent_allowed_origins)

    @field_validator("redis_addr")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        url = urlsplit(value if "://" in value else f"redis://{value}")
        # Asking for the port raises ValueError, with the reason, where it is none.
        if url.scheme not in {"redis", "rediss", "unix"} or not (url.hostname or url.path) or url.port == 0:
            raise ValueError("give host:port, or a URL that starts with redis://, rediss:// or unix://")
        return value


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
