"""Between the messages of `pagi.gateway.v1` and the domain's types."""

from __future__ import annotations

from pagi.gateway.v1 import gateway_pb2 as pb

from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.model import (
    FinishReason,
    Message,
    ModelInfo,
    Plan,
    PlanRequest,
    Role,
    ToolCall,
    ToolSpec,
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


def plan_request_from_proto(request: pb.GetPlanRequest) -> PlanRequest:
    """Reads a request.

    Raises:
        InvalidPlanRequestError: A role is unset or unknown.
    """
    return PlanRequest(
        messages=tuple(_message_from_proto(message, i) for i, message in enumerate(request.messages)),
        tools=tuple(
            ToolSpec(tool.name, tool.description, tool.parameters_schema_json or "{}") for tool in request.tools
        ),
        model=request.model,
        max_output_tokens=request.limits.max_output_tokens,
        max_cost_usd=request.limits.max_cost_usd,
        effect_id=request.effect_id,
        temperature=request.temperature if request.HasField("temperature") else None,
    )


def _message_from_proto(message: pb.Message, index: int) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidPlanRequestError(
            f"unknown role {message.role}; known are SYSTEM, USER, ASSISTANT and TOOL",
            field=f"messages[{index}].role",
        )
    return Message(
        role=role,
        text=message.text,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
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
    )


def _usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        reported=usage.reported,
    )


def model_to_proto(model: ModelInfo) -> pb.ModelInfo:
    """Writes an entry of the list of models."""
    return pb.ModelInfo(name=model.name, provider=model.provider, is_default=model.is_default)
