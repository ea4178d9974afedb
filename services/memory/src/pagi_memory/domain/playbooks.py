"""The Mind: what runs have learned, and what it was worth."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from operator import itemgetter

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.clock import microseconds, utc_now
from pagi_memory.domain.errors import EmbeddingUnavailableError, IndexUnavailableError, UnknownPlaybookError
from pagi_memory.domain.limits import (
    checked_count,
    checked_id,
    checked_page_token,
    checked_persona,
    checked_query,
    checked_tenant,
    first_that_fit,
    storable,
)
from pagi_memory.domain.playbook import (
    MAX_PROMPT_CHARS,
    Known,
    MindStatistics,
    Playbook,
    PlaybookPage,
    PlaybookState,
    ScoredPlaybook,
)
from pagi_memory.domain.ports import PlaybookStore
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.task_index import TaskIndex

log = logging.getLogger(__name__)

MAX_LISTED = 200
MAX_NOTES_CHARS = 2_000
# So many of the nearest are weighed by their worth.
CANDIDATES = 30
# And no more than so many where most of them are set aside.
_MOST_CANDIDATES = 1_000

# The score (negative, so that the best is the least), the id, the playbook, how near its task is.
_Scored = tuple[float, str, Playbook, float]


class Playbooks:
    """The playbooks of tenants. Every method takes the tenant and reaches nothing of another one.

    Args:
        store: Where they are kept.
        tasks: Finds them by meaning.
        vectors: Of queries, kept while they are asked again.
        model: Of `vectors`.
        least_relevance: A playbook whose task is less near to the query than this cosine does not fit.
    """

    def __init__(
        self,
        store: PlaybookStore,
        tasks: TaskIndex,
        vectors: QueryVectors,
        model: ServingModel,
        *,
        least_relevance: float = 0.5,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._vectors = vectors
        self._model = model
        self._least_relevance = least_relevance
        self._now = now

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
        if not query or limit <= 0:
            return []
        most = max(limit, CANDIDATES)
        while True:
            near = await self._near(tenant, query, persona, most)
            scored = await self._weighed(tenant, near, tool_versions or {})
            # Those that are set aside are near, too, and may hide the others: after a change of a tool all of them are.
            if len(scored) >= limit or len(near) < most or most >= _MOST_CANDIDATES:
                break
            most *= 4
        best = heapq.nsmallest(limit, scored, key=itemgetter(0, 1))
        return [ScoredPlaybook(playbook, relevance, -score) for score, _, playbook, relevance in best]

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
        if persona:
            checked_persona(persona)
        if query := checked_query(storable(query)):
            fits = await self.fitting(tenant, query, persona=checked_persona(persona), limit=wanted)
            return PlaybookPage(first_that_fit([each.playbook for each in fits], _texts), "")
        found = await self._store.listed(tenant, limit=wanted + 1, after=after, state=state, persona=persona)
        page = first_that_fit(found[:wanted], _texts)
        last = page[-1] if len(found) > len(page) else None
        return PlaybookPage(page, f"{microseconds(last.updated_at)}:{last.id}" if last else "")

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
        if after.prompt == before.prompt:
            is_there = await self._store.change(tenant, after)
        else:
            async with self._model.held():
                vector = await self._vectors.of(after.prompt)
                is_there = await self._store.change(tenant, after, Known(after, vector, self._model.identity))
            self._tasks.changed(tenant, after.persona)
        if not is_there:
            raise UnknownPlaybookError(wanted_id)
        return after

    async def forget(self, tenant: str, wanted_id: str) -> None:
        """Forgets a playbook.

        Raises:
            UnknownPlaybookError: The tenant has none of this id.
        """
        checked_id(wanted_id, "id")
        if not (persona := await self._store.remove(checked_tenant(tenant), wanted_id)):
            raise UnknownPlaybookError(wanted_id)
        self._tasks.changed(tenant, persona)

    async def statistics(self, tenant: str) -> MindStatistics:
        """How much the tenant's runs have learned."""
        return await self._store.statistics(checked_tenant(tenant))

    async def _weighed(self, tenant: str, near: Mapping[str, float], tool_versions: Mapping[str, str]) -> list[_Scored]:
        """The active ones among these; outdated ones are set aside."""
        found = await self._store.of_entries(tenant, list(near)) if near else {}
        scored = []
        for entry, playbook in found.items():
            if playbook.state is not PlaybookState.ACTIVE:
                continue
            if reason := playbook.outdated_by(tool_versions):
                await self._set_aside(tenant, playbook, reason)
            else:
                scored.append((-near[entry] * playbook.worth, playbook.id, playbook, near[entry]))
        return scored

    async def _near(self, tenant: str, query: str, persona: str, limit: int) -> dict[str, float]:
        """How near the tasks are to a query, of those that are near enough, by the names of their vectors."""
        try:
            async with self._model.held():
                vector = await self._vectors.of(query)
                hits = await self._tasks.nearest(tenant, persona, vector, limit)
        except (EmbeddingUnavailableError, IndexUnavailableError) as error:
            # A run without playbooks is better than none; health says what is down.
            log.warning("no playbooks are given: %s", error)
            return {}
        return {hit.passage_id: hit.score for hit in hits if hit.score >= self._least_relevance}

    async def _set_aside(self, tenant: str, playbook: Playbook, reason: str) -> None:
        log.info("playbook %s is set aside: %s", playbook.id, reason)
        await self._store.set_aside(tenant, playbook.id, reason, self._now())


def _texts(playbook: Playbook) -> Iterator[str]:
    yield from (playbook.prompt, playbook.notes, *playbook.tool_versions.values())
    for step in playbook.steps:
        yield step.arguments_json + step.outcome


def _short(text: str, field: str, most: int) -> str:
    if len(text) > most:
        raise InvalidArgumentError(f"{field} has {len(text)} characters; at most {most} are allowed.", field=field)
    return text
