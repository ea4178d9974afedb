"""A run as spans of time: what was done, when, for how long and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pagi_planner.domain.state.events import FINAL, Event, EventType
from pagi_planner.domain.tools.delegate import NAME as DELEGATE
from pagi_planner.domain.tools.delegate import child_id

# What ends a span that another event has begun, by type: the kind of the span.
_ENDS = {
    EventType.CONTEXT_LOADED: "context",
    EventType.PLAN_MODEL_RESPONSE: "model",
    EventType.MODEL_RESULT: "model",
    EventType.TOOL_RESULT: "tool",
    EventType.TOOL_ERROR: "tool",
    EventType.APPROVAL_DECIDED: "approval",
}
_BEGINS = {
    EventType.PLAN_START: "context",
    EventType.PLAN_MODEL_REQUEST: "model",
    EventType.MODEL_CALL: "model",
    EventType.TOOL_CALL: "tool",
    EventType.APPROVAL_REQUESTED: "approval",
}
_SHOWN = (
    "model",
    "provider",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "finish_reason",
    "input",
    "verdict",
    "error",
    "approved",
    "reason",
    "score",
    "feedback",
    "judge",
    "purpose",
    "revision",
    "steps",
    "because",
    "tokens_before",
    "tokens_after",
    "tokens",
    "left_out",
    "status",
    "degraded",
)


@dataclass(slots=True)
class Span:
    """Something that took time, or a moment where both times are the same.

    Attributes:
        kind: `context`, `model`, `tool`, `approval`, or the event's type in small letters for a moment.
        name: Of the model or tool; empty where there is none.
        step: The model call that it belongs to, from 1; 0 before the first.
        ended_at: None: it is not over, or was cut off.
        detail: What is worth showing of the events, as they name it.
    """

    kind: str
    name: str
    step: int
    seq: int
    started_at: datetime
    ended_at: datetime | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def timeline(events: Sequence[Event]) -> list[Span]:
    """The spans of a run in the order in which they began."""
    spans: list[Span] = []
    open_spans: dict[tuple[str, str], Span] = {}
    step = 0
    for event in events:
        step = event.data.get("step", step)
        if (kind := _ENDS.get(event.type)) and (span := open_spans.pop((kind, _key(event)), None)):
            span.ended_at = event.timestamp
            span.name = span.name or event.data.get("model", "")
            span.detail |= _detail(event)
        elif kind := _BEGINS.get(event.type):
            # Asked for again after a crash, a span goes on.
            span = Span(kind, event.data.get("tool", ""), step, event.seq, event.timestamp, detail=_detail(event))
            if span.name == DELEGATE:
                span.detail["child_run_id"] = child_id(event.data["effect_id"])
            open_spans[kind, _key(event)] = span
            spans.append(span)
        else:
            spans.append(_moment(event, step))
    return spans


def _key(event: Event) -> str:
    data = event.data
    return str(data.get("call_id") or data.get("effect_id") or "")


def _moment(event: Event, step: int) -> Span:
    kind = "end" if event.type in FINAL else event.type.lower()
    return Span(kind, "", step, event.seq, event.timestamp, event.timestamp, _detail(event))


def _detail(event: Event) -> dict[str, Any]:
    return {name: event.data[name] for name in _SHOWN if event.data.get(name) not in (None, "", [], {})}
