"""Between the domain's types and OpenAI's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.openai_wire import WireToolCall, encode, whole_characters
from pagi_gateway.domain.model import FinishReason, Role, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagi_gateway.adapters.openai_endpoint import Endpoint
    from pagi_gateway.adapters.openai_wire import WireMessage, WireUsage
    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def request_body(request: PlanRequest, endpoint: Endpoint, *, stream: bool) -> bytes:
    """The body of `POST /chat/completions`."""
    body: dict[str, Any] = {"model": request.model, "messages": [_message(each) for each in request.messages]}
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_output_tokens:
        body[endpoint.output_limit_name] = request.max_output_tokens
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return encode(body)


def _message(message: Message) -> dict[str, Any]:
    if message.role is Role.TOOL:
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}
    if not message.tool_calls:
        return {"role": message.role.value, "content": message.text}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
        for call in message.tool_calls
    ]
    return {"role": message.role.value, "content": message.text or None, "tool_calls": calls}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    # The schema was checked to be JSON, so it goes in as it was written.
    schema = msgspec.Raw(tool.parameters_schema_json.encode())
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": schema},
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
    cost = usage.cost if endpoint.reports_cost else None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cost, reported=True)


def finish_reason_of(reason: str | None, *, has_calls: bool) -> FinishReason:
    """Why the model stopped. Some servers say "stop" after tool calls."""
    if has_calls and reason in {None, "", "stop"}:
        return FinishReason.TOOL_CALLS
    if not reason:
        return FinishReason.STOP
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)
