"""The gateway's types: a conversation that is asked, and the answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why a model stopped writing."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants to be run.

    Attributes:
        id: Unique within the conversation.
        name: The tool's name, as the request's tool list spells it.
        arguments_json: A JSON object exactly as the model wrote it; it may not parse.
    """

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `tool_call_id` names the call that a tool message answers."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; the schema is JSON Schema 2020-12 of its arguments object."""

    name: str
    description: str = ""
    parameters_schema_json: str = "{}"


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is asked of a model.

    Attributes:
        messages: The conversation, oldest first.
        tools: What the model may call.
        model: A model's name; empty for the provider's default.
        max_output_tokens: 0 for the provider's own limit.
        max_cost_usd: 0 for no limit.
        effect_id: `<run_id>/<step>/<call>`, so that a repeat can be recognised.
        temperature: None for the provider's own.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    model: str = ""
    max_output_tokens: int = 0
    max_cost_usd: float = 0.0
    effect_id: str = ""
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer used; `cost_usd` is None where the price is not known.

    `reported` is False where the provider sent no usage; the numbers are then zero.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A model's whole answer: text, tool calls, or both."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = FinishReason.STOP
    model: str = ""
    provider: str = ""
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of an answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be asked, and the provider that serves it."""

    name: str
    provider: str
    is_default: bool = False
