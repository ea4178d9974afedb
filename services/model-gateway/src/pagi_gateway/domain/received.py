"""What had come of a stream that broke, as far as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.content import Reasoning
from pagi_gateway.domain.model import FinishReason, Plan, ReasoningDelta, TextDelta, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagi_gateway.domain.model import Delta, ToolCallDelta


def plan_of(deltas: Iterable[Delta], *, model: str, provider: str) -> Plan:
    """Joins the deltas. The plan says `OTHER` as the reason to finish: there was none."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: dict[int, list[ToolCallDelta]] = {}
    for delta in deltas:
        if isinstance(delta, TextDelta):
            texts.append(delta.text)
        elif isinstance(delta, ReasoningDelta):
            thoughts.append(delta.text)
        else:
            calls.setdefault(delta.index, []).append(delta)
    return Plan(
        text="".join(texts),
        tool_calls=tuple(map(_joined, calls.values())),
        finish_reason=FinishReason.OTHER,
        model=model,
        provider=provider,
        reasoning=(Reasoning("".join(thoughts)),) if thoughts else (),
    )


def _joined(deltas: list[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        next((delta.id for delta in deltas if delta.id), ""),
        "".join(delta.name for delta in deltas),
        "".join(delta.arguments_json for delta in deltas),
    )
