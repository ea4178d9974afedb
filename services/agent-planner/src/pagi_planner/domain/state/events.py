"""What the journal holds: one event for each thing that happened in a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """The kinds of events. A run begins with `PLAN_START` and ends in exactly one of `FINAL`."""

    PLAN_START = "PLAN_START"
    RUN_RESUMED = "RUN_RESUMED"
    CONTEXT_LOADED = "CONTEXT_LOADED"
    FILE_READ = "FILE_READ"
    PLAN_MADE = "PLAN_MADE"
    # A model is asked something beside the conversation: for a plan, a verdict, a summary.
    MODEL_CALL = "MODEL_CALL"
    MODEL_RESULT = "MODEL_RESULT"
    CONTEXT_COMPACTED = "CONTEXT_COMPACTED"
    PLAN_MODEL_REQUEST = "PLAN_MODEL_REQUEST"
    PLAN_MODEL_RESPONSE = "PLAN_MODEL_RESPONSE"
    TOOL_CALL = "TOOL_CALL"
    TOOL_RESULT = "TOOL_RESULT"
    TOOL_ERROR = "TOOL_ERROR"
    EVALUATION = "EVALUATION"
    APPROVAL_REQUESTED = "APPROVAL_REQUESTED"
    APPROVAL_DECIDED = "APPROVAL_DECIDED"
    PLAN_ERROR = "PLAN_ERROR"
    PLAN_CANCELLED = "PLAN_CANCELLED"
    PLAN_END = "PLAN_END"


FINAL = frozenset({EventType.PLAN_END, EventType.PLAN_ERROR, EventType.PLAN_CANCELLED})


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the journal.

    Attributes:
        seq: Its place in the run, from 1, without gaps.
        data: A JSON object; its members by type are listed in docs/runs.md.
    """

    run_id: str
    seq: int
    type: EventType
    timestamp: datetime
    trace_id: str
    session_id: str
    data: dict[str, Any]
