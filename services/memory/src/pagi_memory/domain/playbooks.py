"""The Mind: what runs have learned, and what it was worth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.errors import UnknownPlaybookError
from pagi_memory.domain.limits import (
    checked_count,
    checked_id,
    checked_page_token,
    checked_persona,
    checked_query,
    checked_tenant,
    storable,
)
from pagi_memory.domain.playbook import (
    Known,
    MindStatistics,
    NewPlaybook,
    Outcome,
    Playbook,
    PlaybookPage,
    PlaybookState,
    PlaybookStep,
    ScoredPlaybook,
    playbook_id,
    task_of,
)
from pagi_memory.domain.ports import Embedder, PlaybookStore
from pagi_memory.domain.query_vectors import QueryVectors

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

log = logging.getLogger(__name__)

MAX_LISTED = 200
MAX_STEPS = 50
MAX_PROMPT_CHARS = 2_000
MAX_ARGUMENTS_CHARS = 1_000
MAX_OUTCOME_CHARS = 300
MAX_NOTES_CHARS = 2_000
MAX_TOOLS = 200


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Playbooks:
    """The playbooks of tenants. Every method takes the tenant and reaches nothing of another one.

    Args:
        store: Where they are kept.
        vectors: Of queries, kept while they are asked again.
        embedder: Of `vectors`; its identity tells which stored vectors are of another model.
        most: So many are kept for each persona of a tenant; the least worthy gives way.
        least_relevance: A playbook whose task is less near to the query than this cosine does not fit.
        same_task: Two tasks as near as this are one where they use the same tools.
    """

    def __init__(
        self,
        store: PlaybookStore,
        vectors: QueryVectors,
        embedder: Embedder,
        *,
        most: int = 200,
        least_relevance: float = 0.5,
        same_task: float = 0.95,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._vectors = vectors
        self._embedder = embedder
        self._most = most
        self._least_relevance = least_relevance
        self._same_task = same_task
        self._now = now

    async def record(self, tenant: str, new: NewPlaybook) -> tuple[str, bool]:
        """Learns from a run; the same task again updates its playbook, and brings back one that was set aside.

        Returns:
            The id of the playbook, and whether it is a new one. A run that was recorded before changes nothing.

        Raises:
            InvalidArgumentError: Something is outside of its bounds.
        """
        checked_tenant(tenant)
        new = _checked(new)
        vector = await self._vectors.of(new.prompt)
        known = await self._comparable(await self._store.of_persona(tenant, new.persona), vector)
        same = self._same(new, vector, known)
        made_id = same.id if same else playbook_id(tenant, new.persona, task_of(new.prompt))
        now = self._now()
        playbook = Playbook(
            made_id,
            new.persona,
            new.prompt,
            tuple(new.steps),
            dict(new.tool_versions),
            new.cost_usd,
            new.duration_ms,
            created_at=now,
            updated_at=now,
        )
        created = await self._store.record(tenant, new.run_id, Known(playbook, vector, self._embedder.identity))
        if created and len(known) >= self._most:
            await self._store.remove_least(tenant, new.persona, self._most)
        return made_id, created

    async def count_outcome(self, tenant: str, run_id: str, playbook_ids: Sequence[str], outcome: Outcome) -> int:
        """Counts how a run ended that was given playbooks, once for each; sets aside what keeps losing.

        Raises:
            InvalidArgumentError: An id is none.
        """
        checked_tenant(tenant)
        checked_id(run_id, "run_id")
        ids = dict.fromkeys(checked_id(each, "playbook_ids") for each in playbook_ids)
        counted = 0
        for each in ids:
            if (after := await self._store.count(tenant, each, run_id, outcome, self._now())) is None:
                continue
            counted += 1
            if after.state is PlaybookState.ACTIVE and after.keeps_losing:
                reason = f"lost {after.losses} of {after.wins + after.losses} runs"
                await self._set_aside(tenant, after, reason)
        return counted

    async def fitting(
        self, tenant: str, query: str, *, persona: str, limit: int, tool_versions: Mapping[str, str] | None = None
    ) -> list[ScoredPlaybook]:
        """The playbooks that fit a query best: by relevance, weighed by worth. Outdated ones are set aside.

        Args:
            tenant: Whose.
            query: A request, as `checked_query` gives it.
            persona: Whose.
            limit: At most this many.
            tool_versions: Of the tools that can be used now, by name; empty: not known.
        """
        if not query or limit <= 0 or not (known := await self._store.of_persona(tenant, persona)):
            return []
        active = [each for each in known if each.playbook.state is PlaybookState.ACTIVE]
        vector = await self._vectors.of(query)
        scored = []
        for each in await self._comparable(active, vector):
            playbook, relevance = each.playbook, float(vector @ each.vector)
            if relevance < self._least_relevance:
                continue
            if reason := playbook.outdated_by(tool_versions or {}):
                await self._set_aside(tenant, playbook, reason)
            else:
                scored.append(ScoredPlaybook(playbook, relevance, relevance * playbook.worth))
        return sorted(scored, key=lambda each: (-each.score, each.playbook.id))[:limit]

    async def find(
        self,
        tenant: str,
        *,
        state: PlaybookState | None = None,
        persona: str = "",
        query: str = "",
        limit: int = 0,
        page_token: str = "",
    ) -> PlaybookPage:
        """The playbooks, the one last changed first, or those that fit a query.

        Args:
            tenant: Whose; empty where there is one tenant.
            state: None: all.
            persona: Empty: of every one; with a query: the default one.
            query: Not empty: the best that fit it, only active ones, with no next page.
            limit: At most this many, 1 to 200; 0: 50.
            page_token: `next_token` of the page before.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
        """
        wanted = checked_count(limit, "limit", default=50, most=MAX_LISTED)
        checked_tenant(tenant)
        after = checked_page_token(page_token)
        if query := checked_query(storable(query)):
            fits = await self.fitting(tenant, query, persona=checked_persona(persona), limit=wanted)
            return PlaybookPage([each.playbook for each in fits], "")
        found = await self._store.listed(tenant, limit=wanted + 1, after=after, state=state, persona=persona)
        page = found[:wanted]
        last = page[-1] if len(found) > wanted else None
        return PlaybookPage(page, f"{round(last.updated_at.timestamp() * 1_000_000)}:{last.id}" if last else "")

    async def get(self, tenant: str, wanted_id: str) -> Playbook:
        """One playbook.

        Raises:
            UnknownPlaybookError: The tenant has none of this id.
        """
        checked_id(wanted_id, "id")
        if (found := await self._store.get(checked_tenant(tenant), wanted_id)) is None:
            raise UnknownPlaybookError(wanted_id)
        return found

    async def change(
        self,
        tenant: str,
        wanted_id: str,
        *,
        state: PlaybookState | None = None,
        prompt: str | None = None,
        notes: str | None = None,
    ) -> Playbook:
        """Changes what is given; a restored playbook begins anew, with one win and no loss.

        Raises:
            InvalidArgumentError: A text is too long, or the prompt is empty.
            UnknownPlaybookError: The tenant has none of this id.
        """
        before = await self.get(tenant, wanted_id)
        after = replace(before, updated_at=self._now())
        if prompt is not None:
            if not (said := storable(prompt).strip()):
                raise InvalidArgumentError("prompt is empty.", field="prompt")
            after = replace(after, prompt=_short(said, "prompt", MAX_PROMPT_CHARS))
        if notes is not None:
            after = replace(after, notes=_short(storable(notes).strip(), "notes", MAX_NOTES_CHARS))
        if state is PlaybookState.SET_ASIDE and before.state is not state:
            after = replace(after, state=state, reason="set aside by hand")
        if state is PlaybookState.ACTIVE and before.state is not state:
            # With its losses it would be set aside again at the next one, with the old versions at the next look.
            after = replace(after, state=state, reason="", wins=1, losses=0, tool_versions={})
        vector = await self._vectors.of(after.prompt)
        if not await self._store.change(tenant, Known(after, vector, self._embedder.identity)):
            raise UnknownPlaybookError(wanted_id)
        return after

    async def forget(self, tenant: str, wanted_id: str) -> None:
        """Forgets a playbook.

        Raises:
            UnknownPlaybookError: The tenant has none of this id.
        """
        checked_id(wanted_id, "id")
        if not await self._store.remove(checked_tenant(tenant), wanted_id):
            raise UnknownPlaybookError(wanted_id)

    async def statistics(self, tenant: str) -> MindStatistics:
        """How much the tenant's runs have learned."""
        return await self._store.statistics(checked_tenant(tenant))

    def _same(self, new: NewPlaybook, vector: Vector, known: Sequence[Known]) -> Playbook | None:
        """The playbook of the same task: the same words, or as good as the same meaning with the same tools."""
        task, tools = task_of(new.prompt), {step.tool for step in new.steps}
        best, nearest = None, self._same_task
        for each in known:
            playbook = each.playbook
            if task_of(playbook.prompt) == task:
                return playbook
            if {step.tool for step in playbook.steps} == tools and (near := float(vector @ each.vector)) >= nearest:
                best, nearest = playbook, near
        return best

    async def _comparable(self, known: Sequence[Known], vector: Vector) -> list[Known]:
        """The same with vectors of the model that serves: after a change of it each is embedded once more."""
        model = self._embedder.identity
        current = [
            each if each.model == model else replace(each, vector=await self._vectors.of(each.playbook.prompt))
            for each in known
        ]
        # Where the model changes at this moment, what cannot be compared waits for the next time.
        return [each for each in current if len(each.vector) == len(vector)]

    async def _set_aside(self, tenant: str, playbook: Playbook, reason: str) -> None:
        log.info("playbook %s is set aside: %s", playbook.id, reason)
        await self._store.set_aside(tenant, playbook.id, reason, self._now())


def _checked(new: NewPlaybook) -> NewPlaybook:
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
        tool_versions={name: text for name, text in versions.items() if name in used},
    )


def _short(text: str, field: str, most: int) -> str:
    if len(text) > most:
        raise InvalidArgumentError(f"{field} has {len(text)} characters; at most {most} are allowed.", field=field)
    return text


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
