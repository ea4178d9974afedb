"""What memory answers, for the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

State = Literal["active", "set_aside"]


class SessionBody(BaseModel):
    """A session."""

    session_id: str
    title: str
    persona: str = Field(description="Who answered last.")
    turns: int
    created_at: datetime
    updated_at: datetime


class SessionListBody(BaseModel):
    """Sessions, the one last spoken in first."""

    sessions: list[SessionBody]
    next: str | None = Field(description="Give it as `page_token` for the next page; null at the end.")


class SessionDetailBody(BaseModel):
    """A session with what its older turns were about."""

    session: SessionBody
    summary: str = Field(description="Empty while the session is short.")
    summary_by: str
    summarised_turns: int


class TurnBody(BaseModel):
    """One thing said."""

    role: Literal["user", "assistant", "tool_plan", "tool_output"]
    text: str
    run_id: str
    position: int = Field(description="Its place within its run, from 0.")
    created_at: datetime
    edited_at: datetime | None


class TurnListBody(BaseModel):
    """The newest turns of a session, oldest of them first."""

    turns: list[TurnBody]


class TurnMatchBody(BaseModel):
    """A turn that a search found."""

    session_id: str
    title: str
    turn: TurnBody
    score: float = Field(description="Comparable within one answer.")
    matched_words: list[str] = Field(description="Found in the turn, the turn before it, or its date.")


class TurnMatchListBody(BaseModel):
    """The best matches first."""

    matches: list[TurnMatchBody]


class DeletedBody(BaseModel):
    """What was forgotten."""

    deleted_turns: int


class ImportedBody(BaseModel):
    """What was taken in."""

    sessions: int
    stored_turns: int = Field(description="Turns that were new.")
    known_turns: int = Field(description="Turns that were there already and stay as they are.")


class MemoryStatisticsBody(BaseModel):
    """How much there is."""

    sessions: int
    turns: int
    turn_characters: int
    summarised_turns: int
    oldest_turn_at: datetime | None
    newest_turn_at: datetime | None
    playbooks: int
    playbooks_set_aside: int
    playbook_wins: int
    playbook_losses: int


class PlaybookStepBody(BaseModel):
    """One tool call that mattered."""

    tool: str
    arguments_json: str
    outcome: str


class PlaybookBody(BaseModel):
    """How a task was done."""

    id: str
    persona: str
    prompt: str
    steps: list[PlaybookStepBody]
    tool_versions: dict[str, str]
    cost_usd: float | None
    duration_ms: float
    wins: int
    losses: int
    worth: float = Field(description="Lower bound of the success rate (Wilson, 95 %).")
    state: State
    reason: str = Field(description="Why it is set aside.")
    notes: str
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None


class PlaybookListBody(BaseModel):
    """Playbooks, the one last changed first, or the ones that fit a query best."""

    playbooks: list[PlaybookBody]
    next: str | None = Field(description="Give it as `page_token` for the next page; null at the end.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SessionChange(_Body):
    """Another title."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TurnChange(_Body):
    """Another text."""

    text: Annotated[str, StringConstraints(max_length=1_048_576)]


class PlaybookChange(_Body):
    """Whatever is given changes; `active` restores a playbook, `set_aside` takes it away from runs."""

    state: State | None = None
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] | None = None
    notes: Annotated[str, StringConstraints(max_length=2_000)] | None = None
