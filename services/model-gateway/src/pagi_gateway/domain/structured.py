"""Answers of a JSON Schema: by the provider's own means, by a tool, or by asking for it; checked in any case."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.capabilities import Support
from pagi_gateway.domain.errors import WrongShapeError
from pagi_gateway.domain.model import (
    Effort,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    ToolUse,
)
from pagi_gateway.domain.schemas import misfit

if TYPE_CHECKING:
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Delta, Plan, PlanRequest

_FENCE = "```"
_UNFINISHED = {FinishReason.CONTENT_FILTER}


@dataclass(slots=True)
class StructuredAnswer:
    """Makes an answer's text the JSON that was asked for.

    Attributes:
        schema_json: What it must fit.
        tool: The tool that carries it, or empty.
        emulated: `a tool`, `a prompt`, or empty where the provider does it.
        index: In a stream, which call carries it; -1 until it comes.
    """

    schema_json: str
    tool: str = ""
    emulated: str = ""
    index: int = -1

    def delta(self, delta: Delta) -> Delta | None:
        """The tool's arguments are the answer's text; a text beside them is none."""
        if not self.tool or isinstance(delta, ReasoningDelta):
            return delta
        if not isinstance(delta, ToolCallDelta):
            return None
        if delta.name == self.tool:
            self.index = delta.index
        if delta.index != self.index:
            return delta
        return TextDelta(delta.arguments_json) if delta.arguments_json else None

    def finished(self, plan: Plan) -> Plan:
        """The plan with the JSON as its text.

        Raises:
            WrongShapeError: It is not JSON, or does not fit the schema.
        """
        plan = self._without_tool(plan)
        # A call of another tool is no answer yet, and a refusal is none at all.
        if plan.tool_calls or plan.finish_reason in _UNFINISHED:
            return plan
        text = plan.text
        if self.emulated:
            text = _out_of_fence(text)
        _, fault = misfit(text, self.schema_json)
        if fault:
            cut = ", cut off at its limit of tokens" if plan.finish_reason is FinishReason.LENGTH else ""
            error = WrongShapeError(f"{plan.provider} ({plan.model}) gave an answer of the wrong form{cut}: {fault}")
            error.usage = plan.usage
            raise error
        return plan if text is plan.text else replace(plan, text=text)

    def _without_tool(self, plan: Plan) -> Plan:
        carriers = [call for call in plan.tool_calls if call.name == self.tool] if self.tool else []
        if not carriers:
            return plan
        others = tuple(call for call in plan.tool_calls if call.name != self.tool)
        stopped = plan.finish_reason
        if stopped is FinishReason.TOOL_CALLS and not others:
            stopped = FinishReason.STOP
        return replace(plan, text=carriers[0].arguments_json, tool_calls=others, finish_reason=stopped)


def structured(request: PlanRequest, can: Capabilities) -> tuple[PlanRequest, StructuredAnswer]:
    """How to ask for the form, and what makes the answer of it."""
    wanted = request.response_format
    assert wanted is not None
    if can.response_format is not Support.EMULATED:
        return request, StructuredAnswer(wanted.schema_json)
    plain = replace(request, response_format=None)
    # A model that is reasoning may not be made to call a tool (Anthropic's reference).
    if can.tools is Support.YES and request.effort in {None, Effort.NONE} and request.tool_use is not ToolUse.NONE:
        return _by_tool(plain, wanted.name, wanted.schema_json)
    told = (
        "Answer with one JSON object that fits this JSON Schema, and nothing else: no words before or after it.\n"
        f"{json.dumps(json.loads(wanted.schema_json), ensure_ascii=False)}"
    )
    messages = (Message(Role.SYSTEM, told), *plain.messages)
    return replace(plain, messages=messages), StructuredAnswer(wanted.schema_json, emulated="a prompt")


def _by_tool(request: PlanRequest, name: str, schema_json: str) -> tuple[PlanRequest, StructuredAnswer]:
    taken = {tool.name for tool in request.tools}
    while name in taken:
        name += "_"
    tool = ToolSpec(
        name, "Gives the final answer, in the form that it must have. Call it once, at the end.", schema_json
    )
    asked = replace(
        request,
        tools=(*request.tools, tool),
        tool_use=ToolUse.REQUIRED,
        tool_name="" if request.tools else name,
    )
    return asked, StructuredAnswer(schema_json, tool=name, emulated="a tool")


def _out_of_fence(text: str) -> str:
    """The text without a Markdown fence around all of it, where there is one.

    In one pass, for a model that has lost its way may write white space up to its limit.
    """
    inside = text.strip()
    if len(inside) < 2 * len(_FENCE) or not (inside.startswith(_FENCE) and inside.endswith(_FENCE)):
        return text
    language, newline, body = inside[len(_FENCE) : -len(_FENCE)].partition("\n")
    return body.strip() if newline and language.strip() in ("", "json") else text
