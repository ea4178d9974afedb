"""What a caller asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from pagi_chassis.errors import InvalidArgumentError


class Mode(StrEnum):
    """How a run goes about its prompt."""

    # One step after the other, without an explicit plan.
    REACT = "react"
    # An explicit plan first; it is revised where reality differs.
    PLAN = "plan"
    # A conversation: no tools.
    CHAT = "chat"
    # The intent of the prompt chooses among the other three.
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        max_steps: Model calls, at least 1.
        timeout_s: Wall time of the whole run, in seconds, more than 0.
        max_cost_usd: Money, more than 0; None: no bound.
        max_tokens: Read and written by all model calls together, at least 1; None: no bound.
        max_tool_calls: At least 0; None: no bound but the steps.

    Raises:
        InvalidArgumentError: One of them bounds nothing.
    """

    max_steps: int = 10
    timeout_s: float = 60.0
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_tool_calls: int | None = None

    def __post_init__(self) -> None:
        # Comparisons that NaN fails, too.
        if not self.max_steps >= 1:
            raise _unbounded("max_steps", "at least 1")
        if not 0 < self.timeout_s < inf:
            raise _unbounded("timeout_s", "more than 0 and finite")
        if self.max_cost_usd is not None and not 0 < self.max_cost_usd < inf:
            raise _unbounded("max_cost_usd", "more than 0 and finite; leave it out for no bound")
        if self.max_tokens is not None and not self.max_tokens >= 1:
            raise _unbounded("max_tokens", "at least 1; leave it out for no bound")
        if self.max_tool_calls is not None and not self.max_tool_calls >= 0:
            raise _unbounded("max_tool_calls", "at least 0; leave it out for no bound")


def _unbounded(name: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"limits.{name} must be {what}", field=f"limits.{name}")


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that the caller points the agent to; of the type `file`: a path in the session's workspace."""

    type: str
    uri: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that belongs to the request: with its content, or by its path in the session's workspace.

    Attributes:
        name: For the model to read; its suffix tells the format where `media_type` does not.
        media_type: May be empty.
        content_base64: Empty where there is a path.
        path: Empty where there is content.
    """

    name: str
    media_type: str = ""
    content_base64: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Judging:
    """How an answer is judged.

    Attributes:
        judge: A model judges, too, not the rules alone.
        threshold: A score below it (0 to 1) sends the answer back; of the judge's verdict, the rules have their own.
        max_refinements: How often at most; None: what the operator has set.
    """

    judge: bool = False
    threshold: float = 0.7
    max_refinements: int | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a caller asks for.

    Attributes:
        prompt: The request in words.
        session_id: The conversation that it belongs to; empty: a new one.
        persona: Empty: the default one.
        model: Empty: the gateway's default.
        tools: Names of the tools that may be used; None: every tool.
        temperature: 0 to 2; None: the provider's own.
        intent_by_model: A model says what kind of request this is where the rules are not sure.
        parent_run_id: The run that has handed this one on; empty: a person or a program has begun it.
        depth: Generations above this run.
        workspace: The session whose files its tools see; empty: its own.
        tenant: Whose run it is: every call for it is made in this name; empty: the installation's own.
    """

    prompt: str
    session_id: str = ""
    persona: str = ""
    model: str = ""
    tools: tuple[str, ...] | None = None
    resources: tuple[Resource, ...] = ()
    limits: Limits = field(default_factory=Limits)
    mode: Mode = Mode.REACT
    files: tuple[InputFile, ...] = ()
    evaluate: Judging = field(default_factory=Judging)
    intent_by_model: bool = False
    temperature: float | None = None
    parent_run_id: str = ""
    depth: int = 0
    workspace: str = ""
    tenant: str = ""
