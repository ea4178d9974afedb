"""Plan: say what is to be done before it is done, and anew where a step failed."""

from __future__ import annotations

import json

from pagi_planner.domain.explicit_plan import ExplicitPlan, PlanStep, StepState, steps_of
from pagi_planner.domain.json_repair import value_in
from pagi_planner.domain.judgement.intent import parts_of
from pagi_planner.domain.model import Message, Role
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.aside import ask_aside
from pagi_planner.domain.run.phases.understand import tools_of
from pagi_planner.domain.run.work import Work
from pagi_planner.domain.state.events import EventType

SCHEMA_JSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "step": {"type": "string", "description": "What is done, in one sentence."},
                        "tool": {"type": "string", "description": "The tool that does it; empty where none is needed."},
                    },
                    "required": ["step", "tool"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["steps"],
        "additionalProperties": False,
    }
)
_TASK = (
    "Plan how the user's last request is done: as few steps as serve it, in order, each with the tool that does it or "
    "none. Do not do it yet. Answer with a JSON object as its schema says. The tools:"
)


async def plan(work: Work) -> None:
    """Has a model make the plan, or make it anew; rules make it where the model cannot. A run goes on without one."""
    state, before = work.state, work.state.plan
    specs = await tools_of(work)
    revision = before.revision + 1 if before else 1
    tools = "\n".join(f"- {spec.name}: {spec.description}" for spec in specs.values()) or "- none"
    system = Message(Role.SYSTEM, f"{_TASK}\n{tools}")
    talk = [message for message in state.conversation()[1:] if message.role in (Role.USER, Role.ASSISTANT)]
    said = tuple(Message(each.role, each.text, images=each.images) for each in talk if each.text)
    failed = (Message(Role.USER, _what_failed(work, before)),) if before else ()
    aside = await ask_aside(work, f"plan/{revision}", (system, *said, *failed), schema_json=SCHEMA_JSON)
    error, by = aside.error, "model"
    steps: list[PlanStep] = []
    if not error:
        try:
            steps = steps_of(value_in(aside.text), list(specs))
        except ValueError as fault:
            error = f"the plan cannot be read: {fault}"
    if error:
        steps, by = [PlanStep(part) for part in parts_of(state.prompt)] if before is None else [], "rules"
    made = before.revised(steps) if before else ExplicitPlan(tuple(steps), revision)
    work.note(EventType.PLAN_MADE, records.plan(made, by, error))


def _what_failed(work: Work, before: ExplicitPlan) -> str:
    lines = [f"- {step.text}: {step.state}" for step in before.steps]
    failed = {step.tool for step in before.steps if step.state is StepState.FAILED}
    errors = [f"- {step.tool}: {step.error}" for step in work.state.steps if step.error and step.tool in failed]
    return "\n".join(
        [
            "Reality differs from the plan. So far:",
            *lines,
            "What failed:",
            *errors[-3:],
            "Plan anew what is left to do.",
        ]
    )
