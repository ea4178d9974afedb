"""The tool `delegate`: a run hands a task to a run of its own.

The child has its own context, a part of the tools and a share of what is left to spend. Its id follows from the effect
id of the call, so that the call, made again after a crash, finds the child that it has begun. Calls of one turn run at
once, and share what is left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Protocol

from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain import json_text
from pagi_planner.domain.model import (
    Effects,
    Limits,
    RunRequest,
    RunResult,
    RunStatus,
    Step,
    ToolCall,
    ToolOutcome,
    ToolSpec,
)
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.toolbox import Scope

NAME = "delegate"
# What a child is left of the parent's time, so that the parent can still say what came of it.
TIME_SHARE = 0.9
# Of what a call brings back: the tool calls that were made for it, which count for the parent, too.
CALLS_MEMBER = "tool_calls"
_SPEC = ToolSpec(
    NAME,
    "Hands a self-contained task to a helper that works on it alone and returns its answer. The helper sees nothing of "
    "this conversation: say all that it needs. Several calls in one turn run at once.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "task": {"type": "string", "minLength": 1, "description": "What to do, and all that is needed for it."},
                "tools": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The tools that the helper may use, of yours; absent: all of them.",
                },
                "persona": {"type": "string", "description": "Who the helper is; absent: as you are."},
            },
            "required": ["task"],
            "additionalProperties": False,
        }
    ),
    Effects.EFFECTFUL,
    version="1",
)


class Children(Protocol):
    """Runs other runs."""

    async def run_child(self, request: RunRequest, run_id: str) -> RunResult:
        """Begins the run, or finds the one of this id, and waits for its end, whatever that is.

        Who is cancelled while waiting cancels it.

        Raises:
            JournalError: The journal cannot be written or read.
        """


class Delegate:
    """See the module.

    Args:
        max_depth: Generations below a run that a person has begun; 0: nobody delegates.
        max_children: Of one run, in all its turns.
    """

    spec = _SPEC
    knows_effects = True

    def __init__(self, *, max_depth: int = 2, max_children: int = 8) -> None:
        self._max_depth = max_depth
        self._max_children = max_children
        # Set once by who wires the parts: it drives the agent that this is a tool of.
        self.children: Children | None = None

    def is_offered(self, work: Scope) -> bool:
        """Where the run may have children at all, and may use this tool."""
        request = work.request
        allowed = request.tools is None or NAME in request.tools
        return self.children is not None and allowed and request.depth < self._max_depth

    async def execute(self, call: ToolCall, work: Scope, effect_id: str) -> ToolOutcome:
        """Runs the child to its end.

        Raises:
            InvalidArgumentError: The arguments do not fit, or the run has had all its children.
        """
        assert self.children is not None, "it is offered only where there is somebody to run children"
        arguments = _arguments(call)
        self._check_number(call, work)
        request = RunRequest(
            prompt=arguments["task"],
            persona=arguments.get("persona", work.request.persona),
            model=work.request.model,
            tools=_tools(arguments.get("tools"), work),
            limits=share_of(work),
            parent_run_id=work.state.run_id,
            depth=work.request.depth + 1,
            workspace=work.request.workspace or work.request.session_id,
            tenant=work.request.tenant,
        )
        return _outcome(await self.children.run_child(request, child_id(effect_id)))

    def _check_number(self, call: ToolCall, work: Scope) -> None:
        state = work.state
        before = sum(step.tool == NAME for step in state.steps)
        now = [each.id for each in state.unanswered() if each.name == NAME]
        if before + now.index(call.id) >= self._max_children:
            raise InvalidArgumentError(
                f"a run may hand on {self._max_children} tasks at most, and these were handed on"
            )


def child_id(effect_id: str) -> str:
    """The run that a call begins."""
    return f"run-{hashlib.sha256(effect_id.encode()).hexdigest()[:32]}"


def children_at_work(state: RunState) -> list[str]:
    """The runs that the calls of the turn have begun, as far as they have no result yet."""
    return [
        child_id(state.intents[call.id])
        for call in state.unanswered()
        if call.name == NAME and call.id in state.intents
    ]


def share_of(work: Scope) -> Limits:
    """What each of the tasks that are handed on in this turn may use: together no more than the run has left."""
    limits, state = work.request.limits, work.state
    among = max(1, sum(each.name == NAME for each in state.unanswered()))
    used_tokens = state.usage.input_tokens + state.usage.output_tokens
    # What else the turn calls for is counted, too.
    calls = len(state.steps) + calls_below(state.steps) + len(state.unanswered())
    left_calls = None if limits.max_tool_calls is None else limits.max_tool_calls - calls
    return Limits(
        max_steps=max(1, limits.max_steps - state.model_calls),
        timeout_s=max(0.1, (limits.timeout_s - state.used_s) * TIME_SHARE),
        max_cost_usd=_share(limits.max_cost_usd, state.usage.cost_usd or 0.0, among, 1e-9),
        max_tokens=None if limits.max_tokens is None else max(1, (limits.max_tokens - used_tokens) // among),
        max_tool_calls=None if left_calls is None else max(0, left_calls // among),
    )


def calls_below(steps: Iterable[Step]) -> int:
    """The tool calls of the runs that a run with these steps has handed tasks to, and of those below them."""
    outputs = (step.output for step in steps if step.tool == NAME)
    return sum(output.get(CALLS_MEMBER, 0) for output in outputs if isinstance(output, dict))


def _share(most: float | None, used: float, among: int, least: float) -> float | None:
    return None if most is None else max(least, (most - used) / among)


def _arguments(call: ToolCall) -> dict[str, Any]:
    arguments: dict[str, Any] = json_text.parse(call.arguments_json or "{}")
    task, tools, persona = arguments.get("task"), arguments.get("tools", []), arguments.get("persona", "")
    if not isinstance(task, str) or not task.strip():
        raise InvalidArgumentError("task must be a text that is not empty", field="task")
    if not isinstance(tools, list) or not all(isinstance(each, str) for each in tools):
        raise InvalidArgumentError("tools must be a list of names", field="tools")
    if not isinstance(persona, str):
        raise InvalidArgumentError("persona must be a text", field="persona")
    if unknown := sorted(arguments.keys() - {"task", "tools", "persona"}):
        raise InvalidArgumentError(f"there is no argument {unknown[0]!r}", field=unknown[0])
    return arguments


def _tools(wanted: list[str] | None, work: Scope) -> tuple[str, ...]:
    """The helper's tools: of the run's own those that were asked for, and none that needs a person's word."""
    specs = [*(work.specs or {}).values(), _SPEC]
    open_to_it = [spec.name for spec in specs if not work.needs_approval(spec)]
    if wanted is None:
        return tuple(open_to_it)
    for place, name in enumerate(wanted):
        if name not in open_to_it:
            known = ", ".join(open_to_it)
            raise InvalidArgumentError(
                f"a helper cannot have the tool {name!r}; it can have: {known}", field=f"tools[{place}]"
            )
    return tuple(dict.fromkeys(wanted))


def _outcome(result: RunResult) -> ToolOutcome:
    output = {
        "run_id": result.run_id,
        "status": result.status.value,
        "result": result.result,
        CALLS_MEMBER: len(result.steps) + calls_below(result.steps),
    }
    if result.status in (RunStatus.CANCELLED, RunStatus.FAILED):
        error = f"the helper's run is {result.status}: {result.error}"
        return ToolOutcome("failed", output, error=error, usage=result.usage)
    return ToolOutcome("ok", output, usage=result.usage)
