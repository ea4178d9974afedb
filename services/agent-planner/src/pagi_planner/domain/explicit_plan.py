"""The explicit plan of a run: its steps, and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

MOST_STEPS = 12
MOST_CHARACTERS = 500


class StepState(StrEnum):
    """How far a step has come."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One thing to do.

    Attributes:
        tool: That does it; its calls say how far the step has come. Empty: the answer itself does it.
    """

    text: str
    tool: str = ""
    state: StepState = StepState.OPEN


@dataclass(frozen=True, slots=True)
class ExplicitPlan:
    """What a run set out to do.

    Attributes:
        steps: In order; none where no plan could be made.
        revision: How often it was made, from 1.
    """

    steps: tuple[PlanStep, ...]
    revision: int = 1

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ExplicitPlan:
        """The plan in a PLAN_MADE."""
        steps = tuple(PlanStep(each["text"], each["tool"], StepState(each["state"])) for each in data["steps"])
        return cls(steps, data["revision"])

    @property
    def has_failed(self) -> bool:
        """Whether a step failed, and nothing was done about it yet."""
        return any(step.state is StepState.FAILED for step in self.steps)

    @property
    def undone(self) -> tuple[PlanStep, ...]:
        """The steps whose tool has not done its part."""
        return tuple(step for step in self.steps if step.tool and step.state is not StepState.DONE)

    def after(self, tool: str, *, failed: bool) -> ExplicitPlan:
        """The plan after a call of a tool: of the steps that need it, the first that is open, else one that failed."""
        places = [
            place
            for state in (StepState.OPEN, StepState.FAILED)
            for place, step in enumerate(self.steps)
            if step.tool == tool and step.state is state
        ]
        if not places:
            return self
        at = places[0]
        step = replace(self.steps[at], state=StepState.FAILED if failed else StepState.DONE)
        return replace(self, steps=(*self.steps[:at], step, *self.steps[at + 1 :]))

    def answered(self) -> ExplicitPlan:
        """The plan when the answer is given: what needed no tool, the answer has done."""
        steps = [step if step.tool else replace(step, state=StepState.DONE) for step in self.steps]
        return replace(self, steps=tuple(steps))

    def revised(self, steps: Sequence[PlanStep]) -> ExplicitPlan:
        """What is done, then the new steps."""
        done = [step for step in self.steps if step.state is StepState.DONE]
        return ExplicitPlan((*done, *steps), self.revision + 1)

    @property
    def rendered(self) -> str:
        """For a model to read; empty where there are no steps."""
        if not self.steps:
            return ""
        lines = [f"{place}. {_rendered(step)}" for place, step in enumerate(self.steps, start=1)]
        return "\n".join(["Your plan for this request. Go by it; where reality differs, do what serves it:", *lines])


def _rendered(step: PlanStep) -> str:
    tool = f" (tool: {step.tool})" if step.tool else ""
    return f"{step.text}{tool}" if step.state is StepState.OPEN else f"{step.text}{tool} [{step.state}]"


def steps_of(value: Any, tools: Sequence[str]) -> list[PlanStep]:
    """The steps in a model's answer; a tool that does not exist is none.

    Raises:
        ValueError: It is not an object with a list of steps.
    """
    found = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ValueError("it has no list of steps")
    steps = []
    for each in found[:MOST_STEPS]:
        text, tool = (each.get("step"), each.get("tool")) if isinstance(each, dict) else (each, "")
        if isinstance(text, str) and text.strip():
            known = tool if isinstance(tool, str) and tool in tools else ""
            steps.append(PlanStep(text.strip()[:MOST_CHARACTERS], known))
    if not steps:
        raise ValueError("it has no step")
    return steps
