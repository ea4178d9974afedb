"""What OpenAI's chat messages say, in the domain's types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.json_wire import encode, whole_characters
from pagi_gateway.domain.model import FinishReason, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def calls_of(calls: Iterable[WireToolCall], ids: Iterator[str]) -> tuple[ToolCall, ...]:
    """The tool calls; a missing id is made, missing arguments are an empty object."""
    return tuple(
        ToolCall(call.id or next(ids), call.function.name or "", whole_characters(arguments_of(call)) or "{}")
        for call in calls
        if call.function is not None
    )


def arguments_of(call: WireToolCall) -> str:
    """The arguments as the model wrote them."""
    arguments = call.function.arguments if call.function else None
    return encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""


def usage_of(usage: WireUsage | None, endpoint: Endpoint) -> Usage:
    """What was used; not reported where the server sent nothing."""
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return Usage()
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        usage.cost if endpoint.reports_cost else None,
        reported=True,
        cached_input_tokens=(read and read.cached_tokens) or usage.prompt_cache_hit_tokens or 0,
        reasoning_tokens=(written and written.reasoning_tokens) or 0,
    )


def finish_reason_of(reason: str | None, *, has_calls: bool) -> FinishReason:
    """Why the model stopped. Some servers say "stop" after tool calls."""
    if has_calls and reason in {None, "", "stop"}:
        return FinishReason.TOOL_CALLS
    if not reason:
        return FinishReason.STOP
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)
