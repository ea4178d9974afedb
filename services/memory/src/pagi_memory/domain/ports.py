"""What memory needs from the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pagi_memory.domain.model import (
    Document,
    Found,
    Hit,
    Passage,
    Piece,
    SessionKey,
    Shelf,
    Turn,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector


class Embedder(Protocol):
    """Turns texts into vectors; texts that mean alike lie close by cosine."""

    @property
    def identity(self) -> str:
        """Names the model and its weights; vectors of different identities must not be mixed."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of length 1 for each text, the same whether it comes alone or among others."""


class Splitter(Protocol):
    """Cuts a document into pieces that the embedder sees whole."""

    @property
    def identity(self) -> str:
        """Names the way of cutting; a change means that every document is cut anew."""

    def split(self, source: str, text: str) -> list[Piece]:
        """The pieces in order. `source` tells the format by its suffix."""


class KnowledgeFiles(Protocol):
    """The folders that people write."""

    async def look(self) -> Found:
        """Reads every document. One that cannot be read is named in a log line and left out.

        Raises:
            NoKnowledgeFolderError: The folder is not there.
        """


class PassageStore(Protocol):
    """The truth about documents: texts, passages, vectors, and the words of each passage.

    What changes is also noted as not yet indexed, in the same transaction, so that the vector index can
    always be brought in step.
    """

    async def fingerprints(self) -> dict[str, str]:
        """The fingerprint of every document by its source."""

    async def replace(self, document: Document) -> None:
        """Puts a document in the place of the one of the same source, all of it or nothing."""

    async def remove(self, source: str) -> None:
        """Forgets a document and its passages; one that is not there is no error."""

    async def souls(self) -> dict[str, str]:
        """The whole Soul of every known persona: its documents in the order of their sources."""

    async def search_words(self, words: Sequence[str], shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """The passages that hold any of the words, best first. Words may hold any characters."""

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages of these ids; an id that is not known is left out."""

    async def counts(self) -> dict[Shelf, int]:
        """How many searchable passages each shelf holds."""

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """Up to `limit` passages that the index has to learn (a vector) or to forget (None)."""

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """Notes that the index has learned or forgotten these."""

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """Notes every passage of the shelf as one that the index has to learn."""


class VectorIndex(Protocol):
    """Finds the nearest vectors. It can be lost and is then filled again from the store."""

    async def shelves(self) -> list[Shelf]:
        """The shelves that the index knows."""

    async def count(self, shelf: Shelf) -> int | None:
        """How many passages the shelf holds; 0 where it is not known, None where it cannot be read."""

    async def clear(self, shelf: Shelf) -> None:
        """Forgets the whole shelf, also one that cannot be read."""

    async def apply(self, shelf: Shelf, changes: Mapping[str, Vector | None]) -> None:
        """Learns (a vector) or forgets (None) passages; a repeat changes nothing.

        Raises:
            IndexUnavailableError: The index cannot be written now.
        """

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """The nearest passages of the shelves by cosine similarity (-1 to 1), best first.

        Raises:
            IndexUnavailableError: The index cannot be read now.
        """


class SessionStore(Protocol):
    """The turns of conversations."""

    async def append(self, key: SessionKey, persona: str, turns: Sequence[Turn]) -> int:
        """Adds the turns that are not there yet (by run and position), all or none; answers how many were new."""

    async def newest(self, key: SessionKey, limit: int) -> list[Turn]:
        """The newest `limit` turns, oldest of them first; none where the session is not known."""
