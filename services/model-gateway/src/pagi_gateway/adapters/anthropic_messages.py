"""Asks by Anthropic's Messages API. Source: its API reference, version 2023-06-01."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.json_wire import encode
from pagi_gateway.domain.content import PartKind, Reasoning
from pagi_gateway.domain.model import Effort, Role, ToolCall, ToolUse
from pagi_gateway.domain.reasoning import in_order, own_reasoning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec

VERSION = "2023-06-01"
_CACHED = {"type": "ephemeral"}
# The models that take a budget of tokens for reasoning; the newer ones take an effort.
_BY_BUDGET = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[015])?(?:-\d{8})?$)")
_BUDGETS = {Effort.LOW: 2048, Effort.MEDIUM: 8192, Effort.HIGH: 24576}
# The models that take their reasoning back only behind what stood before it then (from 5.1 on, "preserved thinking").
_BINDING = re.compile(r"claude-[a-z]+-(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
_FIRST_BINDING = (5, 1)
# A conversation is compacted, its plan and its tools change: what does not fit any more is to be dropped, not refused.
_DROP_UNBOUND = {"block_binding": {"prefix_mismatch_behavior": "drop_block"}}
BINDING_HEADERS = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
_THOUGHTS = {"thinking", "redacted_thinking"}
_TOOL_USES = {ToolUse.AUTO: "auto", ToolUse.NONE: "none", ToolUse.REQUIRED: "any"}


def request_body(request: PlanRequest, endpoint: Endpoint, *, stream: bool) -> bytes:
    """The body of `POST /messages`."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens or endpoint.default_output_tokens,
        "messages": _turns(request.messages, endpoint.origin(request.model)),
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
    if gives_back(request):
        body["thinking"] = {"type": "adaptive", **_DROP_UNBOUND}
    if stream:
        body["stream"] = True
    return encode(body)


def gives_back(request: PlanRequest) -> bool:
    """Whether reasoning goes back to a model that binds it to what stood before it; `BINDING_HEADERS` go with it."""
    return _binds(request.model) and any(message.reasoning for message in request.messages)


@lru_cache(maxsize=256)
def _binds(model: str) -> bool:
    version = _BINDING.match(model)
    return version is not None and (int(version[1]), int(version[2] or 0)) >= _FIRST_BINDING


def _reason(body: dict[str, Any], request: PlanRequest) -> None:
    assert request.effort is not None
    if _BY_BUDGET.match(request.model):
        if _is_unthought(body["messages"]):
            return
        budget = _BUDGETS[request.effort]
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        # The limit counts the reasoning too.
        body["max_tokens"] += budget
    else:
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": request.effort.value}


def _is_unthought(turns: list[dict[str, Any]]) -> bool:
    """Whether tools are being answered that were called without reasoning, by another model: then there can be none."""
    if len(turns) < 2 or not any(block["type"] == "tool_result" for block in turns[-1]["content"]):
        return False
    return turns[-2]["content"][0]["type"] not in _THOUGHTS


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


def _turns(messages: Sequence[Message], origin: str) -> list[dict[str, Any]]:
    """User and assistant take turns here: what one says in a row is one message."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message, origin)
        if message.cache and blocks:
            blocks[-1]["cache_control"] = _CACHED
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, origin: str) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        return [_result(message)]
    if message.reasoning:
        signed = [each for each in own_reasoning(message, origin) if each.signature]
        # Between two thoughts a model may say nothing but a line break, which is refused.
        said = [each for each in in_order(message, signed) if not isinstance(each, str) or each.strip()]
        return [_said(each) for each in said]
    # An empty text is refused.
    blocks = [_said(message.text)] if message.text else []
    blocks += [_part(part) for part in message.parts if part.kind is not PartKind.TEXT or part.text]
    blocks += [_said(call) for call in message.tool_calls]
    return blocks


def _said(each: Reasoning | str | ToolCall) -> dict[str, Any]:
    if isinstance(each, str):
        return {"type": "text", "text": each}
    if isinstance(each, ToolCall):
        return {"type": "tool_use", "id": each.id, "name": each.name, "input": _input(each.arguments_json)}
    if each.redacted:
        return {"type": "redacted_thinking", "data": each.signature}
    return {"type": "thinking", "thinking": each.text, "signature": each.signature}


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
