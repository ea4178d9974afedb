"""Who the agent can be."""

from __future__ import annotations

from pagi_memory.domain.errors import UnknownPersonaError
from pagi_memory.domain.model import DEFAULT_PERSONA
from pagi_memory.domain.ports import PassageStore


class Personas:
    """The Souls, kept in memory because every run reads one; ingestion refreshes them."""

    def __init__(self, store: PassageStore) -> None:
        self._store = store
        self._souls: dict[str, str] = {DEFAULT_PERSONA: ""}

    async def refresh(self) -> None:
        """Reads the Souls again."""
        self._souls = {DEFAULT_PERSONA: ""} | await self._store.souls()

    def named(self, persona: str) -> str:
        """The persona's name; the default one where none is given.

        Raises:
            UnknownPersonaError: There is none of this name.
        """
        name = persona or DEFAULT_PERSONA
        if name not in self._souls:
            raise UnknownPersonaError(persona, self._souls)
        return name

    def soul(self, persona: str) -> str:
        """The whole Soul of a persona; empty where nothing is written.

        Raises:
            UnknownPersonaError: There is none of this name.
        """
        return self._souls[self.named(persona)]
