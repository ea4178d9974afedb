"""All that is known of a run: what its events have told so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pagi_planner.domain.context.conversation import Conversation
from pagi_planner.domain.context.tokens import TokenScale
from pagi_planner.domain.explicit_plan import ExplicitPlan
from pagi_planner.domain.model import Approval, Decision, Mode, RunStatus, Source, Step, ToolCall, Usage
from pagi_planner.domain.state.asides import Asides
from pagi_planner.domain.state.material import Material
from pagi_planner.domain.state.progress import Progress


@dataclass(slots=True)
class RunFacts:
    """What a run was asked, has done and stands at.

    Attributes:
        asked: The effect id of a model call without an answer; empty where there is none.
        answer_tokens: What the answer to it may have; None: there is no bound, or it was not noted.
        intents: The calls of the turn that were begun, by id of the call.
        waiting: The calls of the turn that a person has to decide on.
        decisions: A person's word, by id of the call.
        approvals: Every call of the run that a person was asked about.
        talk: The messages.
        progress: Whether the calls bring anything new.
        plan: The explicit plan; None where there is none (yet).
        asides: What models were asked beside the conversation.
        material: Files and long outputs.
        scale: How the provider counts tokens.
        is_too_long: The provider refused the conversation for its length, and it was compacted for that.
        best: The score of the best answer so far, and the answer; of equals the last.
        paused_s: Time spent waiting for people, and for a planner to take the run up again.
    """

    run_id: str
    seq: int = 0
    trace_id: str = ""
    session_id: str = ""
    prompt: str = ""
    persona: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = RunStatus.RUNNING
    model: str = ""
    answer: str = ""
    error: str = ""
    error_type: str = ""
    error_field: str = ""
    usage: Usage = field(default_factory=Usage)
    model_calls: int = 0
    refinements: int = 0
    evaluations: int = 0
    talk: Conversation = field(default_factory=Conversation)
    steps: list[Step] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    tool_versions: dict[str, str] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)
    open_calls: dict[str, ToolCall] = field(default_factory=dict)
    observations: dict[str, str] = field(default_factory=dict)
    asked: str = ""
    answer_tokens: int | None = None
    intents: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, ToolCall] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    mode: Mode = Mode.REACT
    intent: str = ""
    plan: ExplicitPlan | None = None
    asides: Asides = field(default_factory=Asides)
    material: Material = field(default_factory=Material)
    scale: TokenScale = field(default_factory=TokenScale)
    compactions: int = 0
    is_too_long: bool = False
    best: tuple[float, str] = (-1.0, "")
    is_understood: bool = False
    is_answered: bool = False
    is_judged: bool = False
    paused_s: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_at: datetime | None = None
