"""One run in progress: it does what its state says comes next, until it has ended or waits for a person."""

from __future__ import annotations

import asyncio
import json
import logging

from pagi_chassis import correlation, deadline, telemetry
from pagi_chassis.errors import PagiError

from pagi_planner.domain.errors import JournalError, RunTakenOverError
from pagi_planner.domain.model import Decision, RunResult, RunStatus
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.act import act
from pagi_planner.domain.run.phases.ask import ask
from pagi_planner.domain.run.phases.evaluate import evaluate
from pagi_planner.domain.run.phases.plan import plan
from pagi_planner.domain.run.phases.understand import understand
from pagi_planner.domain.run.work import RunLimitError, Work
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import Phase, RunState

log = logging.getLogger(__name__)

DEADLINE_MARGIN_S = 1.0


class Run:
    """Drives the work of one run.

    Args:
        work: Its parts, request and state.
        trace_id: Of the request that began it.
    """

    def __init__(self, work: Work, trace_id: str) -> None:
        self._work = work
        self._trace_id = trace_id
        # Where its task is cancelled so that another process may go on with it.
        self.is_suspended = False
        # Where that other process is at it already.
        self.is_taken_over = False
        # Where it was cancelled and the journal could not be told.
        self.is_end_lost = False
        self.cancelled_because = "the run was cancelled"

    @property
    def state(self) -> RunState:
        """Where it stands."""
        return self._work.state

    async def drive(self) -> RunResult:
        """Goes on to a final event, or to where only a person's word leads further.

        Raises:
            JournalError: The journal cannot be written; nothing further was done.
            PagiError: The run failed, and is recorded as failed.
            asyncio.CancelledError: The task was cancelled. The run is recorded as cancelled unless it was suspended.
        """
        state = self.state
        names = {"pagi.run_id": state.run_id, "pagi.trace_id": self._trace_id}
        request = self._work.request
        with (
            # What the caller of this moment is called is not what the run's was: another process may go on with it.
            correlation.bind(
                trace_id=self._trace_id, run_id=state.run_id, session_id=request.session_id, tenant=request.tenant
            ),
            telemetry.span("invoke_agent", attributes=names),
        ):
            await self._drive()
        return state.result()

    def decide(self, call_id: str, decision: Decision) -> None:
        """Notes a person's word on a call that waits for it; `Work.sync` makes it durable."""
        with correlation.bind(trace_id=self._trace_id):
            self._work.note(EventType.APPROVAL_DECIDED, records.decision(call_id, decision))

    @property
    def epoch(self) -> int:
        """Of the claim under which it is worked on."""
        return self._work.epoch

    def resume(self, owner: str) -> None:
        """Notes that the run, cut off before, is taken up; `drive` makes it durable before anything else."""
        state = self.state
        down_s = (self._work.parts.clock.now() - state.last_at).total_seconds() if state.last_at else 0.0
        with correlation.bind(trace_id=self._trace_id):
            self._work.note(EventType.RUN_RESUMED, records.resumption(owner, self.epoch, max(0.0, down_s)))

    async def sync(self) -> None:
        """Waits until what was noted is durable."""
        await self._work.sync()

    async def cancel(self, reason: str) -> None:
        """Records that the run was stopped from outside.

        Raises:
            RunTakenOverError: Another planner has the run now.
            JournalError: It was not written.
        """
        if self.state.is_final:
            return
        with correlation.bind(trace_id=self._trace_id):
            data = records.cancellation(reason, partial_answer(self.state, reason, self._work.unfinished))
            self._work.note(EventType.PLAN_CANCELLED, data)
        await self._work.sync()

    async def fail(self, error: PagiError) -> None:
        """Records an end that the run could not write itself.

        Raises:
            JournalError: It still cannot.
        """
        with correlation.bind(trace_id=self._trace_id):
            self._work.note(EventType.PLAN_ERROR, records.failure(type(error).__name__, error.message))
            await self._work.sync()

    async def _drive(self) -> None:
        """Takes the run to a final event, whatever happens."""
        work = self._work
        try:
            if self.state.seq == 0:
                work.note(EventType.PLAN_START, records.start(work.request))
            await work.sync()
            await self._within_its_time()
        except RunLimitError as limit:
            await self._end_at_limit(limit)
        except asyncio.CancelledError:
            # The journal has all that another process needs to go on.
            if not self.is_suspended:
                await asyncio.shield(self._stopped())
            raise
        except PagiError as error:
            await self._fail(error, error.message)
            raise
        except Exception as error:
            await self._fail(error, "internal error")
            raise
        if self.state.is_final:
            work.parts.accounts.keep(self.state)
            await self._remember()

    def check_end(self) -> None:
        """Sees to it that nobody is told of an end which the journal does not know of.

        Raises:
            JournalError: It was cancelled, and that is not written yet.
        """
        if self.is_end_lost:
            raise JournalError(f"{self.state.run_id} is stopped, and its journal cannot be told yet; ask again")

    async def _stopped(self) -> None:
        """Records that the run was cancelled; a journal that cannot be written does not hold up the stop."""
        try:
            await self.cancel(self.cancelled_because)
        except RunTakenOverError:
            self.is_taken_over = True
        except JournalError as error:
            self.is_end_lost = True
            log.error("the run is cancelled and its journal does not say so yet: %s", error.message)

    async def _within_its_time(self) -> None:
        """Works for as long as the run has; other timeouts, of a model say, are errors like any other."""
        timeout_s = self._work.request.limits.timeout_s
        left_s = timeout_s - self.state.used_s
        # Others are told a later moment: so the run's own end comes first, and is not taken for a fault of theirs.
        with deadline.limit(max(left_s, 0.0) + DEADLINE_MARGIN_S):
            clock = asyncio.timeout(left_s)
            try:
                async with clock:
                    while self.state.phase in _STEPS:
                        await self._step(self.state.phase)
                    # Who gives a word on a call that waits may do it in another process, from the journal.
                    if self.state.phase is Phase.WAIT:
                        await self._work.sync()
            except TimeoutError as error:
                if clock.expired():
                    raise RunLimitError.for_time(timeout_s) from error
                raise

    async def _step(self, phase: Phase) -> None:
        """One phase, with its span and its time."""
        with self._work.parts.timings.phase(phase):
            if telemetry.is_on():
                with telemetry.span(f"phase {phase}"):
                    await _STEPS[phase](self)
            else:
                await _STEPS[phase](self)

    async def _understand(self) -> None:
        await understand(self._work)

    async def _ask(self) -> None:
        await ask(self._work)

    async def _plan(self) -> None:
        await plan(self._work)

    async def _act(self) -> None:
        await act(self._work)

    async def _evaluate(self) -> None:
        await evaluate(self._work)

    async def _answer(self) -> None:
        answer = self.state.best_answer
        said = answer if answer.strip() else "The model gave no answer."
        await self._end(RunStatus.COMPLETED, said)

    async def _end(self, status: RunStatus, result: str, *, reason: str = "") -> None:
        self._work.note(EventType.PLAN_END, records.end(status, result, reason, self.state.usage))
        await self._work.sync()

    async def _end_at_limit(self, limit: RunLimitError) -> None:
        """Ends with a partial answer, unless the end itself is what took too long."""
        if self.state.is_final:
            await self._work.sync()
        else:
            reached = partial_answer(self.state, limit.reason, self._work.unfinished)
            await self._end(limit.status, reached, reason=limit.reason)

    async def _fail(self, error: Exception, message: str) -> None:
        """Records why the run failed. A journal that cannot be written is the caller's to hear of, not ours to hide."""
        has_begun = self.state.seq > 0
        if isinstance(error, JournalError) or not has_begun:
            return
        log.warning("the run failed: %s", message)
        field = getattr(error, "field", "")
        self._work.note(EventType.PLAN_ERROR, records.failure(type(error).__name__, message, field))
        await self._work.sync()

    async def _remember(self) -> None:
        """Stores the history before the answer goes out, so that the next request finds it.

        Where memory is away the journal keeps the exchange, and it is stored when memory is back.
        """
        parts, state = self._work.parts, self.state
        if "memory" in state.degraded:
            return
        try:
            async with asyncio.timeout(parts.policy.remember_timeout_s):
                await parts.memory.remember(state.exchange())
            parts.remembered.add(state.run_id)
        except (PagiError, TimeoutError) as error:
            log.warning("the history is not stored yet: %s", error or "no answer in time")
            state.degraded.append("memory")
        except Exception:
            # A fault of ours here must not cost the caller an answer that is there.
            log.exception("the history cannot be stored")
            state.degraded.append("memory")


_STEPS = {
    Phase.UNDERSTAND: Run._understand,
    Phase.PLAN: Run._plan,
    Phase.ASK: Run._ask,
    Phase.ACT: Run._act,
    Phase.EVALUATE: Run._evaluate,
    Phase.ANSWER: Run._answer,
}


def partial_answer(state: RunState, reason: str, unfinished: str = "") -> str:
    """What a run that was ended has reached, in words; `unfinished` is an answer that broke off."""
    reached = (
        unfinished
        or state.answer
        or "\n".join(
            f"{step.tool} {json.dumps(step.input, ensure_ascii=False)}: "
            f"{step.error or json.dumps(step.output, ensure_ascii=False)}"
            for step in state.steps
        )
    )
    text = f"The run was ended because {reason}."
    return f"{text} Reached so far:\n{reached}" if reached else f"{text} Nothing was reached yet."
