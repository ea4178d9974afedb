"""Finds the passages that answer a query best."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.errors import EmbeddingUnavailableError, IndexUnavailableError
from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.limits import MAX_TOP_K, Defaults, checked_count, checked_query
from pagi_memory.domain.model import SEARCHABLE, Hit, KnowledgeBase, Narrowing, ScoredPassage, Shelf
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.ports import EVERYTHING, PassageStore, VectorIndex
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.scaling import Scaled, by_evidence
from pagi_memory.domain.selection import Bounds, Selection
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.sources import MAX_SOURCE_CHARS
from pagi_memory.domain.words import query_words

log = logging.getLogger(__name__)

MAX_TOKENS_GIVEN = 1_000_000
MAX_NARROWINGS = 50


@dataclass(frozen=True, slots=True)
class Weighing:
    """How candidates are chosen.

    `lexical_weight`: share of the words against the meaning, 0 to 1; what each of them counts, see `by_evidence`.
    `candidates`: how many of each kind are joined. `least_similarity`: a passage that shares no word with the query
    must be at least this near to it. `max_tokens`, `quotas`: what is given where the caller does not say. `merge`:
    join neighbours.
    """

    lexical_weight: float = 0.5
    candidates: int = 50
    least_similarity: float = 0.2
    max_tokens: int = 0
    quotas: Mapping[KnowledgeBase, int] = field(default_factory=dict)
    merge: bool = True


class Recall:
    """Hybrid retrieval: by meaning (vectors) and by words (BM25) at once, joined by `fuse`."""

    def __init__(
        self,
        store: PassageStore,
        index: VectorIndex,
        vectors: QueryVectors,
        model: ServingModel,
        personas: Personas,
        *,
        weighing: Weighing | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        self._store = store
        self._index = index
        self._vectors = vectors
        self._model = model
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
        max_tokens: int = 0,
        only: Narrowing = EVERYTHING,
        quotas: Mapping[KnowledgeBase, int] | None = None,
    ) -> list[ScoredPassage]:
        """The best passages for a query, best first; none for an empty query.

        Args:
            query: What is asked, at most 32,768 characters.
            persona: Whose knowledge; empty: the default persona's.
            knowledge_bases: Which of it; none: every searchable one.
            top_k: At most this many, 1 to 100; 0: the default.
            max_tokens: At most as many tokens in all of them together; 0: the default.
            only: Which documents.
            quotas: At most as many passages of a knowledge base; one that is not named: the default.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds, or the Soul is to be searched.
            UnknownPersonaError: There is no such persona.
        """
        bounds = self._bounds(top_k, max_tokens, quotas or {})
        query = checked_query(query)
        if len(only.sources) + len(only.metadata) > MAX_NARROWINGS:
            raise InvalidArgumentError(f"At most {MAX_NARROWINGS} sources and metadata are allowed.", field="sources")
        if any(len(source) > MAX_SOURCE_CHARS for source in only.sources):
            raise InvalidArgumentError(
                f"A source has more than {MAX_SOURCE_CHARS} characters; none is so long.", field="sources"
            )
        shelves = self._shelves(persona, knowledge_bases)
        if not query:
            return []
        limit = max(bounds.passages, self._weighing.candidates)
        words = query_words(query)
        dense, lexical = await asyncio.gather(
            self._by_meaning(query, shelves, limit, only),
            self._by_words(words, shelves, limit, only),
        )
        scaled = by_evidence(dense, lexical, candidates=limit, words=len(words))
        return await self._chosen(dense, lexical, scaled, bounds)

    def _bounds(self, top_k: int, max_tokens: int, quotas: Mapping[KnowledgeBase, int]) -> Bounds:
        return Bounds(
            checked_count(top_k, "top_k", default=self._defaults.top_k, most=MAX_TOP_K),
            checked_count(max_tokens, "max_tokens", default=self._weighing.max_tokens, most=MAX_TOKENS_GIVEN),
            {**self._weighing.quotas}
            | {kb: checked_count(most, "quotas", default=0, most=MAX_TOP_K) for kb, most in quotas.items()},
        )

    def _shelves(self, persona: str, knowledge_bases: Sequence[KnowledgeBase]) -> list[Shelf]:
        if KnowledgeBase.SOUL in knowledge_bases:
            raise InvalidArgumentError(
                "The Soul is never searched; GetContext gives it whole.", field="knowledge_bases"
            )
        name = self._personas.named(persona)
        return [Shelf(name, kb) for kb in SEARCHABLE if not knowledge_bases or kb in knowledge_bases]

    async def _by_meaning(self, query: str, shelves: Sequence[Shelf], limit: int, only: Narrowing) -> list[Hit]:
        try:
            async with self._model.held():
                vector = await self._vectors.of(query)
                if only:
                    # The index knows no documents; what is left of them is compared one by one.
                    return await self._store.nearest(vector, shelves, limit, only)
                return await self._index.nearest(vector, shelves, limit)
        except (IndexUnavailableError, EmbeddingUnavailableError) as error:
            # Half an answer is better than none; health says what is down.
            log.warning("searching by words alone: %s", error)
            return []

    async def _by_words(self, words: Sequence[str], shelves: Sequence[Shelf], limit: int, only: Narrowing) -> list[Hit]:
        return await self._store.search_words(words, shelves, limit, only) if words else []

    async def _chosen(
        self, dense: list[Hit], lexical: list[Hit], scaled: Scaled, bounds: Bounds
    ) -> list[ScoredPassage]:
        worded = {hit.passage_id for hit in lexical}
        near = self._weighing.least_similarity
        unrelated = {hit.passage_id for hit in dense if hit.score < near and hit.passage_id not in worded}
        weight = self._weighing.lexical_weight
        related = fuse(dense, lexical, lexical_weight=weight, scaled=scaled, without=unrelated)
        selection = Selection(bounds)
        # Few are loaded at first: what is left out is the exception.
        size = bounds.passages + 2
        while not selection.is_full and (some := list(islice(related, size))):
            # The store decides what exists: the index may still name a passage that was just removed.
            passages = await self._store.passages([hit.passage_id for hit in some])
            for hit in some:
                if hit.passage_id in passages:
                    selection.offer(passages[hit.passage_id], hit)
            size = 2 * size
        return selection.chosen(merge=self._weighing.merge)
