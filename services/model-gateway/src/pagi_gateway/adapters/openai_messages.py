"""Between the domain's types and OpenAI's chat messages."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.json_wire import encode
from pagi_gateway.adapters.openai_reasoning import give_back
from pagi_gateway.domain.content import PartKind
from pagi_gateway.domain.model import Effort, Role, ToolUse
from pagi_gateway.domain.reasoning import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec


def request_body(request: PlanRequest, endpoint: Endpoint, *, stream: bool) -> bytes:
    """The body of `POST /chat/completions`."""
    messages = list(_messages(request.messages, endpoint, request.model))
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
        if request.tool_use is not ToolUse.AUTO:
            body["tool_choice"] = _tool_choice(request)
    if request.max_output_tokens:
        body[endpoint.output_limit_name] = request.max_output_tokens
    body |= _generation(request, endpoint)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return encode(body)


def _generation(request: PlanRequest, endpoint: Endpoint) -> dict[str, Any]:
    set_: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}
    members = {name: value for name, value in set_.items() if value is not None}
    if request.stop:
        members["stop"] = list(request.stop)
    if request.response_format is not None:
        members["response_format"] = _response_format(request.response_format.name, request.response_format.schema_json)
    if request.cache_key and endpoint.takes_cache_key:
        members["prompt_cache_key"] = request.cache_key
    if request.effort is not None:
        members |= _effort(request.effort, endpoint.provider)
    return members


def _response_format(name: str, schema_json: str) -> dict[str, Any]:
    # Not `strict`: that takes only a subset of JSON Schema; the gateway checks the answer itself.
    return {"type": "json_schema", "json_schema": {"name": name, "schema": msgspec.Raw(schema_json.encode())}}


def _effort(effort: Effort, provider: str) -> dict[str, Any]:
    """Each server has a member of its own for it."""
    if provider == "openrouter":
        return {"reasoning": {"enabled": False} if effort is Effort.NONE else {"effort": effort.value}}
    if provider == "qwen":
        return {"enable_thinking": effort is not Effort.NONE}
    if provider == "deepseek":
        return {"thinking": {"type": "disabled" if effort is Effort.NONE else "enabled"}}
    return {"reasoning_effort": effort.value}


def _tool_choice(request: PlanRequest) -> Any:
    if request.tool_use is ToolUse.REQUIRED and request.tool_name:
        return {"type": "function", "function": {"name": request.tool_name}}
    return request.tool_use.value


def _messages(messages: Sequence[Message], endpoint: Endpoint, model: str) -> Iterator[dict[str, Any]]:
    shown: list[Part] = []
    loops = False
    for message in messages:
        if message.role is Role.TOOL:
            loops = True
            yield {"role": "tool", "tool_call_id": message.tool_call_id, "content": text_of(message)}
            shown += [part for part in message.parts if part.kind is not PartKind.TEXT]
            continue
        if shown:
            yield _shown(shown)
            shown = []
        yield _message(message, endpoint, model, loops=loops)
        loops = False
    if shown:
        yield _shown(shown)


def _shown(parts: list[Part]) -> dict[str, Any]:
    """What tools showed besides text: a tool's message carries text only, so the user shows it."""
    return {"role": "user", "content": [_text_part("The tools' results show:"), *map(_part, parts)]}


def _message(message: Message, endpoint: Endpoint, model: str, *, loops: bool) -> dict[str, Any]:
    if message.role is not Role.ASSISTANT:
        if not message.parts:
            return {"role": message.role.value, "content": message.text}
        first = [_text_part(message.text)] if message.text else []
        return {"role": message.role.value, "content": [*first, *map(_part, message.parts)]}
    text = text_of(message)
    written: dict[str, Any] = {"role": "assistant", "content": text or None if message.tool_calls else text}
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    if loops or message.tool_calls:
        give_back(message, written, endpoint, model)
    return written


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _part(part: Part) -> dict[str, Any]:
    if part.kind is PartKind.TEXT:
        return _text_part(part.text)
    if part.kind is PartKind.IMAGE:
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    return {"type": "file", "file": {"filename": part.name or "file", "file_data": data_url(part)}}


def data_url(part: Part) -> str:
    """The URL of a part, or its bytes as one (RFC 2397)."""
    return part.url or f"data:{part.media_type};base64,{b64encode(part.data).decode()}"


def _tool(tool: ToolSpec) -> dict[str, Any]:
    # The schema was checked to be JSON, so it goes in as it was written.
    schema = msgspec.Raw(tool.parameters_schema_json.encode())
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": schema},
    }
