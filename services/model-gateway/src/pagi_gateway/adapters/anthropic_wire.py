"""The messages of Anthropic's Messages API, as far as the gateway uses them."""

from __future__ import annotations

from typing import Any

import msgspec

from pagi_gateway.adapters.json_wire import reader_of


class WireUsage(msgspec.Struct):
    """What an answer used; the cached tokens are not part of `input_tokens` here."""

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    cache_creation_input_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None


class WireBlock(msgspec.Struct):
    """A piece of an answer's content: text, thinking, redacted_thinking, tool_use, or what is not known yet."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class WireDelta(msgspec.Struct):
    """What a `content_block_delta` or `message_delta` brings."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class WireAnswer(msgspec.Struct):
    """A whole answer, and what `message_start` holds of one."""

    content: list[WireBlock] | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: WireUsage | None = None
    error: Any = None


class WireEvent(msgspec.Struct):
    """One event of a stream."""

    type: str = ""
    message: WireAnswer | None = None
    index: int = 0
    content_block: WireBlock | None = None
    delta: WireDelta | None = None
    usage: WireUsage | None = None
    error: Any = None


decode_answer = reader_of(WireAnswer)
decode_event = reader_of(WireEvent)
