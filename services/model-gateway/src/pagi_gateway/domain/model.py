"""The gateway's types: a conversation that is asked, and the answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pagi_gateway.domain.capabilities import Capabilities, Price
from pagi_gateway.domain.content import Part, Reasoning


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
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        text: Its text; `parts` follow it.
        tool_calls: On assistant messages.
        tool_call_id: On tool messages: the call that is answered.
        parts: Images, files and more text.
        reasoning: On assistant messages: what an earlier plan held, for the provider that made it.
        cache: A provider that caches on request shall cache up to and with this message.
        is_error: On tool messages: the tool failed.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    parts: tuple[Part, ...] = ()
    reasoning: tuple[Reasoning, ...] = ()
    cache: bool = False
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; the schema is JSON Schema 2020-12 of its arguments object."""

    name: str
    description: str = ""
    parameters_schema_json: str = "{}"


class Effort(StrEnum):
    """How much a model shall reason."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ToolUse(StrEnum):
    """Whether tools may or must be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The answer's text is a JSON object of this JSON Schema (2020-12)."""

    schema_json: str
    name: str = "answer"


class NoteKind(StrEnum):
    """What a note is about."""

    LEFT_OUT = "left_out"
    EMULATED = "emulated"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class Note:
    """What the caller should know of an answer; `field` is the request's, as in `messages[2].parts[0]`."""

    kind: NoteKind
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a model is asked; a text is empty where it is not known.

    `key` is the label of the caller's key, never the key itself.
    """

    tenant: str = ""
    key: str = ""
    run_id: str = ""


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
        response_format: None for free text.
        stop: The model stops before it writes any of these.
        seed: None for none.
        top_p: None for the provider's own.
        leave_out: What the model cannot do is left out and noted, instead of refused.
        cache_tools: A provider that caches on request shall cache the tools.
        cache_key: Requests with the same key are sent where their beginning is cached.
        effort: None for the provider's own.
        tool_use: Whether tools may or must be called.
        tool_name: The tool that must be called, where `tool_use` is required; empty for any.
        caller: For whom it is asked.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    model: str = ""
    max_output_tokens: int = 0
    max_cost_usd: float = 0.0
    effect_id: str = ""
    temperature: float | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float | None = None
    leave_out: bool = False
    cache_tools: bool = False
    cache_key: str = ""
    effort: Effort | None = None
    tool_use: ToolUse = ToolUse.AUTO
    tool_name: str = ""
    caller: Caller = field(default_factory=Caller)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer used; `cost_usd` is None where the price is not known.

    `reported` is False where the provider sent no usage; the numbers are then zero. Cached tokens, read or
    written, are part of the input; reasoning tokens are part of the output.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    reported: bool = False
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one target.

    Attributes:
        target: Its name.
        provider: Who it is.
        model: Which one was asked.
        outcome: `ok`, or what went wrong: the error's name without "Error".
        message: What went wrong; empty where nothing did.
        latency_ms: From the question to the answer, or to its end.
        started_unix_ms: When it began, by the calendar.
        usage: What it used; None where the provider did not say.
    """

    target: str
    provider: str
    model: str
    outcome: str = "ok"
    message: str = ""
    latency_ms: float = 0.0
    started_unix_ms: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A model's whole answer: text, tool calls, or both.

    `finish_reason_raw` is the provider's own word; `first_token_ms` is 0 where the answer came whole. `replayed` is
    whether it was made for another call with the same effect id, `cached` whether for an equal request. `attempts` are
    the calls of providers that were made for it, oldest first.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = FinishReason.STOP
    model: str = ""
    provider: str = ""
    latency_ms: float = 0.0
    reasoning: tuple[Reasoning, ...] = ()
    notes: tuple[Note, ...] = ()
    finish_reason_raw: str = ""
    first_token_ms: float = 0.0
    replayed: bool = False
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of an answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of a model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call; `index` joins the pieces of one call, `id` and `name` come with the first."""

    index: int
    id: str = ""
    name: str = ""
    arguments_json: str = ""


Delta = TextDelta | ReasoningDelta | ToolCallDelta


class Circuit(StrEnum):
    """Whether a target is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class TargetState:
    """Who can be asked for a model, and how it is with them now.

    Attributes:
        name: The target's.
        provider: Who it is.
        model: As the provider names it.
        order: Smaller ones are asked first.
        weight: Its share among those of one order.
        circuit: Whether it failed too often in a row.
        ejected: It failed more often than the others.
        resting_s: For so long it is not asked; 0 where it can be.
        in_flight: Calls that are under way.
        last_error: The last attempt that went wrong.
        capabilities: Of the model.
        price: Of the model; None where it is not known.
    """

    name: str
    provider: str
    model: str
    order: int = 1
    weight: float = 1.0
    circuit: Circuit = Circuit.CLOSED
    ejected: bool = False
    resting_s: float = 0.0
    in_flight: int = 0
    last_error: Attempt | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be asked and the provider that serves it, or an alias and the targets that it leads to."""

    name: str
    provider: str
    is_default: bool = False
    capabilities: Capabilities = field(default_factory=Capabilities)
    price: Price | None = None
    targets: tuple[TargetState, ...] = ()
