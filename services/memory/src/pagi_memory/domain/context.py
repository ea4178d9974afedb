"""Gathers what a run needs to begin."""

from __future__ import annotations

import asyncio

from pagi_memory.domain.history import History
from pagi_memory.domain.model import Context
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.recall import Recall


class ContextAssembly:
    """Soul, turns and passages in one answer."""

    def __init__(self, personas: Personas, history: History, recall: Recall) -> None:
        self._personas = personas
        self._history = history
        self._recall = recall

    async def gather(
        self, tenant: str, session_id: str, *, query: str, persona: str = "", top_k: int = 0, max_turns: int = 0
    ) -> Context:
        """Reads the three at once; see `History.newest` and `Recall.search` for the bounds.

        Raises:
            InvalidArgumentError: An argument is outside of its bounds.
            UnknownPersonaError: There is no such persona.
        """
        soul = self._personas.soul(persona)
        turns, passages = await asyncio.gather(
            self._history.newest(tenant, session_id, max_turns=max_turns),
            self._recall.search(query, persona=persona, top_k=top_k),
        )
        return Context(soul, turns, passages)
