"""A whole answer as the deltas of a stream, for those who have it whole and are asked for a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.model import ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.domain.model import Delta, Plan


def deltas_of(plan: Plan) -> Iterator[Delta]:
    """The reasoning, the text and the tool calls, each in one piece."""
    if reasoning := "".join(each.text for each in plan.reasoning):
        yield ReasoningDelta(reasoning)
    if plan.text:
        yield TextDelta(plan.text)
    for index, call in enumerate(plan.tool_calls):
        yield ToolCallDelta(index, call.id, call.name, call.arguments_json)
