"""Which requests can be asked of a model at all; every fault names its field."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.model import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec


def check_request(request: PlanRequest) -> None:
    """Checks what every provider would stumble over.

    Raises:
        InvalidPlanRequestError: With the field, written as in the proto (`messages[2].tool_call_id`).
    """
    _check_messages(request.messages)
    _check_tools(request.tools)
    _check_limits(request)


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidPlanRequestError("a plan needs at least one message", field="messages")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role is Role.TOOL:
            _check_result(message, open_calls, where)
        elif message.tool_call_id:
            raise InvalidPlanRequestError(
                f"only a tool message answers a call, this one is from the {message.role}",
                field=f"{where}.tool_call_id",
            )
        if message.tool_calls:
            _check_calls(message, open_calls, where)


def _check_result(message: Message, open_calls: set[str], where: str) -> None:
    if message.tool_call_id not in open_calls:
        raise InvalidPlanRequestError(
            f"tool result for the call {message.tool_call_id!r}, but no assistant message before it"
            " made that call, or it was answered already",
            field=f"{where}.tool_call_id",
        )
    open_calls.discard(message.tool_call_id)


def _check_calls(message: Message, open_calls: set[str], where: str) -> None:
    if message.role is not Role.ASSISTANT:
        raise InvalidPlanRequestError(
            f"only an assistant message calls tools, this one is from the {message.role}",
            field=f"{where}.tool_calls",
        )
    for index, call in enumerate(message.tool_calls):
        if not call.name:
            raise InvalidPlanRequestError(
                "a tool call needs the tool's name", field=f"{where}.tool_calls[{index}].name"
            )
        if not call.id or call.id in open_calls:
            raise InvalidPlanRequestError(
                f"a tool call needs an id of its own, this one is {call.id!r}",
                field=f"{where}.tool_calls[{index}].id",
            )
        open_calls.add(call.id)


def _check_tools(tools: Sequence[ToolSpec]) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if not tool.name:
            raise InvalidPlanRequestError("a tool needs a name", field=f"{where}.name")
        if tool.name in seen:
            raise InvalidPlanRequestError(f"two tools are named {tool.name!r}", field=f"{where}.name")
        seen.add(tool.name)
        _check_schema(tool, f"{where}.parameters_schema_json")


def _check_schema(tool: ToolSpec, field: str) -> None:
    try:
        schema = json.loads(tool.parameters_schema_json)
    except (ValueError, RecursionError) as error:
        raise InvalidPlanRequestError(
            f"the schema of the tool {tool.name!r} is not JSON: {error}", field=field
        ) from error
    if not isinstance(schema, dict):
        raise InvalidPlanRequestError(
            f"the schema of the tool {tool.name!r} must be a JSON object, it is {type(schema).__name__}",
            field=field,
        )


def _check_limits(request: PlanRequest) -> None:
    temperature = request.temperature
    if temperature is not None and not (math.isfinite(temperature) and temperature >= 0):
        raise InvalidPlanRequestError(
            f"the temperature must be a number from 0 up, not {temperature}", field="temperature"
        )
    if request.max_output_tokens < 0:
        raise InvalidPlanRequestError(
            f"the limit must be 0 (none) or more, not {request.max_output_tokens}",
            field="limits.max_output_tokens",
        )
    if not (math.isfinite(request.max_cost_usd) and request.max_cost_usd >= 0):
        raise InvalidPlanRequestError(
            f"the limit must be 0 (none) or more, not {request.max_cost_usd}", field="limits.max_cost_usd"
        )
