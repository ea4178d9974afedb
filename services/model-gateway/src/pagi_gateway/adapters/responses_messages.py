"""Asks by OpenAI's Responses API. Source: its API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.json_wire import encode
from pagi_gateway.adapters.openai_messages import data_url
from pagi_gateway.domain.content import PartKind, Reasoning
from pagi_gateway.domain.model import Role, ToolCall, ToolUse
from pagi_gateway.domain.reasoning import in_order, own_reasoning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec


def request_body(request: PlanRequest, endpoint: Endpoint, *, reasons: bool, stream: bool) -> bytes:
    """The body of `POST /responses`. Nothing is kept at the provider: each request holds its whole conversation.

    Args:
        request: What is asked.
        endpoint: Who is asked.
        reasons: Whether the model reasons; one that does not refuses to be asked for its reasoning.
        stream: Whether the answer shall come in events.
    """
    origin = endpoint.origin(request.model)
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in _items(message, origin)],
        "store": False,
    }
    if reasons:
        body["include"] = ["reasoning.encrypted_content"]
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
        if request.tool_use is not ToolUse.AUTO:
            body["tool_choice"] = _tool_choice(request)
    given: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_output_tokens": request.max_output_tokens or None,
        "prompt_cache_key": request.cache_key or None,
        "reasoning": {"effort": request.effort.value, "summary": "auto"} if request.effort else None,
        "stream": stream or None,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    if request.response_format is not None:
        schema = msgspec.Raw(request.response_format.schema_json.encode())
        name = request.response_format.name
        body["text"] = {"format": {"type": "json_schema", "name": name, "schema": schema, "strict": False}}
    return encode(body)


def _items(message: Message, origin: str) -> Iterator[dict[str, Any]]:
    if message.role is Role.TOOL:
        output: Any = message.text
        if message.parts:
            output = [*([_input_text(message.text)] if message.text else []), *map(_part, message.parts)]
        yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
    elif message.role is Role.ASSISTANT:
        # What is not stored there has to come with its content.
        sealed = [each for each in own_reasoning(message, origin) if each.signature and each.id]
        yield from map(_said, in_order(message, sealed))
    elif message.parts:
        first = [_input_text(message.text)] if message.text else []
        yield {"role": message.role.value, "content": [*first, *map(_part, message.parts)]}
    else:
        yield {"role": message.role.value, "content": message.text}


def _said(each: Reasoning | str | ToolCall) -> dict[str, Any]:
    if isinstance(each, str):
        return {"role": "assistant", "content": each}
    if isinstance(each, ToolCall):
        return {"type": "function_call", "call_id": each.id, "name": each.name, "arguments": each.arguments_json}
    summary = [{"type": "summary_text", "text": each.text}] if each.text else []
    return {"type": "reasoning", "id": each.id, "summary": summary, "encrypted_content": each.signature}


def _input_text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _part(part: Part) -> dict[str, Any]:
    if part.kind is PartKind.TEXT:
        return _input_text(part.text)
    if part.kind is PartKind.IMAGE:
        return {"type": "input_image", "image_url": data_url(part)}
    if part.url:
        return {"type": "input_file", "file_url": part.url}
    return {"type": "input_file", "filename": part.name or "file", "file_data": data_url(part)}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = msgspec.Raw(tool.parameters_schema_json.encode())
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": schema,
        # The strict kind takes only a subset of JSON Schema.
        "strict": False,
    }


def _tool_choice(request: PlanRequest) -> Any:
    if request.tool_use is ToolUse.REQUIRED and request.tool_name:
        return {"type": "function", "name": request.tool_name}
    return request.tool_use.value
