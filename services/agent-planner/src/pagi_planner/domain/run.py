"""One run in progress: each method is a phase, and each step is an event before it counts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pagi_chassis import correlation
from pagi_chassis.errors import PagiError

from pagi_planner.domain import records, turn
from pagi_planner.domain.concurrency import together
from pagi_planner.domain.context import fit
from pagi_planner.domain.errors import AWAY, JournalError, UnknownToolError
from pagi_planner.domain.evaluation import evaluate
from pagi_planner.domain.events import Event, EventType
from pagi_planner.domain.model import Context, ModelAnswer, ModelRequest, RunRequest, RunStatus, ToolCall, ToolSpec
from pagi_planner.domain.state import RunState

if TYPE_CHECKING:
    from pagi_planner.domain.agent import Agent

log = logging.getLogger(__name__)


class RunLimitError(Exception):
    """A limit is reached: the run ends with what it has."""

    def __init__(self, status: RunStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    @classmethod
    def for_time(cls, timeout_s: float) -> RunLimitError:
        """The run's wall time is over."""
        return cls(RunStatus.LIMIT_TIME, f"its time of {timeout_s:g} s was over")


class Run:
    """The phases of one run, in order: begin, understand, work, then one of the ends, remember."""

    def __init__(self, agent: Agent, request: RunRequest, state: RunState) -> None:
        self._agent = agent
        self._request = request
        self._state = state
        self._specs: dict[str, ToolSpec] = {}
        self._calls: Counter[tuple[str, str]] = Counter()

    async def begin(self) -> None:
        """Opens the journal of the run."""
        self._note(EventType.PLAN_START, records.start(self._request))
        await self._sync()

    async def understand(self) -> None:
        """Gathers the persona, the history, the passages and the tools."""
        degraded: list[str] = []
        works: list[Coroutine[Any, Any, Any]] = [self._recall(degraded), self._find_tools(degraded)]
        context, specs = await together(works)
        self._specs = {spec.name: spec for spec in specs}
        notices = ("No tools can be reached now. Say so where one would be needed.",) if "sandbox" in degraded else ()
        fitted = fit(context, self._request, max_tokens=self._agent.policy.max_context_tokens, notices=notices)
        self._note(EventType.CONTEXT_LOADED, records.context(fitted, specs, degraded))

    async def work(self) -> None:
        """Asks the model and runs its tools until an answer will do."""
        while True:
            answer = await self._ask()
            if answer.tool_calls:
                await self._execute(answer.tool_calls)
                continue
            judged = evaluate(self._state)
            feedback = judged.feedback if self._may_refine() else ""
            self._note(EventType.EVALUATION, records.evaluation(judged, feedback))
            if not feedback:
                said = answer.text if answer.text.strip() else "The model gave no answer."
                await self._end(RunStatus.COMPLETED, said)
                return

    async def end_at_limit(self, limit: RunLimitError) -> None:
        """Ends with a partial answer, unless the end itself is what took too long."""
        if self._state.is_final:
            await self._sync()
        else:
            await self._end(limit.status, _partial_answer(self._state, limit.reason), reason=limit.reason)

    async def fail(self, error: Exception, message: str) -> None:
        """Records why the run failed. A journal that cannot be written is the caller's to hear of, not ours to hide."""
        has_begun = self._state.seq > 0
        if isinstance(error, JournalError) or not has_begun:
            return
        log.warning("the run failed: %s", message)
        field = getattr(error, "field", "")
        self._note(EventType.PLAN_ERROR, records.failure(type(error).__name__, message, field))
        await self._sync()

    async def cancel(self, reason: str) -> None:
        """Records that the run was stopped from outside; a journal that cannot be written does not hold up the stop."""
        if self._state.is_final:
            return
        self._note(EventType.PLAN_CANCELLED, records.cancellation(reason))
        try:
            await self._sync()
        except JournalError as error:
            log.error("the run is cancelled and its journal does not say so: %s", error.message)

    async def remember(self) -> None:
        """Stores the history before the answer goes out, so that the next request finds it.

        Where memory is away the journal keeps the exchange, and it is stored when memory is back.
        """
        if "memory" in self._state.degraded:
            return
        try:
            async with asyncio.timeout(self._agent.policy.remember_timeout_s):
                await self._agent.memory.remember(self._state.exchange())
            self._agent.remembered.add(self._state.run_id)
        except (PagiError, TimeoutError) as error:
            log.warning("the history is not stored yet: %s", error or "no answer in time")
            self._state.degraded.append("memory")
        except Exception:
            # A fault of ours here must not cost the caller an answer that is there.
            log.exception("the history cannot be stored")
            self._state.degraded.append("memory")

    async def _recall(self, degraded: list[str]) -> Context:
        try:
            return await self._agent.memory.recall(self._request)
        except AWAY as error:
            log.warning("the run goes on without memory: %s", error)
            degraded.append("memory")
            return Context()

    async def _find_tools(self, degraded: list[str]) -> list[ToolSpec]:
        wanted = self._request.tools
        try:
            known = {spec.name: spec for spec in await self._agent.tools.specs()}
        except AWAY as error:
            log.warning("the run goes on without tools: %s", error)
            degraded.append("sandbox")
            return []
        for place, name in enumerate(wanted or ()):
            if name not in known:
                raise UnknownToolError(
                    f"there is no tool named {name!r}; the tools are: {', '.join(sorted(known)) or 'none'}",
                    field=f"tools[{place}]",
                )
        return list(known.values()) if wanted is None else [known[name] for name in wanted]

    async def _ask(self) -> ModelAnswer:
        state = self._state
        left_usd = self._money_left()
        step = state.model_calls + 1
        effect_id = f"{state.run_id}/{step}/model"
        self._note(EventType.PLAN_MODEL_REQUEST, records.model_request(step, effect_id, len(state.conversation())))
        # The intent is durable before the call, so that a crash can tell what may have happened.
        await self._sync()
        specs = tuple(self._specs.values())
        request = ModelRequest(state.conversation(), specs, self._request.model, effect_id, left_usd)
        answer = await self._agent.model.answer(request)
        answer = replace(answer, tool_calls=turn.distinct(answer.tool_calls, step))
        self._note(EventType.PLAN_MODEL_RESPONSE, records.model_response(step, effect_id, answer))
        return answer

    def _money_left(self) -> float | None:
        """What may still be spent; None: there is no bound. A limit that is reached is raised here."""
        state, limits = self._state, self._request.limits
        if state.model_calls >= limits.max_steps:
            raise RunLimitError(RunStatus.LIMIT_STEPS, f"its {limits.max_steps} steps were used up")
        if limits.max_cost_usd is None:
            return None
        left_usd = limits.max_cost_usd - (state.usage.cost_usd or 0.0)
        if left_usd <= 0:
            raise RunLimitError(RunStatus.LIMIT_COST, f"its {limits.max_cost_usd:g} USD were used up")
        return left_usd

    def _may_refine(self) -> bool:
        """A poor answer is better than none, which is what a limit would make of it."""
        state = self._state
        return (
            state.refinements < self._agent.policy.max_refinements
            and state.model_calls < self._request.limits.max_steps
        )

    async def _execute(self, calls: tuple[ToolCall, ...]) -> None:
        step = self._state.model_calls
        for call in calls:
            self._refuse_loop(call)
        effects = [(f"{self._state.run_id}/{step}/{place}", call) for place, call in enumerate(calls)]
        for effect_id, call in effects:
            arguments, _ = turn.parse_arguments(call)
            self._note(EventType.TOOL_CALL, records.tool_call(step, effect_id, call, arguments))
        await self._sync()
        await together(self._execute_one(step, effect_id, call) for effect_id, call in effects)

    async def _execute_one(self, step: int, effect_id: str, call: ToolCall) -> None:
        seen = await turn.execute(
            call, self._agent.tools, self._specs, session_id=self._request.session_id, effect_id=effect_id
        )
        kind = EventType.TOOL_ERROR if seen.outcome.error else EventType.TOOL_RESULT
        self._note(kind, records.tool_result(step, effect_id, seen))

    def _refuse_loop(self, call: ToolCall) -> None:
        key = (call.name, call.arguments_json)
        self._calls[key] += 1
        if self._calls[key] > self._agent.policy.max_repeats:
            raise RunLimitError(
                RunStatus.NO_PROGRESS, f"the model called {call.name} with the same arguments again and again"
            )

    async def _end(self, status: RunStatus, result: str, *, reason: str = "") -> None:
        self._note(EventType.PLAN_END, records.end(status, result, reason, self._state.usage))
        await self._sync()

    async def _sync(self) -> None:
        await self._agent.journal.sync(self._state.run_id)

    def _note(self, kind: EventType, data: dict[str, Any]) -> None:
        """Appends the event and takes it in: the state is never ahead of the journal."""
        state = self._state
        event = Event(
            run_id=state.run_id,
            seq=state.seq + 1,
            type=kind,
            timestamp=self._agent.clock.now(),
            trace_id=correlation.current().trace_id,
            session_id=self._request.session_id,
            data=data,
        )
        self._agent.journal.append(event)
        state.apply(event)


def _partial_answer(state: RunState, reason: str) -> str:
    reached = state.answer or "\n".join(
        f"{step.tool} {json.dumps(step.input, ensure_ascii=False)}: "
        f"{step.error or json.dumps(step.output, ensure_ascii=False)}"
        for step in state.steps
    )
    text = f"The run was ended because {reason}."
    return f"{text} Reached so far:\n{reached}" if reached else f"{text} Nothing was reached yet."
