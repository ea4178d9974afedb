"""One turn of tool calls: checked, run together, each brought back as an observation."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
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
from pagi_planner.domain.context.compaction import head_and_tail
from pagi_planner.domain.json_repair import repaired
from pagi_planner.domain.model import Effects, ModelAnswer, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.ports import ToolRunner
from pagi_planner.domain.state.material import REFERENCE

# A model reads this much of one result; the journal keeps it all.
OBSERVATION_CHARACTERS = 8_000
# Of the id of a call, as everywhere where it is given.
LONGEST_ID = 200
# The sandbox did not run the call: the arguments do not fit, the tool is gone, …
_REFUSED = (
    InvalidArgumentError,
    NotFoundError,
    FailedPreconditionError,
    PermissionDeniedError,
    UnauthenticatedError,
)

# Verdicts on a call that did not begin.
_NOT_RUN = frozenset({"invalid", "unavailable"})
_UNKNOWN = "the outcome is unknown, the tool may or may not have run"


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a call: for the journal and, as `text`, for the model."""

    call: ToolCall
    arguments: Any
    outcome: ToolOutcome
    text: str


def distinct(calls: Sequence[ToolCall], step: int, decided: Collection[str] = ()) -> tuple[ToolCall, ...]:
    """The calls of one turn, each with a name and an id of its own: results are matched by id, and models err.

    Args:
        calls: As the model made them.
        step: Of the turn.
        decided: Ids of earlier calls that a person was asked about: a word on one of them, said once more or on its way
            for long, must not be taken for one on another call.
    """
    taken = {call.id for call in calls}.union(decided)
    seen = set(decided)
    named: list[ToolCall] = []
    for place, call in enumerate(calls):
        call_id = call.id
        if call_id in seen or not _is_name(call_id):
            call_id = f"call-{step}-{place}"
            while call_id in taken:
                call_id += "-"
        seen.add(call_id)
        named.append(replace(call, id=call_id, name=call.name or "unnamed"))
    return tuple(named)


def _is_name(call_id: str) -> bool:
    """Whether a person can name the call by it, in a path."""
    return 0 < len(call_id) <= LONGEST_ID and call_id.isprintable() and "/" not in call_id and call_id.strip(".") != ""


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
        outcome = ToolOutcome("invalid", error=_no_such_tool(call.name, specs))
    elif fault:
        outcome = ToolOutcome("invalid", error=fault)
    elif may_have_run and spec.effects is Effects.EFFECTFUL and not tools.know_effects:
        outcome = ToolOutcome("unknown", error="the outcome is unknown: the planner died while the tool ran")
    else:
        with telemetry.span(f"execute_tool {call.name}", attributes={"gen_ai.tool.name": call.name}):
            outcome = await _run(call, tools, spec, session_id, effect_id)
        if may_have_run and spec.effects is Effects.EFFECTFUL and outcome.verdict in _NOT_RUN:
            # So it is this time; what became of it the first time nobody can say.
            outcome = replace(outcome, verdict="unknown", error=f"{_UNKNOWN}: {outcome.error}")
    return Observation(call, arguments, outcome, _for_model(outcome, "/".join(effect_id.rsplit("/", 2)[1:])))


def denied(call: ToolCall, reason: str) -> Observation:
    """What the model reads where a person has refused the call."""
    arguments, _ = parse_arguments(call)
    because = f": {reason}" if reason else ""
    outcome = ToolOutcome("refused", error=f"a person was asked and refused this call{because}")
    return Observation(call, arguments, outcome, _for_model(outcome))


def out_of_reach(call: ToolCall) -> Observation:
    """What the model of a helper reads where a call needs a person's word: nobody would hear that it waits."""
    arguments, _ = parse_arguments(call)
    error = f"{call.name} needs a person's word, for which a helper cannot ask: say in your answer what should be done"
    outcome = ToolOutcome("refused", error=error)
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
        return ToolOutcome("unknown", error=f"{_UNKNOWN}: {error.message}")


def healed(answer: ModelAnswer, step: int, decided: Collection[str] = ()) -> tuple[ModelAnswer, dict[str, str]]:
    """The answer with calls that can be told apart and, where that is plain, arguments that parse.

    Returns:
        It, and the arguments that were mended as the model wrote them, by id of the call.
    """
    calls, written = [], {}
    for call in distinct(answer.tool_calls, step, decided):
        if parse_arguments(call)[1]:
            mended = repaired(call.arguments_json, is_whole=answer.finish_reason != "length")
            if mended is not None:
                written[call.id] = call.arguments_json
                call = replace(call, arguments_json=mended)
        calls.append(call)
    return replace(answer, tool_calls=tuple(calls)), written


def full_text(reply: Any, error: str) -> str:
    """All of what a call brought, as a model reads it where there is room."""
    said: dict[str, Any] = reply if isinstance(reply, dict) else {} if reply is None else {"output": reply}
    if error:
        said = {**said, "error": error}
    return json.dumps(said, ensure_ascii=False)


def _no_such_tool(name: str, specs: Mapping[str, ToolSpec]) -> str:
    known = ", ".join(sorted(specs)) or "none"
    folded = {each.lower(): each for each in specs}
    near = [folded[each] for each in get_close_matches(name.lower(), folded, n=3)]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no tool named {name!r}; {meant}the tools are: {known}"


def _for_model(outcome: ToolOutcome, artifact: str = "") -> str:
    text = full_text(outcome.reply, outcome.error)
    if len(text) <= OBSERVATION_CHARACTERS:
        return text
    rest = f"{len(text) - OBSERVATION_CHARACTERS} characters left out"
    if artifact:
        rest += f"; call read_artifact with {REFERENCE.format(artifact)} to read on or to search in it"
    return head_and_tail(text, OBSERVATION_CHARACTERS, rest)
