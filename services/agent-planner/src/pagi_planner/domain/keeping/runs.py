"""The runs of this process: begun once, taken up where a process died, bounded in number, decided on, cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, PagiError, UnavailableError
from pagi_chassis.ids import new_id

from pagi_planner.domain.agent import Agent, new_run_id, session_id_of
from pagi_planner.domain.errors import JournalError, OverloadedError, RunNotFoundError
from pagi_planner.domain.keeping.begun_run import BegunRun, run_id_of
from pagi_planner.domain.keeping.custody import Custody
from pagi_planner.domain.keeping.reach import Reach
from pagi_planner.domain.keeping.repeats import RETRY_AFTER_S, Repeats
from pagi_planner.domain.keeping.word import is_news
from pagi_planner.domain.keeping.workshop import PARENT_ENDED, Workshop
from pagi_planner.domain.model import Decision, RunRequest, RunResult, RunStatus, RunSummary
from pagi_planner.domain.ownership import Order, OrderKind
from pagi_planner.domain.ports import RunStore
from pagi_planner.domain.run.run import Run
from pagi_planner.domain.state.events import FINAL
from pagi_planner.domain.state.run_state import Phase, RunState
from pagi_planner.domain.time_travel.fork import Change, fork
from pagi_planner.domain.time_travel.timeline import Span, timeline
from pagi_planner.domain.tools.delegate import children_at_work
from pagi_planner.domain.watching.stream import Position
from pagi_planner.domain.watching.watcher import Watcher

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, newest first; `next` goes on after them and is empty at the end."""

    runs: Sequence[RunSummary]
    next: str


class Runs:
    """Starts runs and answers for them.

    Args:
        agent: Does the work.
        store: Finds runs of the past, and says which planner has which.
        max_concurrent: Runs in progress at once; more are refused, not queued. Runs that wait for a person are not in
            progress.
    """

    def __init__(self, agent: Agent, store: RunStore, *, max_concurrent: int) -> None:
        self._agent = agent
        self._store = store
        self._custody = Custody(agent, store)
        self._max_concurrent = max_concurrent
        self._workshop = Workshop(agent, self._custody, room=max_concurrent, cancel_children=self._cancel_children)
        self._repeats = Repeats(agent, self._custody, self._workshop)

    @property
    def active(self) -> int:
        """How many runs are in progress."""
        return len(self._workshop.at_work)

    @property
    def queued(self) -> int:
        """How many runs of dead planners are claimed and wait for room."""
        return self._custody.queued

    @property
    def unreadable(self) -> int:
        """How many runs could neither be read nor be ended."""
        return self._custody.unreadable

    async def begin(self, request: RunRequest, *, idempotency_key: str = "", run_id: str = "") -> BegunRun:
        """Begins a run, or finds the one that the same key, or id, has begun.

        Args:
            request: What to do.
            idempotency_key: Empty: always a new run.
            run_id: In place of a key.

        Raises:
            OverloadedError: Too many runs are in progress.
            IdempotencyConflictError: The key belongs to another request.
            JournalError: Whether the key was used before cannot be read.
        """
        is_named = bool(idempotency_key or run_id)
        run_id = run_id or (run_id_of(idempotency_key) if idempotency_key else new_run_id())
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        if is_named and (known := await self._repeats.find(run_id, request)):
            return known
        self._admit()
        run = self._agent.open(request, run_id=run_id)
        return BegunRun(run.state, run, self._workshop.drive(request, run), self._repeats.following(run_id, request))

    async def run_child(self, request: RunRequest, run_id: str) -> RunResult:
        """Begins a run on behalf of another, or finds it, and waits for its end; see `Delegate`.

        It needs no room of its own: its parent has been let in.
        """
        request = replace(request, session_id=request.session_id or session_id_of(run_id))
        # The id is that of the call, so it is the child, though the parent may have less to give it now.
        begun = await self._repeats.find(run_id, None)
        if begun is None:
            run = self._agent.open(request, run_id=run_id)
            begun = BegunRun(
                run.state, run, self._workshop.drive(request, run), self._repeats.following(run_id, request)
            )
        try:
            with suppress(PagiError):
                await begun.result()
        except asyncio.CancelledError:
            parent = self._workshop.at_work.get(request.parent_run_id)
            # Where the parent goes on in another process, it finds the child again.
            if parent is None or not parent.run.is_suspended:
                try:
                    await asyncio.shield(self.cancel(run_id, PARENT_ENDED))
                except PagiError as error:
                    log.error("%s, whose parent was ended, is not cancelled yet: %s", run_id, error.message)
            raise
        # One that a journal has failed is over, too, and said to have ended as soon as that is written.
        await self._workshop.closed(run_id)
        result = await self.get(run_id)
        if result.status is RunStatus.RUNNING:
            raise UnavailableError(f"nobody waits for {run_id} any longer, and it has not ended")
        return result

    async def get(self, run_id: str) -> RunResult:
        """A run, finished or not.

        Raises:
            RunNotFoundError: There is none.
        """
        return (await self._existing(run_id)).result()

    async def check_tenant(self, run_id: str, tenant: str) -> None:
        """Lets a tenant reach runs of its own, and who names none, the installation, all of them.

        Raises:
            RunNotFoundError: There is no such run, or it is somebody else's, which is not told.
        """
        if not tenant:
            return
        if active := self._workshop.at_work.get(run_id):
            owner: str | None = active.request.tenant
        else:
            begun = await self._agent.journal.events(run_id, limit=1)
            owner = RunState.of(begun).tenant if begun else None
        if owner != tenant:
            raise RunNotFoundError(f"there is no run {run_id!r}")

    async def find(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> RunPage:
        """The newest runs, newest first.

        Args:
            limit: At most this many.
            before: `next` of the page before; empty: the first page.
            session_id: Only of this session; empty: of all.
            status: Only those that stand there; None: all.

        Raises:
            InvalidArgumentError: There is no run `before`.
        """
        found = await self._store.runs(limit=limit + 1, before=before, session_id=session_id, status=status)
        if before and not found and not await self._agent.journal.events(before):
            raise InvalidArgumentError(f"before: there is no run {before!r}", field="before")
        page = found[:limit]
        return RunPage(page, page[-1].run_id if len(found) > limit else "")

    async def cancel(self, run_id: str, reason: str = "it was cancelled") -> RunResult:
        """Stops a run, its model call and its tools. Nothing of it starts after the return.

        Returns:
            The run as it ended: an end that was reached before the cancellation stays.

        Raises:
            RunNotFoundError: There is none.
            JournalError: It is stopped, and the journal does not say so yet.
        """
        reached = Reach(self._custody)
        while True:
            if active := self._workshop.at_work.get(run_id):
                active.cancel(reason)
                await asyncio.wait([active.task])
                if active.has_ended():
                    # Just taken up, it may not have come to where it waits for them.
                    await self._cancel_children(active.run.state)
                    return active.run.state.result()
            async with self._custody.alone(run_id):
                if run_id in self._workshop.at_work:
                    continue
                run = await self._custody.take(run_id)
                if run:
                    await run.cancel(reason)
            if run:
                await self._cancel_children(run.state)
                return run.state.result()
            state = await self._existing(run_id)
            if state.is_final:
                # Who ended it may have died, or failed, before it came to them.
                await self._cancel_children(state)
                return state.result()
            await reached.ask(Order(run_id, OrderKind.CANCEL, {"reason": reason}))

    async def _cancel_children(self, state: RunState) -> None:
        """Stops what a run had handed on that nobody waits for now.

        Raises:
            PagiError: One of them could not be stopped; the others were.
        """
        fault: PagiError | None = None
        for child in children_at_work(state):
            try:
                await self.cancel(child, PARENT_ENDED)
            except RunNotFoundError:
                log.debug("%s had not been begun", child)
            except PagiError as error:
                fault = error
        if fault:
            raise fault

    async def decide(self, run_id: str, call_id: str, decision: Decision) -> RunResult:
        """Takes a person's word on a tool call; the run goes on with what it allows. The same word twice is one.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: The run has ended.
            UnknownCallError: No such call waits, or did.
            DecidedError: Something else was said of it before.
            UnavailableError: The planner that has the run does not answer.
        """
        reached = Reach(self._custody)
        while True:
            if active := self._workshop.at_work.get(run_id):
                if not active.is_leaving:
                    if is_news(active.run.state, call_id, decision):
                        active.run.decide(call_id, decision)
                    # Said before, it may still be on its way to the journal.
                    await active.run.sync()
                    return active.run.state.result()
                await asyncio.wait([active.task])
            await self._workshop.closed(run_id)
            async with self._custody.alone(run_id):
                if run_id in self._workshop.at_work:
                    continue
                if run := await self._custody.take(run_id):
                    return await self._decide(run, call_id, decision)
            state = await self._existing(run_id)
            if not is_news(state, call_id, decision):
                return state.result()
            await reached.ask(Order(run_id, OrderKind.DECIDE, {"call_id": call_id, **asdict(decision)}))

    async def carry_out(self, order: Order) -> None:
        """Does what another planner was asked for and left to this one, which has the run."""
        data = dict(order.data)
        if order.run_id not in self._workshop.at_work and not self._custody.is_queued(order.run_id):
            # It has ended or been let go of: who asked looks again, and sees to it.
            return
        if order.kind is OrderKind.CANCEL:
            await self.cancel(order.run_id, data["reason"])
        else:
            await self.decide(order.run_id, data.pop("call_id"), Decision(**data))

    async def _decide(self, run: Run, call_id: str, decision: Decision) -> RunResult:
        """Takes the word on a run that was just claimed."""
        was_cut_off = run.state.phase is not Phase.WAIT
        try:
            if is_news(run.state, call_id, decision):
                run.decide(call_id, decision)
                await run.sync()
            return run.state.result()
        finally:
            await self._workshop.go_on(run, was_cut_off=was_cut_off)

    async def fork(self, run_id: str, step: int, change: Change) -> BegunRun:
        """Begins a run with the journal of another up to a step; see `fork`. What tools did until then is not undone.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidArgumentError: It has no such step, or does not go on from it.
            OverloadedError: Too many runs are in progress.
        """
        if not (events := await self._agent.journal.events(run_id)):
            raise RunNotFoundError(f"there is no run {run_id!r}")
        self._admit()
        trace_id = correlation.current().trace_id or new_id()
        now = self._agent.parts.clock.now()
        kept = fork(events, step, change, run_id=new_run_id(), trace_id=trace_id, at=now)
        run = self._agent.reopen(RunState.of(kept))
        forked_id = run.state.run_id
        # As soon as it stands in the journal it looks like a run that nobody works on.
        async with self._custody.alone(forked_id):
            for event in kept:
                self._agent.journal.append(event)
            # The run is this planner's from here on, for everybody.
            await run.sync()
            task = self._workshop.drive(self._agent.request_of(run.state), run)
        return BegunRun(run.state, run, task, self._repeats.following(forked_id, None))

    async def timeline(self, run_id: str) -> list[Span]:
        """What a run did, as spans of time.

        Raises:
            RunNotFoundError: There is none.
        """
        if not (events := await self._agent.journal.events(run_id)):
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return timeline(events)

    def follow(self, begun: BegunRun, *, thoughts: bool = False) -> Watcher:
        """Watches a run that was begun just now, or before, from its first event on. To be used as a context."""
        is_new = begun.task is not None and begun.state.seq == 0
        return self._agent.parts.feed.watch(begun.run_id, None if is_new else Position(), thoughts=thoughts)

    async def watch(self, run_id: str, after: Position, *, thoughts: bool = False) -> Watcher:
        """Watches a run, whether it has ended, waits, or is in progress here or elsewhere. To be used as a context.

        Args:
            run_id: Which run.
            after: What was seen before.
            thoughts: Whether to hear what the model thinks, too.

        Raises:
            RunNotFoundError: There is none.
            InvalidArgumentError: It has not come as far as `after` says.
        """
        newest = await self._agent.journal.events(run_id, after=max(after.seq, 1) - 1, limit=1)
        if not newest and not (run_id in self._workshop.at_work and after.seq == 0):
            await self._existing(run_id)
            raise InvalidArgumentError(f"the run has no event {after.seq} yet", field="Last-Event-ID")
        watcher = self._agent.parts.feed.watch(run_id, after, thoughts=thoughts)
        if after.seq and newest[0].type in FINAL:
            # All of it was seen.
            watcher.close()
        return watcher

    async def settled(self, run_id: str) -> RunResult:
        """A run as it stands when nobody works on it here: what its caller gets, its history stored.

        Raises:
            RunNotFoundError: There is none.
        """
        if active := self._workshop.at_work.get(run_id):
            await asyncio.wait([active.task])
            if active.has_ended():
                return active.run.state.result()
        return await self.get(run_id)

    def send_watchers_away(self, reason: str) -> None:
        """Ends every watcher, now and from now on."""
        self._agent.parts.feed.close(reason)

    async def recover(self) -> int:
        """Takes up the runs that dead planners have left, see `Workshop.recover`."""
        return await self._workshop.recover()

    async def stop(self, grace_s: float) -> None:
        """Lets the runs in progress end; those that take longer go on after the next start."""
        await self._workshop.stop(grace_s)

    async def _existing(self, run_id: str) -> RunState:
        if (state := await self._state(run_id)) is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return state

    async def _state(self, run_id: str) -> RunState | None:
        return await self._custody.state(run_id)

    def _admit(self) -> None:
        if (closing := len(self._workshop.closing)) >= self._max_concurrent:
            raise JournalError(
                f"the journal cannot be written, and {closing} runs wait to be ended there: is the disk full? Try again"
            )
        if self.active >= self._max_concurrent:
            raise OverloadedError(
                f"{self._max_concurrent} runs are in progress, which is the most (MAX_CONCURRENT_REQUESTS)",
                retry_after_s=RETRY_AFTER_S,
            )
