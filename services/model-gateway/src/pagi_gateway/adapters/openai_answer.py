"""What OpenAI's chat messages say, in the domain's types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.json_wire import encode, whole_characters
from pagi_gateway.adapters.told_usage import told_usage
from pagi_gateway.domain.model import FinishReason, ToolCall, Usage

if TYPE_CHECKING:
    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.adapters.openai_wire import WireMessage, WireToolCall, WireUsage

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def text_of(message: WireMessage) -> str:
    """The text of a message or delta; a refusal is text too."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text or "" for part in content)
    return content or message.refusal or ""


class CallInPieces:
    """A tool call as it comes in a stream; joined when it is whole, since there may be any number of pieces.

    Args:
        number: Counts the calls before it.
        id_: Its id.
    """

    __slots__ = ("_arguments", "_names", "given_id", "id", "number", "signature")

    def __init__(self, number: int, id_: str, given_id: str) -> None:
        self.number = number
        self.id = id_
        # What the provider calls it: the same, unless that was no id of its own.
        self.given_id = given_id
        # Google's seal of what was thought before the call.
        self.signature = ""
        self._names: list[str] = []
        self._arguments: list[str] = []

    def add(self, piece: WireToolCall) -> tuple[str, str]:
        """Takes a piece in; returns what it adds to the name and to the arguments."""
        google = piece.extra_content and piece.extra_content.google
        self.signature = (google and google.thought_signature) or self.signature
        if piece.function is None:
            return "", ""
        name, arguments = piece.function.name or "", arguments_of(piece)
        self._names.append(name)
        self._arguments.append(arguments)
        return name, whole_characters(arguments)

    def whole(self) -> ToolCall:
        """All of it; missing arguments are an empty object."""
        return ToolCall(self.id, "".join(self._names), whole_characters("".join(self._arguments)) or "{}")


def arguments_of(call: WireToolCall) -> str:
    """The arguments as the model wrote them."""
    arguments = call.function.arguments if call.function else None
    return encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""


def usage_of(usage: WireUsage | None, endpoint: Endpoint) -> Usage:
    """What was used; not reported where the server sent nothing."""
    if usage is None:
        return Usage()
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    return told_usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cost_usd=usage.cost if endpoint.reports_cost else None,
        cached_input_tokens=(read and read.cached_tokens) or usage.prompt_cache_hit_tokens,
        reasoning_tokens=written.reasoning_tokens if written else None,
    )


def finish_reason_of(reason: str | None, *, has_calls: bool) -> FinishReason:
    """Why the model stopped. Some servers say "stop" after tool calls."""
    if has_calls and reason in {None, "", "stop"}:
        return FinishReason.TOOL_CALLS
    if not reason:
        return FinishReason.STOP
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)
