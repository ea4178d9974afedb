"""The words of a run: request, message, tool call, passage, turn, step, result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pagi_planner.domain.explicit_plan import PlanStep
from pagi_planner.domain.reasoning import Reasoning as Reasoning

# What a caller asks for has a file of its own, and is a word of the domain as the others are.
from pagi_planner.domain.request import InputFile as InputFile
from pagi_planner.domain.request import Judging as Judging
from pagi_planner.domain.request import Limits as Limits
from pagi_planner.domain.request import Mode as Mode
from pagi_planner.domain.request import Resource as Resource
from pagi_planner.domain.request import RunRequest as RunRequest


class RunStatus(StrEnum):
    """Where a run stands. All but `running` and `waiting_approval` are final."""

    RUNNING = "running"
    # A person has to allow a tool call; until then nothing happens.
    WAITING_APPROVAL = "waiting_approval"
    COMPLETED = "completed"
    # A limit ended the run; the result holds what was reached.
    LIMIT_STEPS = "limit_steps"
    LIMIT_TIME = "limit_time"
    LIMIT_COST = "limit_cost"
    LIMIT_TOKENS = "limit_tokens"
    LIMIT_TOOL_CALLS = "limit_tool_calls"
    NO_PROGRESS = "no_progress"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Role(StrEnum):
    """Who speaks in a conversation with a model."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish: `arguments_json` is as the model wrote it and may not parse."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for models that see."""

    content_base64: str
    media_type: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation with a model; images only on a user's, reasoning on one that calls tools."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    images: tuple[Image, ...] = ()
    reasoning: tuple[Reasoning, ...] = ()


class Effects(StrEnum):
    """What a repeat of a tool call means."""

    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    EFFECTFUL = "effectful"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it; the schema is JSON Schema 2020-12 of the arguments object."""

    name: str
    description: str
    parameters_schema_json: str
    effects: Effects = Effects.EFFECTFUL
    # Changes when the tool's behaviour does; empty where that is not told.
    version: str = ""
    # A person has to allow each call.
    requires_approval: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on a tool call.

    Attributes:
        reason: For the model; may be empty.
        arguments_json: In place of the model's arguments; None: as the model wrote them.
    """

    approved: bool
    reason: str = ""
    arguments_json: str | None = None

    def applied_to(self, call: ToolCall) -> ToolCall:
        """The call as it was allowed."""
        return call if self.arguments_json is None else replace(call, arguments_json=self.arguments_json)


@dataclass(frozen=True, slots=True)
class Approval:
    """A tool call that a person was asked about.

    Attributes:
        input: The arguments, as the model gave them.
        since: When it was asked.
        decision: None: it waits.
    """

    call_id: str
    tool: str
    input: Any
    since: datetime
    decision: Decision | None = None
    decided_at: datetime | None = None

    def waits_as(self, call_id: str) -> bool:
        """Whether it is this call, and waits."""
        return self.call_id == call_id and self.decision is None


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A file that tools left in a session's workspace: its path below it with "/", media type and size."""

    path: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a tool call ended. A failed tool is an outcome, not an error.

    Attributes:
        verdict: `ok`, or what stopped it: failed, timeout, memory, output, crash, disk, processes, denied, invalid,
            unavailable, unknown; docs/runs.md says what each means.
        output: The tool's answer; None where there is none.
        error: For people and for the model; empty where the verdict is `ok`.
        duration_ms: Time in the tool.
        files: What the call made or changed in the session's workspace.
        usage: What the tool spent on models; None: nothing that is known.
    """

    verdict: str
    output: Any = None
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    duration_ms: float = 0.0
    truncated: bool = False
    files: tuple[WorkspaceFile, ...] = ()
    usage: Usage | None = None

    @property
    def reply(self) -> Any:
        """The tool's answer, with what it printed and the files it left beside it; None where there is neither."""
        beside: dict[str, Any] = {
            name: text for name, text in (("stdout", self.stdout), ("stderr", self.stderr)) if text
        }
        if self.files:
            beside["files"] = [asdict(file) for file in self.files]
        if not beside:
            return self.output
        if self.output is None:
            return beside
        return {**(self.output if isinstance(self.output, dict) else {"output": self.output}), **beside}


@dataclass(frozen=True, slots=True)
class FileList:
    """Files of a workspace.

    Attributes:
        files: By path.
        used_bytes: Of the whole workspace.
        quota_bytes: What it may hold.
        truncated: There are more files than are listed.
    """

    files: tuple[WorkspaceFile, ...] = ()
    used_bytes: int = 0
    quota_bytes: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls used. `cost_usd` is None where a price is not known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            sum(costs) if costs else None,
        )


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What is known of a model.

    Attributes:
        context_tokens: Its window; 0: not known.
        max_output_tokens: Of one answer; 0: not known.
        sees: Whether it takes images; None: not known.
    """

    context_tokens: int = 0
    max_output_tokens: int = 0
    sees: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Attributes:
        model: Empty: the gateway's default.
        effect_id: Names the call, so that a repeat can be recognised.
        max_cost_usd: What is left to spend; None: no bound.
        max_output_tokens: What the answer may have; None: the provider's own bound.
        answer_schema_json: JSON Schema of the answer's text, which then is a JSON object; empty: any text.
        temperature: None: the provider's own.
        is_patient: Whether a gateway that is away is waited for: who asks would lose what was done before.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    model: str
    effect_id: str
    max_cost_usd: float | None = None
    max_output_tokens: int | None = None
    answer_schema_json: str = ""
    temperature: float | None = None
    # Nothing of what is asked.
    is_patient: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model answered: tool calls, a text, or both; and of its reasoning what its provider wants back."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    model: str = ""
    provider: str = ""
    latency_ms: float = 0.0
    reasoning: tuple[Reasoning, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that may help to answer.

    Attributes:
        source: The file's path below the knowledge-bases folder.
        headings: Those above the passage, outermost first.
        score: 0 to 1, comparable within one answer.
    """

    id: str
    text: str
    score: float
    knowledge_base: str
    source: str
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of a session's history; roles as in Heart-KB: user, assistant, tool-plan, tool-output."""

    role: str
    text: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Context:
    """What memory gives a run to begin with."""

    soul: str = ""
    turns: tuple[Turn, ...] = ()
    passages: tuple[Passage, ...] = ()
    # What was said before these turns, in short.
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a run adds to the history of its session; stored once, whatever the repeats."""

    session_id: str
    run_id: str
    persona: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call of a run, as a caller reads it."""

    step: int
    tool: str
    input: Any
    output: Any
    error: str | None
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the model was given; `cited` where the answer names its file."""

    source: str
    knowledge_base: str
    headings: tuple[str, ...]
    score: float
    cited: bool


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run as a caller reads it, finished or not."""

    run_id: str
    session_id: str
    trace_id: str
    status: RunStatus
    result: str
    model: str
    steps: tuple[Step, ...]
    sources: tuple[Source, ...]
    usage: Usage
    degraded: tuple[str, ...]
    error: str
    started_at: datetime
    ended_at: datetime | None
    approvals: tuple[Approval, ...] = ()
    plan: tuple[PlanStep, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs; of the prompt, how it begins."""

    run_id: str
    session_id: str
    trace_id: str
    status: RunStatus
    prompt: str
    started_at: datetime
    ended_at: datetime | None
    parent_run_id: str = ""
