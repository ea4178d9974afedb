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


def place_of(port: int) -> str:
    """Names what one planner at a time is: a machine and a port of it; empty where there is no certain port."""
    return f"{socket.gethostname()}:{port}" if port else ""


def owner_name(place: str = "") -> str:
    """Names this process among all that ever had runs: people read the machine, the port and the process of it."""
    return f"{place or socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def is_at(place: str, owner: str) -> bool:
    """Whether the owner is, or was, a planner of this place."""
    return bool(place) and owner.rsplit(":", 2)[0] == place
