"""HTTP bodies, and how they become types of the domain."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pagi_chassis.errors import InvalidArgumentError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from pagi_planner.domain import json_text
from pagi_planner.domain.explicit_plan import StepState
from pagi_planner.domain.model import (
    Approval,
    InputFile,
    Judging,
    Limits,
    Mode,
    Resource,
    RunRequest,
    RunResult,
    RunStatus,
)

# Which variable of the operator bounds which limit.
LIMIT_VARIABLES = {
    "max_steps": "AGENT_MAX_TURNS",
    "timeout_s": "REQUEST_TIMEOUT_SECONDS",
    "max_tokens": "AGENT_MAX_TOKENS",
    "max_tool_calls": "AGENT_MAX_TOOL_CALLS",
}

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _says_something(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("must hold more than white space")
    if "\0" in prompt:
        raise ValueError("must not hold NUL characters")
    return prompt


Prompt = Annotated[
    str,
    Field(min_length=1, json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}),
    AfterValidator(_says_something),
]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows.

    Attributes:
        most: Of each limit.
        prompt_characters: Longest prompt.
    """

    most: Limits
    prompt_characters: int


class _Body(BaseModel):
    # Strict: "5" is no number and 5 no text, as the OpenAPI document says.
    model_config = ConfigDict(extra="forbid", strict=True)


class ResourceBody(_Body):
    """Something that the agent is pointed to."""

    type: Name = Field(description="What it is, e.g. `url` or `file`.")
    uri: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]


class LimitsBody(_Body):
    """Bounds of one run, each within the operator's."""

    max_steps: int | None = Field(default=None, ge=1, description="Model calls.")
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Wall time in seconds.")
    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Money in USD.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens read and written by all model calls.")
    max_tool_calls: int | None = Field(default=None, ge=0, description="Tool calls.")

    def to_domain(self, most: Limits) -> Limits:
        """The limits, the operator's where none is asked for.

        Raises:
            InvalidArgumentError: More is asked for than the operator allows.
        """
        chosen: dict[str, Any] = {}
        for name, variable in LIMIT_VARIABLES.items():
            bound, asked = getattr(most, name), getattr(self, name)
            if asked is not None and bound is not None and asked > bound:
                raise too_much(f"limits.{name}", f"{bound:g} ({variable})")
            chosen[name] = bound if asked is None else asked
        return Limits(**chosen, max_cost_usd=self.max_cost_usd)


class InputFileBody(_Body):
    """A file for the agent to read: with its content, or from the session's workspace."""

    name: Name | None = Field(default=None, description="With its suffix; absent: the last part of the path.")
    media_type: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None,
        description="Absent: told by the name. Text, Markdown, CSV, JSON, PDF; PNG, JPEG, GIF and WebP for models that "
        "see.",
    )
    content_base64: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="The content (RFC 4648, section 4).", json_schema_extra={"contentEncoding": "base64"}
    )
    path: Annotated[str, StringConstraints(min_length=1, max_length=4_000)] | None = Field(
        default=None, description="In the session's workspace; in place of the content."
    )

    def to_domain(self, place: int) -> InputFile:
        """The file.

        Raises:
            InvalidArgumentError: It has neither content nor a path, or both, or no name.
        """
        if (self.content_base64 is None) == (self.path is None):
            raise InvalidArgumentError(
                f"files[{place}]: give content_base64 or path, and not both", field=f"files[{place}]"
            )
        name = self.name or (self.path or "").rstrip("/").rpartition("/")[2]
        if not name:
            raise InvalidArgumentError(f"files[{place}].name is missing", field=f"files[{place}].name")
        return InputFile(name, self.media_type or "", self.content_base64 or "", self.path or "")


class JudgingBody(_Body):
    """How the answer is judged, beside the rules."""

    judge: bool = Field(default=False, description="A model judges, too.")
    threshold: float = Field(
        default=0.7, ge=0, le=1, allow_inf_nan=False, description="A verdict below it sends the answer back."
    )
    max_refinements: int | None = Field(
        default=None, ge=0, le=10, description="How often an answer is sent back; absent: AGENT_MAX_REFINEMENTS."
    )


class UnderstandBody(_Body):
    """How the prompt is understood."""

    model: bool = Field(
        default=False, description="A model says what kind of prompt this is where the rules are not sure."
    )


class WorkBody(_Body):
    """How to do what is asked for."""

    session_id: Name | None = Field(
        default=None,
        description="The conversation it belongs to; absent: a new one.",
        json_schema_extra={"pattern": r"^[^/\\\x00-\x1f\x7f-\x9f]+$", "not": {"enum": [".", ".."]}},
    )
    resources: list[ResourceBody] = Field(default_factory=list, max_length=100)
    persona: Name | None = Field(default=None, description="Absent: the default persona.")
    model: Name | None = Field(default=None, description="Absent: the gateway's default model.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, allow_inf_nan=False, description="How freely the model speaks; absent: its own."
    )
    tools: list[Name] | None = Field(
        default=None, max_length=200, description="Tools that may be used; absent: every tool; empty: none."
    )
    limits: LimitsBody = Field(default_factory=LimitsBody)
    mode: Annotated[Mode, Field(strict=False)] = Field(
        default=Mode.REACT,
        description="react: without an explicit plan; plan: with one, revised where a step fails; chat: no tools; "
        "auto: by the intent of the prompt.",
    )
    files: list[InputFileBody] = Field(default_factory=list, max_length=20, description="For the agent to read.")
    evaluate: JudgingBody = Field(default_factory=JudgingBody)
    understand: UnderstandBody = Field(default_factory=UnderstandBody)
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue",
        description="What becomes of the run where this client leaves before its end: it goes on, or is cancelled.",
    )

    show_thinking: bool = Field(
        default=False,
        description="Whether a stream tells the thoughts of a model that thinks, and a chat what the agent does.",
    )

    @field_validator("session_id")
    @classmethod
    def _is_a_name(cls, session_id: str | None) -> str | None:
        """The same as memory and the sandbox ask for, so that a session that is taken here is taken there."""
        if session_id is not None and (session_id in {".", ".."} or any(map(_is_no_part_of_a_name, session_id))):
            raise ValueError("must not hold '/', '\\' or control characters, nor be '.' or '..'")
        return session_id

    def request(self, prompt: str, bounds: Bounds, *, field: str = "prompt") -> RunRequest:
        """The request.

        Args:
            prompt: What is asked for.
            bounds: What the operator allows.
            field: What the caller calls the prompt.

        Raises:
            InvalidArgumentError: It asks for more than the operator allows.
        """
        if len(prompt) > bounds.prompt_characters:
            raise too_much(field, f"{bounds.prompt_characters} characters long (AGENT_MAX_PROMPT_CHARACTERS)")
        return RunRequest(
            prompt=prompt,
            session_id=self.session_id or "",
            persona=self.persona or "",
            model=self.model or "",
            tools=None if self.tools is None else tuple(dict.fromkeys(self.tools)),
            resources=tuple(Resource(each.type, each.uri) for each in self.resources),
            limits=self.limits.to_domain(bounds.most),
            mode=self.mode,
            files=tuple(each.to_domain(place) for place, each in enumerate(self.files)),
            evaluate=Judging(self.evaluate.judge, self.evaluate.threshold, self.evaluate.max_refinements),
            intent_by_model=self.understand.model,
            temperature=self.temperature,
        )


class PlanRequest(WorkBody):
    """What to do."""

    prompt: Prompt = Field(description="The request in words.")

    def to_domain(self, bounds: Bounds) -> RunRequest:
        """The request.

        Raises:
            InvalidArgumentError: It asks for more than the operator allows.
        """
        return self.request(self.prompt, bounds)


def _is_no_part_of_a_name(character: str) -> bool:
    return character in "/\\" or unicodedata.category(character) == "Cc"


def too_much(field: str, most: str) -> InvalidArgumentError:
    """What a caller gets who asks for more than the operator allows."""
    return InvalidArgumentError(f"{field} must be at most {most}", field=field)


class StepBody(BaseModel):
    """One tool call."""

    step: int = Field(description="From 1, in the order in which results came.")
    tool: str
    input: Any = Field(description="The arguments, as the model gave them.")
    output: Any = Field(description="The tool's answer; null where there is none.")
    error: str | None = Field(description="Why the tool failed; null where it did not.")
    timestamp: datetime


class SourceBody(BaseModel):
    """A passage that the model was given."""

    source: str = Field(description="The file's path below the knowledge-bases folder.")
    knowledge_base: str
    headings: list[str]
    score: float = Field(description="0 to 1, comparable within one answer.")
    cited: bool = Field(description="Whether the answer names the file.")


class UsageBody(BaseModel):
    """What the model calls of the run used."""

    input_tokens: int
    output_tokens: int
    cost_usd: float | None = Field(description="Null where a price is not known.")


class ApprovalBody(BaseModel):
    """A tool call that needs, or needed, a person's word."""

    call_id: str
    tool: str
    input: Any = Field(description="The arguments, as the model gave them.")
    since: datetime
    decision: Literal["approve", "deny"] | None = Field(description="Null: it waits.")
    reason: str | None = Field(description="What the person said of it.")
    arguments: dict[str, Any] | None = Field(description="The person's, in place of the model's; null: as they were.")
    decided_at: datetime | None

    @classmethod
    def from_domain(cls, asked: Approval) -> ApprovalBody:
        """The call as JSON."""
        decided = asked.decision
        changed = decided.arguments_json if decided else None
        return cls(
            call_id=asked.call_id,
            tool=asked.tool,
            input=asked.input,
            since=asked.since,
            decision=None if decided is None else "approve" if decided.approved else "deny",
            reason=decided.reason or None if decided else None,
            arguments=None if changed is None else json_text.parse(changed),
            decided_at=asked.decided_at,
        )


class PlanStepBody(BaseModel):
    """One step of the explicit plan."""

    text: str
    tool: str = Field(description="That does it; empty: the answer itself does.")
    state: StepState = Field(description="open, done or failed, as the calls of its tool went.")


class RunBody(BaseModel):
    """A run, finished or not."""

    result: str
    run_id: str
    session_id: str
    trace_id: str
    status: RunStatus
    model: str
    steps: list[StepBody]
    sources: list[SourceBody]
    usage: UsageBody
    degraded: list[str] = Field(description="Services that the run had to do without.")
    approvals: list[ApprovalBody] = Field(description="Calls that need a person's word, waiting or decided.")
    plan: list[PlanStepBody] = Field(description="The explicit plan; empty where there is none.")
    error: str | None = Field(description="Why the run failed or was cancelled; null otherwise.")
    started_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_domain(cls, run: RunResult) -> RunBody:
        """The run as JSON."""
        return cls(
            result=run.result,
            run_id=run.run_id,
            session_id=run.session_id,
            trace_id=run.trace_id,
            status=run.status,
            model=run.model,
            steps=[
                StepBody(
                    step=each.step,
                    tool=each.tool,
                    input=each.input,
                    output=each.output,
                    error=each.error,
                    timestamp=each.timestamp,
                )
                for each in run.steps
            ],
            sources=[
                SourceBody(
                    source=each.source,
                    knowledge_base=each.knowledge_base,
                    headings=list(each.headings),
                    score=each.score,
                    cited=each.cited,
                )
                for each in run.sources
            ],
            usage=UsageBody(
                input_tokens=run.usage.input_tokens,
                output_tokens=run.usage.output_tokens,
                cost_usd=run.usage.cost_usd,
            ),
            degraded=list(run.degraded),
            plan=[PlanStepBody(text=each.text, tool=each.tool, state=each.state) for each in run.plan],
            approvals=[ApprovalBody.from_domain(each) for each in run.approvals],
            error=run.error or None,
            started_at=run.started_at,
            ended_at=run.ended_at,
        )
