"""Gathers what a run needs to begin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagi_memory.domain.history import History
from pagi_memory.domain.limits import checked_query, checked_tenant
from pagi_memory.domain.model import KnowledgeBase, Narrowing, ScoredPassage, Turn
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.playbook import ScoredPlaybook
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.ports import EVERYTHING
from pagi_memory.domain.recall import Recall

# So many ways to do a task are enough to choose from.
MOST_PLAYBOOKS = 3


@dataclass(frozen=True, slots=True)
class Context:
    """All that a run needs to begin; the summary tells what was said before the turns."""

    soul: str
    summary: str
    turns: list[Turn]
    passages: list[ScoredPassage]
    playbooks: list[ScoredPlaybook]


class ContextAssembly:
    """Soul, turns and passages in one answer."""

    def __init__(self, personas: Personas, history: History, recall: Recall, playbooks: Playbooks) -> None:
        self._personas = personas
        self._history = history
        self._recall = recall
        self._playbooks = playbooks

    async def look_up(
        self,
        tenant: str,
        query: str,
        *,
        persona: str = "",
        knowledge_bases: Sequence[KnowledgeBase] = (),
        top_k: int = 0,
        max_tokens: int = 0,
        only: Narrowing = EVERYTHING,
        quotas: Mapping[KnowledgeBase, int] | None = None,
    ) -> tuple[list[ScoredPassage], list[ScoredPlaybook]]:
        """Passages, see `Recall.search`, and the tenant's playbooks where the Mind is named among the knowledge bases.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds, or the Soul is to be searched.
            UnknownPersonaError: There is no such persona.
        """
        passages = await self._recall.search(
            query,
            persona=persona,
            knowledge_bases=knowledge_bases,
            top_k=top_k,
            max_tokens=max_tokens,
            only=only,
            quotas=quotas,
        )
        if KnowledgeBase.MIND not in knowledge_bases:
            return passages, []
        most = (quotas or {}).get(KnowledgeBase.MIND, top_k or MOST_PLAYBOOKS)
        name = self._personas.named(persona)
        return passages, await self._playbooks.fitting(
            checked_tenant(tenant), checked_query(query), persona=name, limit=most
        )

    async def gather(
        self,
        tenant: str,
        session_id: str,
        *,
        query: str,
        persona: str = "",
        top_k: int = 0,
        max_turns: int = 0,
        max_passage_tokens: int = 0,
        max_history_tokens: int = 0,
        tool_versions: Mapping[str, str] | None = None,
    ) -> Context:
        """Reads all at once; see `History.recollect` and `Recall.search` for the bounds.

        Playbooks that fit come beside the passages, at most `MOST_PLAYBOOKS`.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
            UnknownPersonaError: There is no such persona.
        """
        soul = self._personas.soul(persona)
        task = checked_query(query)
        told, passages, playbooks = await asyncio.gather(
            self._history.recollect(tenant, session_id, max_turns=max_turns, max_tokens=max_history_tokens),
            self._recall.search(query, persona=persona, top_k=top_k, max_tokens=max_passage_tokens),
            self._playbooks.fitting(
                tenant,
                task,
                persona=self._personas.named(persona),
                limit=MOST_PLAYBOOKS,
                tool_versions=tool_versions,
            ),
        )
        return Context(soul, told.summary, told.turns, passages, playbooks)
