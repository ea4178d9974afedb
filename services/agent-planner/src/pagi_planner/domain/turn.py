"""One turn of tool calls: checked, run together, each brought back as an observation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pagi_chassis import telemetry
from pagi_chassis.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
)

from pagi_planner.domain import json_text
from pagi_planner.domain.model import Effects, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.ports import ToolRunner

# A model reads this much of one result; the journal keeps it all.
OBSERVATION_CHARACTERS = 8_000
# The sandbox did not run the call: the arguments do not fit, the tool is gone, …
_REFUSED = (
    InvalidArgumentError,
    NotFoundError,
    FailedPreconditionError,
    PermissionDeniedError,
    UnauthenticatedError,
)


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a call: for the journal and, as `text`, for the model."""

    call: ToolCall
    arguments: Any
    outcome: ToolOutcome
    text: str


def distinct(calls: Sequence[ToolCall], step: int) -> tuple[ToolCall, ...]:
    """The calls of one turn, each with a name and an id of its own: results are matched by id, and models err."""
    taken = {call.id for call in calls}
    seen: set[str] = set()
    named: list[ToolCall] = []
    for place, call in enumerate(calls):
        call_id = call.id
        if not call_id or call_id in seen:
            call_id = f"call-{step}-{place}"
            while call_id in taken:
                call_id += "-"
        seen.add(call_id)
        named.append(replace(call, id=call_id, name=call.name or "unnamed"))
    return tuple(named)


async def execute(
    call: ToolCall,
    tools: ToolRunner,
    specs: Mapping[str, ToolSpec],
    *,
    session_id: str,
    effect_id: str,
    may_have_run: bool = False,
) -> Observation:
    """Runs one call. Whatever is wrong with it is an observation for the model, never an end of the run.

    Args:
        call: What the model asks for.
        tools: Run it.
        specs: Of the tools that the run may use.
        session_id: Whose workspace the tool sees.
        effect_id: Names the effect.
        may_have_run: A process that died had begun it. Tools that do not know their effects by id then must not be
            asked to repeat one that is not harmless.
    """
    arguments, fault = parse_arguments(call)
    spec = specs.get(call.name)
    if spec is None:
        known = ", ".join(sorted(specs)) or "none"
        outcome = ToolOutcome("invalid", error=f"there is no tool named {call.name!r}; the tools are: {known}")
    elif fault:
        outcome = ToolOutcome("invalid", error=fault)
    elif may_have_run and spec.effects is Effects.EFFECTFUL and not tools.know_effects:
        outcome = ToolOutcome("unknown", error="the outcome is unknown: the planner died while the tool ran")
    else:
        with telemetry.span(f"execute_tool {call.name}", attributes={"gen_ai.tool.name": call.name}):
            outcome = await _run(call, tools, spec, session_id, effect_id)
    return Observation(call, arguments, outcome, _for_model(outcome))


def denied(call: ToolCall, reason: str) -> Observation:
    """What the model reads where a person has refused the call."""
    arguments, _ = parse_arguments(call)
    because = f": {reason}" if reason else ""
    outcome = ToolOutcome("refused", error=f"a person was asked and refused this call{because}")
    return Observation(call, arguments, outcome, _for_model(outcome))


def parse_arguments(call: ToolCall) -> tuple[Any, str]:
    """The arguments of a call and what is wrong with them, which is nothing where the text is empty.

    Arguments that do not parse are returned as the model wrote them.
    """
    try:
        arguments = json_text.parse(call.arguments_json or "{}")
    except ValueError as error:
        return call.arguments_json, f"the arguments are not JSON: {error}"
    if not isinstance(arguments, dict):
        return arguments, "the arguments are not a JSON object"
    return arguments, ""


async def _run(call: ToolCall, tools: ToolRunner, spec: ToolSpec, session_id: str, effect_id: str) -> ToolOutcome:
    try:
        return await tools.execute(call, session_id=session_id, effect_id=effect_id)
    except _REFUSED as error:
        return ToolOutcome("invalid", error=str(error))
    except PagiError as error:
        # Turned away at the door it did not run, whatever its effects.
        if spec.effects is not Effects.EFFECTFUL or isinstance(error, ResourceExhaustedError):
            return ToolOutcome("unavailable", error=f"the tool is unavailable now: {error.message}")
        text = f"the outcome is unknown, the tool may or may not have run: {error.message}"
        return ToolOutcome("unknown", error=text)


def _for_model(outcome: ToolOutcome) -> str:
    reply = outcome.reply
    said: dict[str, Any] = reply if isinstance(reply, dict) else {} if reply is None else {"output": reply}
    if outcome.error:
        said = {**said, "error": outcome.error}
    text = json.dumps(said, ensure_ascii=False)
    if len(text) <= OBSERVATION_CHARACTERS:
        return text
    half = OBSERVATION_CHARACTERS // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"
