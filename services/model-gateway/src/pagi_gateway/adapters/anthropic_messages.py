"""Asks by Anthropic's Messages API. Source: its API reference, version 2023-06-01."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.json_wire import encode
from pagi_gateway.domain.content import PartKind
from pagi_gateway.domain.model import Effort, Role, ToolUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.content import Part, Reasoning
    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec

VERSION = "2023-06-01"
_CACHED = {"type": "ephemeral"}
# The models that take a budget of tokens for reasoning; the newer ones take an effort.
_BY_BUDGET = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[015])?(?:-\d{8})?$)")
_BUDGETS = {Effort.LOW: 2048, Effort.MEDIUM: 8192, Effort.HIGH: 24576}
_TOOL_USES = {ToolUse.AUTO: "auto", ToolUse.NONE: "none", ToolUse.REQUIRED: "any"}


def request_body(request: PlanRequest, endpoint: Endpoint, *, stream: bool) -> bytes:
    """The body of `POST /messages`."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens or endpoint.default_output_tokens,
        "messages": _turns(request.messages),
    }
    if system := _system(request.messages):
        body["system"] = system
    if request.tools:
        body["tools"] = _tools(request)
        if request.tool_use is not ToolUse.AUTO:
            body["tool_choice"] = _tool_choice(request)
    body |= {
        name: value
        for name, value in (("temperature", request.temperature), ("top_p", request.top_p))
        if value is not None
    }
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.effort not in {None, Effort.NONE}:
        _reason(body, request)
    if stream:
        body["stream"] = True
    return encode(body)


def _reason(body: dict[str, Any], request: PlanRequest) -> None:
    assert request.effort is not None
    if _BY_BUDGET.match(request.model):
        budget = _BUDGETS[request.effort]
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        # The limit counts the reasoning too.
        body["max_tokens"] += budget
    else:
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": request.effort.value}


def _system(messages: Sequence[Message]) -> str | list[dict[str, Any]]:
    """The system messages, wherever they stand: the API has one place for them."""
    blocks: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            text = "".join([message.text, *(part.text for part in message.parts)])
            if text:
                blocks.append({"type": "text", "text": text})
            if message.cache and blocks:
                blocks[-1]["cache_control"] = _CACHED
    if len(blocks) == 1 and "cache_control" not in blocks[0]:
        only: str = blocks[0]["text"]
        return only
    return blocks


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """User and assistant take turns here: what one says in a row is one message."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message)
        if message.cache and blocks:
            blocks[-1]["cache_control"] = _CACHED
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        return [_result(message)]
    blocks = [_reasoning(each) for each in message.reasoning if each.signature]
    # An empty text is refused.
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    blocks += [_part(part) for part in message.parts if part.kind is not PartKind.TEXT or part.text]
    for call in message.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments_json)})
    return blocks


def _result(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    if message.parts:
        first = [{"type": "text", "text": message.text}] if message.text else []
        result["content"] = [*first, *map(_part, message.parts)]
    else:
        result["content"] = message.text
    if message.is_error:
        result["is_error"] = True
    return result


def _input(arguments_json: str) -> Any:
    """The arguments as an object: what the model wrote wrongly in an earlier turn goes back as text in one."""
    try:
        value = msgspec.json.decode(arguments_json)
    except (msgspec.DecodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"not_json": arguments_json}


def _reasoning(reasoning: Reasoning) -> dict[str, Any]:
    if reasoning.redacted:
        return {"type": "redacted_thinking", "data": reasoning.signature}
    return {"type": "thinking", "thinking": reasoning.text, "signature": reasoning.signature}


def _part(part: Part) -> dict[str, Any]:
    if part.kind is PartKind.TEXT:
        return {"type": "text", "text": part.text}
    kind = "image" if part.kind is PartKind.IMAGE else "document"
    block: dict[str, Any] = {"type": kind, "source": _source(part)}
    if kind == "document" and part.name:
        block["title"] = part.name
    return block


def _source(part: Part) -> dict[str, Any]:
    if part.url:
        return {"type": "url", "url": part.url}
    if part.kind is PartKind.FILE and part.media_type.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": part.data.decode("utf-8", "replace")}
    return {"type": "base64", "media_type": part.media_type, "data": b64encode(part.data).decode()}


def _tools(request: PlanRequest) -> list[dict[str, Any]]:
    tools = [_tool(each) for each in request.tools]
    if request.cache_tools:
        tools[-1]["cache_control"] = _CACHED
    return tools


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = msgspec.json.decode(tool.parameters_schema_json)
    # The API insists on the type, which a schema may leave unsaid.
    return {"name": tool.name, "description": tool.description, "input_schema": {"type": "object", **schema}}


def _tool_choice(request: PlanRequest) -> dict[str, Any]:
    if request.tool_use is ToolUse.REQUIRED and request.tool_name:
        return {"type": "tool", "name": request.tool_name}
    return {"type": _TOOL_USES[request.tool_use]}
