"""The messages of OpenAI's chat completions API, as far as the gateway uses them.

Source: the API reference of chat completions, and what other servers were seen to send in its place: a list
of parts as content, tool arguments as an object, tool calls without id or index.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pagi_gateway.adapters.json_wire import reader_of


class WireFunction(msgspec.Struct, omit_defaults=True):
    """A function that is called; in a stream, a piece of it."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class WireGoogle(msgspec.Struct):
    """What Google adds to a call: its model's reasoning, sealed."""

    thought_signature: str | None = None


class WireExtra(msgspec.Struct):
    """What providers add to a call."""

    google: WireGoogle | None = None


class WireToolCall(msgspec.Struct, omit_defaults=True):
    """A tool call; `index` joins its pieces in a stream."""

    id: str | None = None
    type: str | None = None
    function: WireFunction | None = None
    index: int | None = None
    extra_content: WireExtra | None = None


class WirePart(msgspec.Struct):
    """A part of a message's content; only text is read."""

    type: str = ""
    text: str | None = None


class WireMessage(msgspec.Struct):
    """An assistant message, whole or as a delta; reasoning is DeepSeek's, Qwen's and OpenRouter's.

    `reasoning_details` is what OpenRouter wants back of it.
    """

    content: str | list[WirePart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[WireToolCall] | None = None


class WireChoice(msgspec.Struct):
    """One of the answers; only the first is asked for."""

    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: str | None = None


class WireTokenDetails(msgspec.Struct):
    """What tokens were spent on."""

    cached_tokens: int | float | None = None
    reasoning_tokens: int | float | None = None


class WireUsage(msgspec.Struct):
    """What an answer used; `cost` is OpenRouter's, `prompt_cache_hit_tokens` DeepSeek's."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    cost: float | None = None
    prompt_tokens_details: WireTokenDetails | None = None
    completion_tokens_details: WireTokenDetails | None = None
    prompt_cache_hit_tokens: int | float | None = None


class WireAnswer(msgspec.Struct):
    """A whole answer, or one event of a stream. `error` is how some servers break off a stream."""

    choices: list[WireChoice] | None = None
    model: str | None = None
    usage: WireUsage | None = None
    error: Any = None


class WireModel(msgspec.Struct):
    """An entry of the list of models."""

    id: str


class WireModels(msgspec.Struct):
    """The list of models."""

    data: list[WireModel] | None = None


decode_answer = reader_of(WireAnswer)
decode_models = msgspec.json.Decoder(WireModels).decode
