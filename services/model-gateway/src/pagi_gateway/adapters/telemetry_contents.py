"""What a GenAI span says of a question and its answer, by the OpenTelemetry conventions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pagi_gateway.domain.content import PartKind

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from pagi_gateway.domain.model import Message, Plan, PlanRequest, ToolCall

# An exporter drops a span that is too large; who wants all of it reads the journal.
_LONGEST = 16_384


def answer_attributes(plan: Plan) -> dict[str, AttributeValue]:
    """What a span says of an answer without telling it."""
    usage = plan.usage
    attributes: dict[str, AttributeValue] = {
        "gen_ai.response.model": plan.model,
        "gen_ai.response.finish_reasons": (plan.finish_reason.value,),
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    if usage.cached_input_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_input_tokens
    if usage.cache_write_tokens:
        attributes["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
    if usage.cost_usd is not None:
        attributes["pagi.cost_usd"] = usage.cost_usd
    return attributes


def input_messages(request: PlanRequest) -> str:
    """The conversation as JSON, the newest of it where it is long; of images and files only what they are."""
    kept: list[dict[str, Any]] = []
    size = 0
    for message in reversed(request.messages):
        written = {"role": message.role.value, "parts": _parts(message)}
        size += len(json.dumps(written))
        if size > _LONGEST and kept:
            break
        kept.append(written)
    return json.dumps(kept[::-1], ensure_ascii=False)


def output_messages(plan: Plan) -> str:
    """The answer as JSON."""
    parts = [{"type": "text", "content": plan.text[:_LONGEST]}] if plan.text else []
    finished = {"role": "assistant", "parts": [*parts, *map(_call, plan.tool_calls)]}
    return json.dumps([{**finished, "finish_reason": plan.finish_reason.value}], ensure_ascii=False)


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.tool_call_id:
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.text[:_LONGEST]}]
    parts: list[dict[str, Any]] = [{"type": "text", "content": message.text[:_LONGEST]}] if message.text else []
    for part in message.parts:
        if part.kind is PartKind.TEXT:
            parts.append({"type": "text", "content": part.text[:_LONGEST]})
        else:
            parts.append({"type": "blob", "modality": part.kind.value, "mime_type": part.media_type})
    return [*parts, *map(_call, message.tool_calls)]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments_json[:_LONGEST]}
