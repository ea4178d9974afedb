"""Which requests can be asked of a model at all; every fault names its field."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.model import Role, ToolUse
from pagi_gateway.domain.parts import check_parts
from pagi_gateway.domain.schemas import SchemaError, schema_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Message, PlanRequest, ToolSpec

# More than any model reads; a run that gets here has lost its way.
MOST_MESSAGES = 5000
_FORMAT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_request(request: PlanRequest) -> None:
    """Checks what every provider would stumble over.

    Raises:
        InvalidPlanRequestError: With the field, written as in the proto (`messages[2].tool_call_id`).
    """
    _check_messages(request.messages)
    _check_tools(request.tools)
    _check_tool_use(request)
    _check_format(request)
    _check_limits(request)
    _check_sampling(request)


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidPlanRequestError("a plan needs at least one message", field="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidPlanRequestError(
            f"a plan takes at most {MOST_MESSAGES} messages, this one has {len(messages)}; leave out the oldest",
            field="messages",
        )
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
        if message.parts:
            check_parts(message, where)


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
        schema_of(tool.parameters_schema_json)
    except SchemaError as error:
        raise InvalidPlanRequestError(f"the schema of the tool {tool.name!r} {error}", field=field) from error


def _check_tool_use(request: PlanRequest) -> None:
    if request.tool_use is ToolUse.REQUIRED and not request.tools:
        raise InvalidPlanRequestError("a tool must be called, but there are none", field="tool_choice.mode")
    if request.tool_name and request.tool_name not in {tool.name for tool in request.tools}:
        raise InvalidPlanRequestError(
            f"no tool is named {request.tool_name!r}, which must be called", field="tool_choice.name"
        )


def _check_format(request: PlanRequest) -> None:
    wanted = request.response_format
    if wanted is None:
        return
    if not _FORMAT_NAME.fullmatch(wanted.name):
        raise InvalidPlanRequestError(
            f"the name must be letters, digits, _ and -, at most 64, not {wanted.name!r}", field="response_format.name"
        )
    try:
        schema_of(wanted.schema_json)
    except SchemaError as error:
        raise InvalidPlanRequestError(f"the schema {error}", field="response_format.schema_json") from error


def _check_sampling(request: PlanRequest) -> None:
    top_p = request.top_p
    if top_p is not None and not 0 < top_p <= 1:
        raise InvalidPlanRequestError(f"top_p must be over 0 and at most 1, not {top_p}", field="top_p")
    for index, stop in enumerate(request.stop):
        if not stop:
            raise InvalidPlanRequestError("an empty text stops nothing", field=f"stop[{index}]")


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
