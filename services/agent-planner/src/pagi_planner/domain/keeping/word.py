"""A person's word on a tool call: what it says, and whether it is one that can be taken."""

from __future__ import annotations

from typing import Any

from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain import json_text
from pagi_planner.domain.errors import DecidedError, RunEndedError, UnknownCallError
from pagi_planner.domain.model import Decision
from pagi_planner.domain.state.run_state import RunState


def decision_of(approved: bool, reason: str, arguments: Any, *, field: str) -> Decision:
    """A person's word, whichever way it came.

    Args:
        approved: Whether the call may be made.
        reason: May be empty.
        arguments: In place of the model's; None: as they are.
        field: What the caller calls them.

    Raises:
        InvalidArgumentError: It denies a call and has arguments for it, or some that no tool can be given.
    """
    if arguments is None:
        return Decision(approved, reason)
    if not approved:
        raise InvalidArgumentError(f"{field}: a call that is denied needs none", field=field)
    try:
        return Decision(approved, reason, json_text.object_text(arguments))
    except ValueError as fault:
        raise InvalidArgumentError(f"{field}: {fault}", field=field) from fault


def is_news(state: RunState, call_id: str, decision: Decision) -> bool:
    """Whether a person's word on a call has not been taken before.

    Raises:
        RunEndedError: The run has ended.
        UnknownCallError: No such call waits, or did.
        DecidedError: Something else was said of it before.
    """
    asked = [each for each in state.approvals if each.call_id == call_id]
    if any(each.decision == decision for each in asked) and call_id not in state.waiting:
        return False
    if state.is_final:
        raise RunEndedError(f"the run has ended: it is {state.status}")
    if not asked:
        waiting = ", ".join(state.waiting) or "none"
        raise UnknownCallError(f"no call {call_id!r} needs a person's word; those that wait: {waiting}")
    if call_id not in state.waiting:
        raise DecidedError(f"something else was decided on the call {call_id!r} before")
    return True
