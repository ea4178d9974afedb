"""What memory needs from the world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pagi_memory.domain.model import (
    Document,
    DocumentInfo,
    Found,
    Hit,
    Narrowing,
    Passage,
    Piece,
    SessionKey,
    Shelf,
    ShelfStatistics,
    SourceText,
    Turn,
)
from pagi_memory.domain.playbook import Entry, Kept, Known, MindStatistics, Playbook, PlaybookState
from pagi_memory.domain.session import (
    Digest,
    HeartStatistics,
    Retention,
    SaidVector,
    Session,
    SessionRecord,
    Summary,
    TurnHit,
    Window,
)

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

EVERYTHING = Narrowing()


class Embedder(Protocol):
    """Turns texts into vectors; texts that mean alike lie close by cosine."""

    @property
    def identity(self) -> str:
        """Names the model and its weights; vectors of different identities must not be mixed."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of length 1 for each text, the same whatever else is embedded at the same time."""

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query, which may differ in its last bits with what is asked for at the same time."""


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
        """Finds every document; one that cannot be read is told with the reason.

        Raises:
            NoKnowledgeFolderError: The folder is not there.
        """

    async def read(self, source: str) -> SourceText:
        """The text of a document, made from whatever format its file has.

        Raises:
            UnreadableDocumentError: It cannot be read, or there is none.
        """

    async def write(self, source: str, content: bytes) -> bool:
        """Puts a file in its place, the old one or the new one and nothing between; whether it is a new one.

        Raises:
            InvalidArgumentError: No document can have this source, or its content cannot be read.
        """

    async def delete(self, source: str) -> None:
        """Deletes a file.

        Raises:
            UnknownDocumentError: There is none.
        """

    def changes(self) -> AsyncIterator[None]:
        """Something comes whenever anything in the folders may have changed, until the caller stops asking."""


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

    async def search_words(
        self, words: Sequence[str], shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """The passages that hold any of the words, best first. Words may hold any characters."""

    async def nearest(
        self, vector: Vector, shelves: Sequence[Shelf], limit: int, only: Narrowing = EVERYTHING
    ) -> list[Hit]:
        """The nearest passages by comparing with every one: exact, and slow where there are many."""

    async def vectors(self, shelf: Shelf) -> tuple[list[str], Matrix]:
        """The ids of a shelf's passages and their vectors of the serving model, one in each row."""

    async def vectors_of(self, source: str) -> dict[str, Vector]:
        """The vectors of a document by the text that was embedded, so that what has not changed is not embedded."""

    async def documents(self, *, after: str = "", limit: int, persona: str, bases: Sequence[str]) -> list[DocumentInfo]:
        """Documents in the order of their sources, those behind `after`; empty `persona` or `bases`: every one."""

    async def document(self, source: str) -> tuple[DocumentInfo, str, list[Passage]] | None:
        """A document, its text and its passages in order; None where there is none."""

    async def statistics(self) -> list[ShelfStatistics]:
        """What each shelf holds, the Souls among them."""

    async def serving_model(self) -> str:
        """The model whose vectors serve; empty before the first."""

    async def serve_model(self, model: str) -> None:
        """Lets the vectors of a model serve from now on, deletes the others; every passage becomes unindexed."""

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """The texts to embed of passages that have no vector of a model, by passage id."""

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """Keeps vectors of a model beside those that serve; ids that are gone are left out."""

    async def count_vectors(self, model: str) -> int:
        """How many passages have a vector of a model."""

    async def forget_documents(self) -> None:
        """Forgets every document, to be taken in anew from its file."""

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages of these ids; an id that is not known is left out."""

    async def counts(self) -> dict[Shelf, int]:
        """How many searchable passages each shelf holds."""

    async def count(self, shelf: Shelf) -> int:
        """How many searchable passages the shelf holds."""

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """Up to `limit` passages that the index has to learn (a vector) or to forget (None)."""

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """Notes that the index has learned or forgotten these."""

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """Notes every passage of the shelf as one that the index has to learn."""


class Ledger(Protocol):
    """What a vector index has to be told, and how much it must hold then. `PassageStore` keeps one of documents."""

    async def counts(self) -> dict[Shelf, int]:
        """How many vectors each shelf has."""

    async def unindexed(self, limit: int) -> dict[Shelf, dict[str, Vector | None]]:
        """Up to `limit` that the index has to learn (a vector) or to forget (None)."""

    async def mark_indexed(self, ids: Sequence[str]) -> None:
        """Notes that the index has learned or forgotten these."""

    async def mark_unindexed(self, shelf: Shelf) -> None:
        """Notes that the index has to learn all of the shelf."""


class VectorIndex(Protocol):
    """Finds the nearest vectors. It can be lost and is then filled again from the store."""

    async def shelves(self) -> list[Shelf]:
        """The shelves that the index knows."""

    async def count(self, shelf: Shelf) -> int | None:
        """How many passages the shelf holds; 0 where it is not known, None where it cannot be read."""

    async def entries(self, shelf: Shelf) -> set[str]:
        """The ids that the shelf holds.

        Raises:
            IndexUnavailableError: The index cannot be read now.
        """

    async def clear(self, shelf: Shelf) -> None:
        """Forgets the whole shelf, also one that cannot be read."""

    def outdate(self, shelf: Shelf) -> None:
        """What may be kept of the shelf beside the index is read again: the store has changed."""

    async def is_asked(self, shelf: Shelf) -> bool:
        """Whether a search finds only what the index was told of the shelf."""

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
    """The turns of conversations. What a key or a tenant does not own is not there for it."""

    async def append(
        self, key: SessionKey, persona: str, turns: Sequence[Turn], vectors: Sequence[SaidVector] = ()
    ) -> int:
        """Adds the turns that are neither there nor forgotten (by run and position), all or none; says how many.

        `vectors` are of some of these turns; a turn that is changed or forgotten loses its own.
        """

    async def newest(self, key: SessionKey, limit: int, *, before: Turn | None = None) -> list[Turn]:
        """The newest `limit` turns, or those before one of them, oldest of them first."""

    async def turns(self, key: SessionKey, *, after: Turn | None = None, limit: int) -> list[Turn]:
        """The oldest `limit` turns, or those behind one of them, oldest first."""

    async def window(self, key: SessionKey, limit: int) -> Window:
        """The newest `limit` turns, up to 200 of the oldest turns that no summary covers, and the summary."""

    async def roll(self, key: SessionKey, summary: Summary, numbers: Sequence[int]) -> bool:
        """Stores a summary that covers these turns too, unless the stored one has another version than it has."""

    async def sessions(
        self, tenant: str, *, limit: int, after: tuple[int, str] | None = None, persona: str = ""
    ) -> list[Session]:
        """The sessions, last spoken in first, behind a place: microseconds since 1970 of `updated_at`, and the id."""

    async def sessions_by_id(self, tenant: str, *, after: str = "", limit: int) -> list[Session]:
        """The sessions behind an id, in an order that does not change while people speak."""

    async def session(self, key: SessionKey) -> tuple[Session, Summary] | None:
        """One session and its summary."""

    async def rename(self, key: SessionKey, title: str) -> bool:
        """Changes the title; False where there is no such session."""

    async def forget_session(self, key: SessionKey, at: datetime) -> int | None:
        """Forgets all of it and remembers its runs, so that none is added again; None where there is none."""

    async def edit_turn(self, key: SessionKey, run_id: str, position: int, text: str, at: datetime) -> Turn | None:
        """Changes a text and drops the summary; None where there is no such turn."""

    async def forget_turn(self, key: SessionKey, run_id: str, position: int, at: datetime) -> bool:
        """Forgets a turn for good and drops the summary; False where there is no such turn."""

    async def search(
        self, tenant: str, words: Sequence[str], *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """The turns that hold any of the words, in their text, date or the turn before, best first."""

    async def nearest(
        self, tenant: str, vector: Vector, model: str, *, session_id: str = "", persona: str = "", limit: int
    ) -> list[TurnHit]:
        """Of the newest 5,000 turns that have a vector of the model the nearest, best first; the score is a cosine."""

    async def take_in(self, tenant: str, records: Sequence[SessionRecord]) -> int:
        """Adds sessions, all or none, those that were forgotten too; says how many turns were new."""

    async def statistics(self, tenant: str) -> HeartStatistics:
        """How much a tenant has said."""

    async def expire(self, retention: Retention, now: datetime) -> int:
        """Forgets, of every tenant, what is not to be kept; says how many sessions."""


class Summarizer(Protocol):
    """Says in short what was said."""

    @property
    def least_turns(self) -> int:
        """How many turns are worth a call."""

    async def summarize(self, previous: str, turns: Sequence[Turn], *, max_tokens: int, effect_id: str) -> Digest:
        """One summary of what the one so far tells and of these turns.

        Raises:
            PagiError: It cannot be had now.
        """


class PlaybookStore(Protocol):
    """What runs have learned. What a tenant does not own is not there for it."""

    async def keep(self, tenant: str, entries: Sequence[Entry], *, most: int) -> list[Kept]:
        """Keeps what runs have to teach and to say of playbooks, all of it or nothing; one answer for each, in order.

        What was learned adds a playbook, or gives the one of its id the newer content, a win, and its place back. A
        run changes a playbook once, whatever is repeated; a playbook that is gone, or another tenant's, is left out.
        Where a persona then has more than `most`, the least worthy go: those set aside first, then those that lost
        most, then those changed longest ago.
        """

    async def known(self, tenant: str, ids: Sequence[str]) -> set[str]:
        """Which of these ids there are."""

    async def of_entries(self, tenant: str, entries: Sequence[str]) -> dict[str, Playbook]:
        """The playbooks that vectors belong to, by the vectors' names (`PlaybookVectors.entries`)."""

    async def set_aside(self, tenant: str, playbook_id: str, reason: str, at: datetime) -> None:
        """Sets it aside; one that is gone is no error."""

    async def listed(
        self,
        tenant: str,
        *,
        limit: int,
        after: tuple[int, str] | None = None,
        state: PlaybookState | None = None,
        persona: str = "",
    ) -> list[Playbook]:
        """Last changed first, behind a place: microseconds since 1970 of `updated_at`, and the id."""

    async def get(self, tenant: str, playbook_id: str) -> Playbook | None:
        """One playbook."""

    async def change(self, tenant: str, playbook: Playbook, known: Known | None = None) -> bool:
        """Puts it in the place of the one of its id; False where there is none. `known`: where the prompt changes."""

    async def remove(self, tenant: str, playbook_id: str) -> str:
        """Forgets it; the persona that had it, empty where there is none."""

    async def statistics(self, tenant: str) -> MindStatistics:
        """How much there is."""

    async def forget_runs(self, *, before: datetime, most: int) -> int:
        """Forgets some of the runs before a time, or beyond the newest so many, of every tenant; 0 at the end.

        The counts stay; a run that is told again afterwards counts again.
        """


class PlaybookVectors(Protocol):
    """The vectors of the playbooks' prompts: of the model that serves now where no model is named.

    Each has a name that no other ever has, so that an index which holds the same names holds the same vectors.
    """

    @property
    def is_shared(self) -> bool:
        """Whether another process may change them."""

    async def counts(self) -> dict[Shelf, int]:
        """How many each shelf has."""

    async def count(self, shelf: Shelf) -> int:
        """How many the shelf has."""

    async def stamp(self, shelf: Shelf) -> tuple[int, int]:
        """Another one after each change of the shelf."""

    async def entries(self, shelf: Shelf) -> set[str]:
        """The names of all of a shelf."""

    async def some(self, entries: Sequence[str]) -> dict[str, Vector]:
        """The vectors of these names; one that is not known is left out."""

    async def without_vector(self, model: str, limit: int) -> dict[str, str]:
        """The prompts of playbooks of every tenant that have no vector of a model, by a key for `add_vectors`."""

    async def add_vectors(self, model: str, vectors: Mapping[str, Vector]) -> None:
        """Keeps vectors of a model; a playbook that was changed or forgotten since is left out."""
