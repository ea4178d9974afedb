"""Between the domain's types and Pydantic AI's messages, of which each of its model classes makes its provider's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from pagi_gateway.adapters.json_wire import encode, mended, whole_characters
from pagi_gateway.adapters.told_usage import told_usage
from pagi_gateway.domain.call_ids import OwnIds
from pagi_gateway.domain.content import GiveBack, PartKind, Reasoning
from pagi_gateway.domain.model import Effort, FinishReason, Plan, Role, ToolCall, ToolUse, Usage
from pagi_gateway.domain.reasoning import in_order, own_reasoning, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_ai.messages import ModelRequestPart, ModelResponsePart, UserContent

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message, PlanRequest

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_call": FinishReason.TOOL_CALLS,
}


def messages_of(request: PlanRequest, endpoint: Endpoint, *, takes_thoughts: bool) -> list[ModelMessage]:
    """The conversation: what is not the assistant's is put together into one request.

    Args:
        request: What is asked.
        endpoint: Of whom.
        takes_thoughts: Whether the library sends reasoning back; else it would have the model read it as its own words.
    """
    provider, origin = endpoint.provider, endpoint.origin(request.model) if takes_thoughts else None
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    made: list[ModelMessage] = []
    waiting: list[ModelRequestPart] = []
    for message in request.messages:
        if message.role is not Role.ASSISTANT:
            waiting += _asked(message, names)
            continue
        if waiting:
            made.append(ModelRequest(waiting))
            waiting = []
        made.append(ModelResponse(_answered(message, provider, origin), provider_name=provider))
    return [*made, ModelRequest(waiting)] if waiting else made


def _asked(message: Message, names: dict[str, str]) -> list[ModelRequestPart]:
    if message.role is Role.SYSTEM:
        return [SystemPromptPart(text_of(message))]
    shown: list[UserContent] = [_content(part) for part in message.parts]
    if message.role is Role.TOOL:
        name = names.get(message.tool_call_id, "")
        result = ToolReturnPart(
            name, message.text, message.tool_call_id, outcome="failed" if message.is_error else "success"
        )
        return [result, UserPromptPart(shown)] if shown else [result]
    if not shown:
        return [UserPromptPart(message.text)]
    return [UserPromptPart([message.text, *shown] if message.text else shown)]


def _answered(message: Message, provider: str, origin: str | None) -> list[ModelResponsePart]:
    own = [] if origin is None else own_reasoning(message, origin)
    signed = [each for each in own if each.signature]
    return [_said(each, provider) for each in in_order(message, signed)]


def _said(each: Reasoning | str | ToolCall, provider: str) -> ModelResponsePart:
    if isinstance(each, str):
        return TextPart(each)
    if isinstance(each, ToolCall):
        return ToolCallPart(each.name, each.arguments_json, each.id)
    return ThinkingPart(each.text, id=each.id or None, signature=each.signature, provider_name=provider)


def _content(part: Part) -> UserContent:
    if part.kind is PartKind.TEXT:
        return part.text
    if part.data:
        return BinaryContent(part.data, media_type=part.media_type, identifier=part.name or None)
    kind = ImageUrl if part.kind is PartKind.IMAGE else DocumentUrl
    return kind(part.url, media_type=part.media_type or None)


def settings_of(request: PlanRequest) -> ModelSettings:
    """What the request sets, and nothing else."""
    given: dict[str, Any] = {
        "max_tokens": request.max_output_tokens or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop_sequences": list(request.stop) or None,
    }
    if request.tools and request.tool_use is not ToolUse.AUTO:
        given["tool_choice"] = [request.tool_name] if request.tool_name else request.tool_use.value
    if request.effort is not None:
        given["thinking"] = False if request.effort is Effort.NONE else request.effort.value
    return cast("ModelSettings", {name: value for name, value in given.items() if value is not None})


def parameters_of(request: PlanRequest) -> ModelRequestParameters:
    """The tools."""
    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=msgspec.json.decode(tool.parameters_schema_json),
                strict=False,
            )
            for tool in request.tools
        ]
    )


def plan_of(
    response: ModelResponse, request: PlanRequest, endpoint: Endpoint, ids: Iterator[str], *, takes_thoughts: bool
) -> Plan:
    """The whole answer."""
    own = OwnIds(ids)
    calls = tuple(
        ToolCall(own.of(whole_characters(part.tool_call_id)), whole_characters(part.tool_name), arguments_of(part))
        for part in response.parts
        if isinstance(part, ToolCallPart)
    )
    reason, raw = response.finish_reason, raw_reason(response)
    return Plan(
        text=_joined(response.parts),
        tool_calls=calls,
        usage=_usage_of(response),
        finish_reason=_finish_reason(reason or raw or None, has_calls=bool(calls)),
        finish_reason_raw=raw,
        model=response.model_name or request.model,
        provider=endpoint.provider,
        reasoning=tuple(_reasoning(response.parts, endpoint.origin(request.model), takes_thoughts=takes_thoughts)),
    )


def _reasoning(parts: Sequence[ModelResponsePart], origin: str, *, takes_thoughts: bool) -> Iterator[Reasoning]:
    """What was thought, each with its place between texts and calls."""
    said = called = 0
    for part in parts:
        if isinstance(part, TextPart):
            said += len(part.content)
        elif isinstance(part, ToolCallPart):
            called += 1
        elif isinstance(part, ThinkingPart):
            yield Reasoning(
                whole_characters(part.content),
                whole_characters(part.signature or ""),
                part.id or "",
                redacted=not part.content,
                origin=origin,
                give_back=GiveBack.WHOLE if part.signature and takes_thoughts else GiveBack.NOTHING,
                text_before=said,
                calls_before=called,
            )


def raw_reason(response: ModelResponse) -> str:
    """Why the model stopped, in the provider's own word; empty where it did not say, so that the answer was cut."""
    return str((response.provider_details or {}).get("finish_reason") or response.finish_reason or "")


def arguments_of(part: ToolCallPart) -> str:
    """As the model wrote them: the library would wrap what is not JSON."""
    if isinstance(part.args, str):
        return whole_characters(part.args)
    return encode(mended(part.args, foreign=True)).decode() if part.args else "{}"


def _joined(parts: Sequence[ModelResponsePart]) -> str:
    return whole_characters("".join(part.content for part in parts if isinstance(part, TextPart)))


def _finish_reason(reason: str | None, *, has_calls: bool) -> FinishReason:
    if reason is None:
        return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)


def _usage_of(response: ModelResponse) -> Usage:
    usage = response.usage
    if not usage.input_tokens and not usage.output_tokens:
        return Usage()
    return told_usage(
        usage.input_tokens,
        usage.output_tokens,
        cached_input_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
