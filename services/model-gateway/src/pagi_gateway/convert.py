"""Between the messages of `pagi.gateway.v1` and the domain's types."""

from __future__ import annotations

from collections.abc import Iterable

from pagi.gateway.v1 import gateway_pb2 as pb

from pagi_gateway.domain.capabilities import Capabilities, Price, Support
from pagi_gateway.domain.content import GiveBack, Part, PartKind, Reasoning, media_type_of
from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.model import (
    Attempt,
    Caller,
    Circuit,
    Delta,
    Effort,
    FinishReason,
    Message,
    ModelInfo,
    Note,
    NoteKind,
    Plan,
    PlanRequest,
    ReasoningDelta,
    ResponseFormat,
    Role,
    TargetState,
    TextDelta,
    ToolCall,
    ToolSpec,
    ToolUse,
    Usage,
)

_ROLES: dict[int, Role] = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_FINISH_REASONS: dict[FinishReason, pb.FinishReason.ValueType] = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
    FinishReason.OTHER: pb.FINISH_REASON_OTHER,
}
_EFFORTS: dict[int, Effort | None] = {
    pb.REASONING_EFFORT_UNSPECIFIED: None,
    pb.REASONING_EFFORT_NONE: Effort.NONE,
    pb.REASONING_EFFORT_LOW: Effort.LOW,
    pb.REASONING_EFFORT_MEDIUM: Effort.MEDIUM,
    pb.REASONING_EFFORT_HIGH: Effort.HIGH,
}
_TOOL_USES: dict[int, ToolUse] = {
    pb.ToolChoice.MODE_UNSPECIFIED: ToolUse.AUTO,
    pb.ToolChoice.MODE_AUTO: ToolUse.AUTO,
    pb.ToolChoice.MODE_NONE: ToolUse.NONE,
    pb.ToolChoice.MODE_REQUIRED: ToolUse.REQUIRED,
}
_NOTE_KINDS: dict[NoteKind, pb.Note.Kind.ValueType] = {
    NoteKind.LEFT_OUT: pb.Note.KIND_LEFT_OUT,
    NoteKind.EMULATED: pb.Note.KIND_EMULATED,
    NoteKind.LIMITED: pb.Note.KIND_LIMITED,
}
_GIVE_BACKS: dict[GiveBack, pb.GiveBack.ValueType] = {
    GiveBack.NOTHING: pb.GIVE_BACK_UNSPECIFIED,
    GiveBack.WITHOUT_TEXT: pb.GIVE_BACK_WITHOUT_TEXT,
    GiveBack.WHOLE: pb.GIVE_BACK_WHOLE,
}
_SUPPORTS: dict[Support, pb.Support.ValueType] = {
    Support.UNKNOWN: pb.SUPPORT_UNSPECIFIED,
    Support.NO: pb.SUPPORT_NO,
    Support.YES: pb.SUPPORT_YES,
    Support.EMULATED: pb.SUPPORT_EMULATED,
}
_CIRCUITS: dict[Circuit, pb.TargetState.Circuit.ValueType] = {
    Circuit.CLOSED: pb.TargetState.CIRCUIT_CLOSED,
    Circuit.OPEN: pb.TargetState.CIRCUIT_OPEN,
    Circuit.HALF_OPEN: pb.TargetState.CIRCUIT_HALF_OPEN,
}


def plan_request_from_proto(request: pb.GetPlanRequest, *, caller: Caller | None = None) -> PlanRequest:
    """Reads a request.

    Args:
        request: As it was sent.
        caller: For whom; it stands beside the message.

    Raises:
        InvalidPlanRequestError: A role is unset or unknown, or a choice is.
    """
    if request.reasoning_effort not in _EFFORTS:
        raise InvalidPlanRequestError(f"unknown effort {request.reasoning_effort}", field="reasoning_effort")
    if request.tool_choice.mode not in _TOOL_USES:
        raise InvalidPlanRequestError(f"unknown mode {request.tool_choice.mode}", field="tool_choice.mode")
    wanted = request.response_format
    return PlanRequest(
        messages=tuple([_message_from_proto(message, i) for i, message in enumerate(request.messages)]),
        tools=tuple(
            [ToolSpec(tool.name, tool.description, tool.parameters_schema_json or "{}") for tool in request.tools]
        ),
        model=request.model,
        max_output_tokens=request.limits.max_output_tokens,
        max_cost_usd=request.limits.max_cost_usd,
        effect_id=request.effect_id,
        temperature=request.temperature if request.HasField("temperature") else None,
        response_format=ResponseFormat(wanted.schema_json, wanted.name or "answer")
        if request.HasField("response_format")
        else None,
        stop=tuple(request.stop),
        seed=request.seed if request.HasField("seed") else None,
        top_p=request.top_p if request.HasField("top_p") else None,
        leave_out=request.on_unsupported == pb.ON_UNSUPPORTED_LEAVE_OUT,
        cache_tools=request.cache.tools,
        cache_key=request.cache.key,
        effort=_EFFORTS[request.reasoning_effort],
        tool_use=_TOOL_USES[request.tool_choice.mode],
        tool_name=request.tool_choice.name,
        caller=caller or Caller(),
    )


def _message_from_proto(message: pb.Message, index: int) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidPlanRequestError(
            f"unknown role {message.role}; known are SYSTEM, USER, ASSISTANT and TOOL",
            field=f"messages[{index}].role",
        )
    # Most messages are a text and nothing else: asking whether there is more takes less than going through nothing.
    return Message(
        role=role,
        text=message.text,
        tool_calls=tuple(map(_tool_call_from_proto, message.tool_calls)) if message.tool_calls else (),
        tool_call_id=message.tool_call_id,
        parts=_parts_from_proto(message.parts, index) if message.parts else (),
        reasoning=tuple(map(_reasoning_from_proto, message.reasoning)) if message.reasoning else (),
        cache=message.cache,
        is_error=message.is_error,
    )


def _tool_call_from_proto(call: pb.ToolCall) -> ToolCall:
    return ToolCall(call.id, call.name, call.arguments_json)


def _reasoning_from_proto(each: pb.Reasoning) -> Reasoning:
    # What was said of giving it back was for the caller.
    return Reasoning(
        each.text,
        each.signature,
        each.id,
        each.redacted,
        each.origin,
        text_before=each.text_before,
        calls_before=each.calls_before,
    )


def _parts_from_proto(parts: Iterable[pb.ContentPart], index: int) -> tuple[Part, ...]:
    return tuple(_part_from_proto(part, f"messages[{index}].parts[{number}]") for number, part in enumerate(parts))


def _part_from_proto(part: pb.ContentPart, where: str) -> Part:
    kind = part.WhichOneof("content")
    if kind is None:
        raise InvalidPlanRequestError("a part is a text, an image or a file; this one is nothing", field=where)
    if kind == "text":
        return Part(PartKind.TEXT, part.text)
    media = part.image if kind == "image" else part.file
    return Part(
        PartKind(kind),
        data=media.data,
        url=media.url,
        media_type=media.media_type or media_type_of(media.data),
        name=media.name,
    )


def plan_to_proto(plan: Plan) -> pb.GetPlanResponse:
    """Writes an answer."""
    return pb.GetPlanResponse(
        text=plan.text,
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json) for call in plan.tool_calls
        ],
        usage=_usage_to_proto(plan.usage),
        finish_reason=_FINISH_REASONS[plan.finish_reason],
        model=plan.model,
        provider=plan.provider,
        latency_ms=plan.latency_ms,
        reasoning=map(_reasoning_to_proto, plan.reasoning),
        notes=map(_note_to_proto, plan.notes),
        finish_reason_raw=plan.finish_reason_raw,
        first_token_ms=plan.first_token_ms,
        replayed=plan.replayed,
        cached=plan.cached,
        attempts=map(_attempt_to_proto, plan.attempts),
    )


def _reasoning_to_proto(each: Reasoning) -> pb.Reasoning:
    return pb.Reasoning(
        text=each.text,
        signature=each.signature,
        id=each.id,
        redacted=each.redacted,
        origin=each.origin,
        give_back=_GIVE_BACKS[each.give_back],
        text_before=each.text_before,
        calls_before=each.calls_before,
    )


def _attempt_to_proto(attempt: Attempt) -> pb.Attempt:
    return pb.Attempt(
        target=attempt.target,
        provider=attempt.provider,
        model=attempt.model,
        outcome=attempt.outcome,
        message=attempt.message,
        latency_ms=attempt.latency_ms,
        started_unix_ms=attempt.started_unix_ms,
        usage=None if attempt.usage is None else _usage_to_proto(attempt.usage),
    )


def broken_to_proto(outcome: str, message: str, received: Plan) -> pb.StreamPlanResponse:
    """Writes the end of a stream that broke: what went wrong, and what had come."""
    written = plan_to_proto(received)
    written.finish_reason = pb.FINISH_REASON_UNSPECIFIED
    return pb.StreamPlanResponse(broken=pb.BrokenAnswer(outcome=outcome, message=message, received=written))


def event_to_proto(event: Delta | Plan) -> pb.StreamPlanResponse:
    """Writes an event of a stream."""
    if isinstance(event, TextDelta):
        return pb.StreamPlanResponse(text_delta=event.text)
    if isinstance(event, ReasoningDelta):
        return pb.StreamPlanResponse(reasoning_delta=event.text)
    if isinstance(event, Plan):
        return pb.StreamPlanResponse(response=plan_to_proto(event))
    delta = pb.ToolCallDelta(index=event.index, id=event.id, name=event.name, arguments_json=event.arguments_json)
    return pb.StreamPlanResponse(tool_call_delta=delta)


def _note_to_proto(note: Note) -> pb.Note:
    return pb.Note(kind=_NOTE_KINDS[note.kind], field=note.field, message=note.message)


def _usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        reported=usage.reported,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def model_to_proto(model: ModelInfo) -> pb.ModelInfo:
    """Writes an entry of the list of models."""
    return pb.ModelInfo(
        name=model.name,
        provider=model.provider,
        is_default=model.is_default,
        capabilities=_capabilities_to_proto(model.capabilities),
        price=_price_to_proto(model.price) if model.price else None,
        targets=map(_target_to_proto, model.targets),
    )


def _target_to_proto(target: TargetState) -> pb.TargetState:
    failed = target.last_error
    return pb.TargetState(
        name=target.name,
        provider=target.provider,
        model=target.model,
        order=target.order,
        weight=target.weight,
        circuit=_CIRCUITS[target.circuit],
        ejected=target.ejected,
        resting_s=target.resting_s,
        in_flight=target.in_flight,
        last_error_outcome=failed.outcome if failed else "",
        last_error_message=failed.message if failed else "",
        last_error_unix_ms=int(failed.started_unix_ms + failed.latency_ms) if failed else 0,
        capabilities=_capabilities_to_proto(target.capabilities),
        price=_price_to_proto(target.price) if target.price else None,
    )


def _capabilities_to_proto(can: Capabilities) -> pb.Capabilities:
    return pb.Capabilities(
        tools=_SUPPORTS[can.tools],
        parallel_tools=_SUPPORTS[can.parallel_tools],
        images=_SUPPORTS[can.images],
        image_urls=_SUPPORTS[can.image_urls],
        files=_SUPPORTS[can.files],
        file_urls=_SUPPORTS[can.file_urls],
        response_format=_SUPPORTS[can.response_format],
        reasoning=_SUPPORTS[can.reasoning],
        temperature=_SUPPORTS[can.temperature],
        top_p=_SUPPORTS[can.top_p],
        stop=_SUPPORTS[can.stop],
        seed=_SUPPORTS[can.seed],
        cache_hints=_SUPPORTS[can.cache_hints],
        streaming=_SUPPORTS[can.streaming],
        context_tokens=can.context_tokens,
        max_output_tokens=can.max_output_tokens,
    )


def _price_to_proto(price: Price) -> pb.Price:
    return pb.Price(
        input_usd=price.input_usd,
        output_usd=price.output_usd,
        cached_input_usd=price.cached_input_usd,
        cache_write_usd=price.cache_write_usd,
    )
