"""What a run can do next."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What a run does next."""

    UNDERSTAND = "understand"
    PLAN = "plan"
    ASK = "ask"
    ACT = "act"
    EVALUATE = "evaluate"
    ANSWER = "answer"
    # Nothing, until a person has decided on a call.
    WAIT = "wait"
    ENDED = "ended"
