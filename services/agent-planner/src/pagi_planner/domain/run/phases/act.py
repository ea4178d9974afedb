"""Execute: run the tools that the model called for, those that need a person's word after it was given."""

from __future__ import annotations

from dataclasses import replace

from pagi_planner.domain.concurrency import together
from pagi_planner.domain.model import Decision, Effects, RunStatus, ToolCall, ToolSpec
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.understand import tools_of
from pagi_planner.domain.run.work import RunLimitError, Work
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.progress import NUDGE
from pagi_planner.domain.tools import turn
from pagi_planner.domain.tools.delegate import calls_below


async def act(work: Work) -> None:
    """Runs, at once, every call of the turn that is allowed and has no result yet; asks for approval of the others.

    A call whose intent stands in the journal is made again under the same effect id: the sandbox answers one that it
    has made with the first result, and one that it lost with "outcome unknown".

    Raises:
        RunLimitError: The model calls for the same thing again and again, or for more than is allowed.
    """
    specs = await tools_of(work)
    state, policy = work.state, work.parts.policy
    if fault := state.progress.fault(state.unanswered(), policy.max_repeats):
        raise RunLimitError(RunStatus.NO_PROGRESS, fault)
    _check_number(work)
    _ask_for_approval(work, specs)
    ready = [call for call in state.unanswered() if call.id not in state.waiting]
    for call in ready:
        if call.id not in state.intents:
            call = _as_decided(work, call)
            arguments, _ = turn.parse_arguments(call)
            work.note(
                EventType.TOOL_CALL, records.tool_call(state.model_calls, _effect_id(work, call), call, arguments)
            )
    await work.sync()
    await together(_execute(work, specs, call) for call in ready)


def _check_number(work: Work) -> None:
    """Of a turn that does not fit in whole nothing is run: no model would read of it."""
    most, state = work.request.limits.max_tool_calls, work.state
    if most is not None and len(state.steps) + calls_below(state.steps) + len(state.unanswered()) > most:
        raise RunLimitError(RunStatus.LIMIT_TOOL_CALLS, f"it wanted more than its {most} tool calls")


def _ask_for_approval(work: Work, specs: dict[str, ToolSpec]) -> None:
    state = work.state
    for call in state.unanswered():
        spec = specs.get(call.name)
        is_asked = call.id in state.waiting or call.id in state.decisions
        if spec and not is_asked and work.needs_approval(spec) and not _is_out_of_reach(work, spec):
            arguments, fault = turn.parse_arguments(call)
            # What cannot run needs nobody's word.
            if not fault:
                data = records.tool_call(state.model_calls, _effect_id(work, call), call, arguments)
                work.note(EventType.APPROVAL_REQUESTED, data)


def _is_out_of_reach(work: Work, spec: ToolSpec) -> bool:
    """Whether the run may not even ask: its parent does not wait for people."""
    return bool(work.request.parent_run_id) and work.needs_approval(spec)


def _as_decided(work: Work, call: ToolCall) -> ToolCall:
    """The call with the arguments that a person has put in place of the model's."""
    decision = work.state.decisions.get(call.id)
    return call if decision is None else decision.applied_to(call)


def _effect_id(work: Work, call: ToolCall) -> str:
    state = work.state
    return f"{state.run_id}/{state.model_calls}/{list(state.open_calls).index(call.id)}"


async def _execute(work: Work, specs: dict[str, ToolSpec], call: ToolCall) -> None:
    effect_id = _effect_id(work, call)
    if effect_id in work.inherited and call.name in work.state.tools and call.name not in specs:
        # Offered when it was begun; the sandbox may be away now. It is asked for its effect, and taken for the worst.
        specs = {**specs, call.name: ToolSpec(call.name, "", "{}", Effects.EFFECTFUL)}
    decision = work.state.decisions.get(call.id, Decision(approved=True))
    if call.name in specs and call.id not in work.state.decisions and _is_out_of_reach(work, specs[call.name]):
        seen = turn.out_of_reach(call)
    elif decision.approved:
        seen = await turn.execute(
            decision.applied_to(call),
            work.parts.toolbox.bound(call.name, work) or work.parts.tools,
            specs,
            session_id=work.request.workspace or work.request.session_id,
            effect_id=effect_id,
            may_have_run=effect_id in work.inherited,
        )
    else:
        seen = turn.denied(call, decision.reason)
    if work.state.progress.is_last_time(call, seen.text, work.parts.policy.max_repeats):
        seen = replace(seen, text=seen.text + NUDGE)
    kind = EventType.TOOL_ERROR if seen.outcome.error else EventType.TOOL_RESULT
    work.note(kind, records.tool_result(work.state.model_calls, effect_id, seen))
