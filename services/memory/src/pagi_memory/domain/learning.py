"""Learns from runs that ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.clock import utc_now
from pagi_memory.domain.limits import checked_id, checked_persona, checked_tenant, storable
from pagi_memory.domain.playbook import (
    MAX_PROMPT_CHARS,
    Entry,
    Known,
    NewPlaybook,
    Playbook,
    PlaybookState,
    PlaybookStep,
    RunRecord,
    RunResult,
    Trial,
    playbook_id,
    task_of,
)
from pagi_memory.domain.ports import PlaybookStore
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.task_index import TaskIndex

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

log = logging.getLogger(__name__)

MAX_RUNS = 500
MAX_STEPS = 50
MAX_ARGUMENTS_CHARS = 1_000
MAX_OUTCOME_CHARS = 300
MAX_TOOLS = 200
MAX_TRIED = 100
# Dollars and milliseconds: 30 years of these.
MAX_FIGURE = 10**12
# So many of the nearest are looked at; two tasks that are one are nearer than all but a few.
_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class _Task:
    """What tells whether two tasks are one."""

    id: str
    persona: str
    tools: frozenset[str]
    vector: Vector


class Learning:
    """Keeps what runs have to teach, as playbooks, and counts how those do that were given to runs.

    Args:
        store: Where they are kept.
        tasks: Finds the one of the same task.
        vectors: Of prompts, kept since the run was given its context.
        model: Of `vectors`.
        most: So many are kept for each persona of a tenant; the least worthy gives way.
        same_task: Two tasks as near as this are one where they use the same tools.
    """

    def __init__(
        self,
        store: PlaybookStore,
        tasks: TaskIndex,
        vectors: QueryVectors,
        model: ServingModel,
        *,
        most: int = 200,
        same_task: float = 0.95,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._vectors = vectors
        self._model = model
        self._most = most
        self._same_task = same_task
        self._now = now
        # One at a time: two runs of one task that end together make one playbook.
        self._turn = asyncio.Lock()

    async def record_runs(self, tenant: str, runs: Sequence[RunRecord]) -> list[RunResult | InvalidArgumentError]:
        """Keeps what runs that ended have to tell, in one transaction; a repeat changes nothing.

        Returns:
            One for each run, in their order: what became of it, or what was wrong with it; the others are kept then.

        Raises:
            InvalidArgumentError: There are too many, or the tenant can be none.
            EmbeddingUnavailableError: The model does not answer; nothing was kept.
            StoreUnavailableError: The store cannot be written; nothing was kept.
        """
        checked_tenant(tenant)
        if len(runs) > MAX_RUNS:
            raise InvalidArgumentError(f"{len(runs)} runs were sent; at most {MAX_RUNS} are allowed.", field="runs")
        results: list[RunResult | InvalidArgumentError] = []
        fine: dict[int, RunRecord] = {}
        for place, run in enumerate(runs):
            results.append(RunResult())
            try:
                fine[place] = _checked(run)
            except InvalidArgumentError as error:
                results[place] = error
        # Who asked may go: what is written then is told to the index all the same.
        kept = await asyncio.shield(asyncio.create_task(self._keep_in_turn(tenant, list(fine.values()))))
        for place, result in zip(fine, kept, strict=True):
            results[place] = result
        return results

    async def record(self, tenant: str, new: NewPlaybook) -> tuple[str, bool]:
        """Learns from a run; the same task again updates its playbook, and brings back one that was set aside.

        Returns:
            The id of the playbook, and whether it is a new one. A run that was recorded before changes nothing.

        Raises:
            InvalidArgumentError: Something is outside of its bounds.
        """
        result = await self._one(tenant, RunRecord(lesson=new))
        return result.playbook_id, result.created

    async def count_outcome(self, tenant: str, trial: Trial) -> int:
        """Counts how a run ended that was given playbooks, once for each; sets aside what keeps losing.

        Raises:
            InvalidArgumentError: An id is none.
        """
        return (await self._one(tenant, RunRecord(trial=trial))).counted

    async def _one(self, tenant: str, run: RunRecord) -> RunResult:
        [result] = await self.record_runs(tenant, [run])
        if isinstance(result, InvalidArgumentError):
            raise result
        return result

    async def _keep_in_turn(self, tenant: str, runs: Sequence[RunRecord]) -> list[RunResult]:
        async with self._turn:
            return await self._keep(tenant, runs)

    async def _keep(self, tenant: str, runs: Sequence[RunRecord]) -> list[RunResult]:
        if not runs:
            return []
        async with self._model.held():
            learned = await self._learned(tenant, [run.lesson for run in runs])
        now = self._now()
        entries = [_entry(run, known, now) for run, known in zip(runs, learned, strict=True)]
        kept = await self._store.keep(tenant, entries, most=self._most)
        done = list(zip(entries, kept, strict=True))
        for persona in {e.learned.playbook.persona for e, k in done if e.learned and k.is_new_task}:
            self._tasks.changed(tenant, persona)
        for standing in [each for k in kept for each in k.standings]:
            if standing.state is PlaybookState.ACTIVE and standing.keeps_losing:
                reason = f"lost {standing.losses} of {standing.wins + standing.losses} runs"
                log.info("playbook %s is set aside: %s", standing.id, reason)
                await self._store.set_aside(tenant, standing.id, reason, now)
        return [RunResult(e.learned.playbook.id if e.learned else "", k.created, len(k.standings)) for e, k in done]

    async def _learned(self, tenant: str, lessons: Sequence[NewPlaybook | None]) -> list[Known | None]:
        """Each lesson as the playbook that it is about."""
        own_ids = [_id_of(tenant, lesson) if lesson else "" for lesson in lessons]
        there = await self._store.known(tenant, sorted(set(own_ids) - {""}))
        seen: list[_Task] = []
        learned: list[Known | None] = []
        for lesson, own_id in zip(lessons, own_ids, strict=True):
            if lesson is None:
                learned.append(None)
                continue
            vector = await self._vectors.of(lesson.prompt)
            task = _Task(own_id, lesson.persona, frozenset(step.tool for step in lesson.steps), vector)
            if task.id not in there:
                same = await self._same(tenant, task, task_of(lesson.prompt), seen)
                task = replace(task, id=same or task.id)
            seen.append(task)
            learned.append(Known(_playbook(task.id, lesson, self._now()), vector, self._model.identity))
        return learned

    async def _same(self, tenant: str, task: _Task, words: str, seen: Sequence[_Task]) -> str:
        """The playbook of the same task: the same words, or as good as the same meaning with the same tools."""
        for other in seen:
            is_near = float(task.vector @ other.vector) >= self._same_task
            if other.persona == task.persona and (other.id == task.id or (is_near and other.tools == task.tools)):
                return other.id
        hits = await self._tasks.nearest(tenant, task.persona, task.vector, _CANDIDATES)
        near = [hit.passage_id for hit in hits if hit.score >= self._same_task]
        found = await self._store.of_entries(tenant, near) if near else {}
        playbooks = [found[entry] for entry in near if entry in found]
        of_words = (each.id for each in playbooks if task_of(each.prompt) == words)
        of_tools = (each.id for each in playbooks if {step.tool for step in each.steps} == task.tools)
        return next(of_words, "") or next(of_tools, "")


def _id_of(tenant: str, lesson: NewPlaybook) -> str:
    return playbook_id(tenant, lesson.persona, task_of(lesson.prompt))


def _playbook(made_id: str, lesson: NewPlaybook, now: datetime) -> Playbook:
    return Playbook(
        made_id,
        lesson.persona,
        lesson.prompt,
        tuple(lesson.steps),
        dict(lesson.tool_versions),
        lesson.cost_usd,
        lesson.duration_ms,
        created_at=now,
        updated_at=now,
    )


def _entry(run: RunRecord, learned: Known | None, now: datetime) -> Entry:
    trial = run.trial
    run_id = run.lesson.run_id if run.lesson else trial.run_id if trial else ""
    if trial is None or trial.outcome is None:
        return Entry(run_id, now, learned)
    return Entry(run_id, now, learned, tuple(dict.fromkeys(trial.playbook_ids)), trial.outcome)


def _checked(run: RunRecord) -> RunRecord:
    lesson, trial = run.lesson, run.trial
    if lesson is None and trial is None:
        raise InvalidArgumentError("A run must have a playbook, an outcome or both.", field="runs")
    if lesson and trial and lesson.run_id != trial.run_id:
        raise InvalidArgumentError("The playbook and the outcome are of two runs.", field="outcome.run_id")
    if trial:
        checked_id(trial.run_id, "run_id")
        if trial.outcome is None:
            raise InvalidArgumentError("outcome must be 1 (win) or 2 (loss).", field="outcome")
        if len(trial.playbook_ids) > MAX_TRIED:
            raise InvalidArgumentError(f"At most {MAX_TRIED} playbooks are allowed.", field="playbook_ids")
        for each in trial.playbook_ids:
            checked_id(each, "playbook_ids")
    return RunRecord(_checked_lesson(lesson) if lesson else None, trial)


def _checked_lesson(new: NewPlaybook) -> NewPlaybook:
    checked_id(new.run_id, "run_id")
    prompt = storable(new.prompt).strip()
    if not prompt:
        raise InvalidArgumentError("prompt is empty.", field="prompt")
    if not 1 <= len(new.steps) <= MAX_STEPS:
        raise InvalidArgumentError(
            f"{len(new.steps)} steps were sent; between 1 and {MAX_STEPS} are allowed.", field="steps"
        )
    if len(new.tool_versions) > MAX_TOOLS:
        raise InvalidArgumentError(f"at most {MAX_TOOLS} tool versions are allowed.", field="tool_versions")
    # NaN and infinity among them: no database keeps these as they are.
    for field, value in (("cost_usd", new.cost_usd or 0.0), ("duration_ms", new.duration_ms)):
        if not abs(value) <= MAX_FIGURE:
            raise InvalidArgumentError(f"{field} is {value}; at most {MAX_FIGURE} is allowed.", field=field)
    for place, step in enumerate(new.steps):
        checked_id(step.tool, f"steps[{place}].tool")
    steps = tuple(
        PlaybookStep(
            step.tool,
            _cut(storable(step.arguments_json), MAX_ARGUMENTS_CHARS),
            _cut(storable(step.outcome), MAX_OUTCOME_CHARS),
        )
        for step in new.steps
    )
    versions = {checked_id(name, "tool_versions"): storable(text) for name, text in new.tool_versions.items()}
    used = {step.tool for step in steps}
    return replace(
        new,
        persona=checked_persona(new.persona),
        # A long request is told by how it begins.
        prompt=_cut(prompt, MAX_PROMPT_CHARS),
        steps=steps,
        # A clock that was set back meanwhile is not the run's fault.
        duration_ms=max(new.duration_ms, 0.0),
        tool_versions={name: text for name, text in versions.items() if name in used},
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
