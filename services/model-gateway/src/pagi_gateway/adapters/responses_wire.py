"""The messages of OpenAI's Responses API, as far as the gateway uses them."""

from __future__ import annotations

from typing import Any

import msgspec

from pagi_gateway.adapters.json_wire import reader_of
from pagi_gateway.adapters.openai_wire import WireTokenDetails


class WireUsage(msgspec.Struct):
    """What an answer used."""

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    input_tokens_details: WireTokenDetails | None = None
    output_tokens_details: WireTokenDetails | None = None


class WireText(msgspec.Struct):
    """A piece of content or of a summary: output_text, refusal, summary_text."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None


class WireItem(msgspec.Struct):
    """An item of the output: message, reasoning, function_call, or what is not known yet."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[WireText] | None = None
    summary: list[WireText] | None = None
    encrypted_content: str | None = None


class WireIncomplete(msgspec.Struct):
    """Why an answer is not whole: max_output_tokens or content_filter."""

    reason: str | None = None


class WireResponse(msgspec.Struct):
    """A whole answer."""

    status: str | None = None
    model: str | None = None
    output: list[WireItem] | None = None
    usage: WireUsage | None = None
    error: Any = None
    incomplete_details: WireIncomplete | None = None


class WireEvent(msgspec.Struct):
    """One event of a stream."""

    type: str = ""
    delta: Any = None
    output_index: int = 0
    item: WireItem | None = None
    response: WireResponse | None = None
    error: Any = None
    code: Any = None
    message: Any = None


decode_response = reader_of(WireResponse)
decode_event = reader_of(WireEvent)
