"""One run in progress: each method is a phase, and each step is an event before it counts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from pagi_chassis import correlation, telemetry
from pagi_chassis.errors import (
    DeadlineExceededError,
    InternalError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)

from pagi_planner.domain import turn
from pagi_planner.domain.context import fit
from pagi_planner.domain.errors import JournalError, UnknownToolError
from pagi_planner.domain.evaluation import evaluate
from pagi_planner.domain.events import Event, EventType
from pagi_planner.domain.model import (
    Context,
    ModelAnswer,
    ModelRequest,
    RunRequest,
    RunStatus,
    ToolCall,
    ToolSpec,
)
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
        request = self._request
        self._note(
            EventType.PLAN_START,
            prompt=request.prompt,
            persona=request.persona,
            model=request.model,
            tools=None if request.tools is None else list(request.tools),
            resources=[{"type": each.type, "uri": each.uri} for each in request.resources],
            limits={
                "max_steps": request.limits.max_steps,
                "timeout_s": request.limits.timeout_s,
                "max_cost_usd": request.limits.max_cost_usd,
            },
            **telemetry.inject(),
        )
        await self._agent.journal.sync(self._state.run_id)

    async def understand(self) -> None:
        """Gathers the persona, the history, the passages and the tools."""
        degraded: list[str] = []
        context, specs = await asyncio.gather(self._recall(degraded), self._find_tools(degraded))
        self._specs = {spec.name: spec for spec in specs}
        notices = ("No tools can be reached now. Say so where one would be needed.",) if "sandbox" in degraded else ()
        fitted = fit(context, self._request, max_tokens=self._agent.policy.max_context_tokens, notices=notices)
        self._note(
            EventType.CONTEXT_LOADED,
            messages=[{"role": message.role, "text": message.text} for message in fitted.messages],
            passages=[
                {
                    "id": passage.id,
                    "source": passage.source,
                    "knowledge_base": passage.knowledge_base,
                    "headings": list(passage.headings),
                    "score": passage.score,
                }
                for passage in fitted.passages
            ],
            tools=sorted(self._specs),
            left_out=fitted.left_out,
            tokens=fitted.tokens,
            degraded=degraded,
        )

    async def work(self) -> None:
        """Asks the model and runs its tools until an answer will do."""
        while True:
            answer = await self._ask()
            if answer.tool_calls:
                await self._execute(answer.tool_calls)
                continue
            evaluation = evaluate(self._state)
            may_refine = self._state.refinements < self._agent.policy.max_refinements
            feedback = evaluation.feedback if may_refine else ""
            self._note(
                EventType.EVALUATION,
                score=evaluation.score,
                findings=[{"rule": each.rule, "detail": each.detail} for each in evaluation.findings],
                feedback=feedback,
            )
            if not feedback:
                await self._end(RunStatus.COMPLETED, answer.text or "The model gave no answer.")
                return

    async def end_at_limit(self, limit: RunLimitError) -> None:
        """Ends with a partial answer."""
        await self._end(limit.status, _partial_answer(self._state, limit.reason), reason=limit.reason)

    async def fail(self, error: BaseException, message: str) -> None:
        """Records why the run failed. A journal that cannot be written is the caller's to hear of, not ours to hide."""
        if isinstance(error, JournalError):
            return
        self._note(EventType.PLAN_ERROR, error=message, error_type=type(error).__name__, **telemetry.inject())
        await self._agent.journal.sync(self._state.run_id)

    async def cancel(self, reason: str) -> None:
        """Records that the run was stopped from outside."""
        if not self._state.is_final:
            self._note(EventType.PLAN_CANCELLED, reason=reason, **telemetry.inject())
            await self._agent.journal.sync(self._state.run_id)

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
            log.warning("the history is not stored yet: %s", error)
            self._state.degraded.append("memory")

    async def _recall(self, degraded: list[str]) -> Context:
        try:
            return await self._agent.memory.recall(self._request)
        except PagiError as error:
            if not _is_away(error):
                raise
            log.warning("the run goes on without memory: %s", error.message)
            degraded.append("memory")
            return Context()

    async def _find_tools(self, degraded: list[str]) -> list[ToolSpec]:
        wanted = self._request.tools
        try:
            specs = await self._agent.tools.specs()
        except PagiError as error:
            if not _is_away(error):
                raise
            log.warning("the run goes on without tools: %s", error.message)
            degraded.append("sandbox")
            return []
        known = {spec.name: spec for spec in specs}
        for place, name in enumerate(wanted or ()):
            if name not in known:
                raise UnknownToolError(
                    f"there is no tool named {name!r}; the tools are: {', '.join(sorted(known)) or 'none'}",
                    field=f"tools[{place}]",
                )
        return [known[name] for name in wanted] if wanted is not None else list(specs)

    async def _ask(self) -> ModelAnswer:
        state, limits = self._state, self._request.limits
        if state.model_calls >= limits.max_steps:
            raise RunLimitError(RunStatus.LIMIT_STEPS, f"its {limits.max_steps} steps were used up")
        spent = state.usage.cost_usd or 0.0
        if limits.max_cost_usd is not None and spent >= limits.max_cost_usd > 0:
            raise RunLimitError(RunStatus.LIMIT_COST, f"its {limits.max_cost_usd:g} USD were used up")
        step = state.model_calls + 1
        effect_id = f"{state.run_id}/{step}/model"
        self._note(EventType.PLAN_MODEL_REQUEST, step=step, effect_id=effect_id, messages=len(state.conversation()))
        # The intent is durable before the call, so that a crash can tell what may have happened.
        await self._agent.journal.sync(self._state.run_id)
        left = None if limits.max_cost_usd is None else limits.max_cost_usd - spent
        request = ModelRequest(state.conversation(), tuple(self._specs.values()), self._request.model, effect_id, left)
        answer = await self._agent.model.answer(request)
        self._note(
            EventType.PLAN_MODEL_RESPONSE,
            step=step,
            effect_id=effect_id,
            text=answer.text,
            tool_calls=[
                {"id": call.id, "name": call.name, "arguments": call.arguments_json} for call in answer.tool_calls
            ],
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            cost_usd=answer.usage.cost_usd,
            finish_reason=answer.finish_reason,
            model=answer.model,
            provider=answer.provider,
            latency_ms=answer.latency_ms,
        )
        return answer

    async def _execute(self, calls: tuple[ToolCall, ...]) -> None:
        step = self._state.model_calls
        effects = [(f"{self._state.run_id}/{step}/{place}", call) for place, call in enumerate(calls)]
        for call in calls:
            self._refuse_loop(call)
        for effect_id, call in effects:
            arguments, _ = turn.parse_arguments(call)
            self._note(
                EventType.TOOL_CALL,
                step=step,
                effect_id=effect_id,
                call_id=call.id,
                tool=call.name,
                input=arguments,
            )
        await self._agent.journal.sync(self._state.run_id)
        await asyncio.gather(*(self._execute_one(step, effect_id, call) for effect_id, call in effects))

    async def _execute_one(self, step: int, effect_id: str, call: ToolCall) -> None:
        seen = await turn.execute(
            call, self._agent.tools, self._specs, session_id=self._request.session_id, effect_id=effect_id
        )
        outcome = seen.outcome
        self._note(
            EventType.TOOL_ERROR if outcome.error else EventType.TOOL_RESULT,
            step=step,
            effect_id=effect_id,
            call_id=call.id,
            tool=call.name,
            input=seen.arguments,
            verdict=outcome.verdict,
            output=outcome.reply,
            error=outcome.error,
            duration_ms=outcome.duration_ms,
            truncated=outcome.truncated,
            observation=seen.text,
            degraded=["sandbox"] if outcome.verdict in ("unavailable", "unknown") else [],
        )

    def _refuse_loop(self, call: ToolCall) -> None:
        key = (call.name, call.arguments_json)
        self._calls[key] += 1
        if self._calls[key] > self._agent.policy.max_repeats:
            raise RunLimitError(
                RunStatus.NO_PROGRESS, f"the model called {call.name} with the same arguments again and again"
            )

    async def _end(self, status: RunStatus, result: str, *, reason: str = "") -> None:
        usage = self._state.usage
        self._note(
            EventType.PLAN_END,
            status=status,
            result=result,
            reason=reason,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
            **telemetry.inject(),
        )
        await self._agent.journal.sync(self._state.run_id)

    def _note(self, kind: EventType, **data: Any) -> None:
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


def _is_away(error: PagiError) -> bool:
    """Whether a part cannot be used now, as against: has refused this request."""
    return isinstance(error, UnavailableError | DeadlineExceededError | ResourceExhaustedError | InternalError)


def _partial_answer(state: RunState, reason: str) -> str:
    reached = state.answer or "\n".join(
        f"{step.tool} {json.dumps(step.input, ensure_ascii=False)}: "
        f"{step.error or json.dumps(step.output, ensure_ascii=False)}"
        for step in state.steps
    )
    text = f"The run was ended because {reason}."
    return f"{text} Reached so far:\n{reached}" if reached else f"{text} Nothing was reached yet."
