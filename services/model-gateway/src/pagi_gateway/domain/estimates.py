"""How many tokens a request may take, before anybody counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.content import PartKind

if TYPE_CHECKING:
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message, PlanRequest

# English has about 4 characters a token, program text 3, Chinese one token a character (3 bytes): on the safe side
# for nearly everything.
_BYTES_PER_TOKEN = 3
# Role, separators, the frame of a call.
_MESSAGE_TOKENS = 8
_TOOL_TOKENS = 16
# An image at the largest size that Anthropic and OpenAI read it at.
_IMAGE_TOKENS = 1600
# A page of a PDF (text and picture) in about 50 KB; a file behind a URL is taken for one of ten pages.
_FILE_BYTES_PER_TOKEN = 16
_LEAST_FILE_TOKENS = 1600
_FILE_URL_TOKENS = 32_000


def input_tokens_of(request: PlanRequest) -> int:
    """How many tokens the request is at most, in all likelihood."""
    tokens = sum(map(_message_tokens, request.messages))
    for tool in request.tools:
        length = _length(tool.name) + _length(tool.description) + _length(tool.parameters_schema_json)
        tokens += _TOOL_TOKENS + length // _BYTES_PER_TOKEN
    if request.response_format is not None:
        tokens += _TOOL_TOKENS + _length(request.response_format.schema_json) // _BYTES_PER_TOKEN
    return tokens


def tokens_of(text: str) -> int:
    """How many tokens a text is at most, in all likelihood."""
    return -(-_length(text) // _BYTES_PER_TOKEN)


def _message_tokens(message: Message) -> int:
    length = _length(message.text)
    for call in message.tool_calls:
        length += _length(call.name) + _length(call.arguments_json)
    for each in message.reasoning:
        length += _length(each.text) + len(each.signature)
    tokens = _MESSAGE_TOKENS * (1 + len(message.tool_calls)) + length // _BYTES_PER_TOKEN
    return tokens + sum(map(_part_tokens, message.parts))


def _part_tokens(part: Part) -> int:
    if part.kind is PartKind.TEXT:
        return tokens_of(part.text)
    if part.kind is PartKind.IMAGE:
        return _IMAGE_TOKENS
    return max(_LEAST_FILE_TOKENS, len(part.data) // _FILE_BYTES_PER_TOKEN) if part.data else _FILE_URL_TOKENS


def _length(text: str) -> int:
    """Bytes in UTF-8; without encoding where every character is one."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
