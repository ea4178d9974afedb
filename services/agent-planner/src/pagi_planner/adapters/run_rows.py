"""What an event changes in the row of its run, whichever database keeps it."""

from __future__ import annotations

import os
import socket
import uuid
from typing import NamedTuple

from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.state.events import Event, EventType

# Lists show how a prompt begins; all of it is in the journal.
PROMPT_KEPT = 600
_WAITING = {EventType.APPROVAL_REQUESTED: 1, EventType.APPROVAL_DECIDED: -1}
_ENDS = {EventType.PLAN_ERROR: RunStatus.FAILED, EventType.PLAN_CANCELLED: RunStatus.CANCELLED}


class Change(NamedTuple):
    """Of a run's row.

    Attributes:
        waiting: How many calls more wait for a person's word.
        end: The final status; empty where the run goes on.
    """

    waiting: int
    end: str


def change_of(event: Event) -> Change:
    """What the event changes; mostly nothing."""
    if event.type is EventType.PLAN_END:
        return Change(0, str(event.data["status"]))
    return Change(_WAITING.get(event.type, 0), _ENDS.get(event.type, ""))


def prompt_head(event: Event) -> str:
    """How the prompt of a run's first event begins; NUL is nothing that a column of text takes everywhere."""
    return str(event.data.get("prompt", ""))[:PROMPT_KEPT].replace("\0", "\N{REPLACEMENT CHARACTER}")


def parent_of(event: Event) -> str:
    """The run that a run's first event names as its parent; empty where it has none."""
    return str(event.data.get("parent_run_id") or "")


def owner_name() -> str:
    """Names this process among all that ever had runs: people read the machine and the process of it."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
