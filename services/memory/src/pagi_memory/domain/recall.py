"""Finds the passages that answer a query best."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.limits import MAX_TOP_K, Defaults, checked_count, checked_query
from pagi_memory.domain.model import SEARCHABLE, Hit, KnowledgeBase, ScoredPassage, Shelf
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import PassageStore, VectorIndex
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.words import query_words

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weighing:
    """How candidates are chosen.

    `lexical_weight`: share of the words against the meaning, 0 to 1. `candidates`: how many of each kind are
    joined. `least_similarity`: a passage that shares no word with the query must be at least this near to it.
    """

    lexical_weight: float = 0.6
    candidates: int = 50
    least_similarity: float = 0.2


class Recall:
    """Hybrid retrieval: by meaning (vectors) and by words (BM25) at once, joined by `fuse`."""

    def __init__(
        self,
        store: PassageStore,
        index: VectorIndex,
        vectors: QueryVectors,
        personas: Personas,
        *,
        weighing: Weighing | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        self._store = store
        self._index = index
        self._vectors = vectors
        self._personas = personas
        self._weighing = weighing or Weighing()
        self._defaults = defaults or Defaults()

    async def search(
        self,
        query: str,
        *,
        persona: str = "",
        knowledge_bases: Sequence[KnowledgeBase] = (),
        top_k: int = 0,
    ) -> list[ScoredPassage]:
        """The best passages for a query, best first; none for an empty query.

        Args:
            query: What is asked, at most 32,768 characters.
            persona: Whose knowledge; empty: the default persona's.
            knowledge_bases: Which of it; none: every searchable one.
            top_k: At most this many, 1 to 100; 0: the default.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds, or the Soul is to be searched.
            UnknownPersonaError: There is no such persona.
        """
        wanted = checked_count(top_k, "top_k", default=self._defaults.top_k, most=MAX_TOP_K)
        query = checked_query(query)
        shelves = self._shelves(persona, knowledge_bases)
        if not query:
            return []
        limit = max(wanted, self._weighing.candidates)
        dense, lexical = await asyncio.gather(
            self._by_meaning(query, shelves, limit),
            self._by_words(query, shelves, limit),
        )
        return await self._chosen(dense, lexical, wanted)

    def _shelves(self, persona: str, knowledge_bases: Sequence[KnowledgeBase]) -> list[Shelf]:
        if KnowledgeBase.SOUL in knowledge_bases:
            raise InvalidArgumentError(
                "The Soul is never searched; GetContext gives it whole.", field="knowledge_bases"
            )
        name = self._personas.named(persona)
        return [Shelf(name, kb) for kb in SEARCHABLE if not knowledge_bases or kb in knowledge_bases]

    async def _by_meaning(self, query: str, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        vector = await self._vectors.of(query)
        try:
            return await self._index.nearest(vector, shelves, limit)
        except IndexUnavailableError as error:
            # Half an answer is better than none; health says that the index is down.
            log.warning("searching by words alone: %s", error)
            return []

    async def _by_words(self, query: str, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        words = query_words(query)
        return await self._store.search_words(words, shelves, limit) if words else []

    async def _chosen(self, dense: list[Hit], lexical: list[Hit], wanted: int) -> list[ScoredPassage]:
        worded = {hit.passage_id for hit in lexical}
        near = self._weighing.least_similarity
        unrelated = {hit.passage_id for hit in dense if hit.score < near and hit.passage_id not in worded}
        fused = [
            hit
            for hit in fuse(dense, lexical, lexical_weight=self._weighing.lexical_weight)
            if hit.passage_id not in unrelated
        ]
        # The store decides what exists: the index may still name a passage that was just removed.
        passages = await self._store.passages([hit.passage_id for hit in fused])
        known = [hit for hit in fused if hit.passage_id in passages][:wanted]
        return [ScoredPassage(passages[hit.passage_id], hit.score, hit.dense, hit.lexical) for hit in known]
