"""The data that memory is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # One text's place in the space of meanings: float32, of length 1, `Embedder.dimensions` long.
    Vector = NDArray[np.float32]

DEFAULT_PERSONA = "default"


class KnowledgeBase(StrEnum):
    """The parts of what an agent has in mind; the values are the names of folders and collections."""

    SOUL = "Soul-KB"
    DOMAIN = "Domain-KB"
    BODY = "Body-KB"
    MIND = "Mind-KB"


# The Soul is given whole and never searched.
SEARCHABLE = (KnowledgeBase.DOMAIN, KnowledgeBase.BODY, KnowledgeBase.MIND)


@dataclass(frozen=True, slots=True)
class Shelf:
    """One knowledge base of one persona: the unit that is indexed and searched by itself."""

    persona: str
    knowledge_base: KnowledgeBase

    @property
    def collection(self) -> str:
        """Its name in the vector index: `Domain-KB`, or `companion-dog.Domain-KB`."""
        if self.persona == DEFAULT_PERSONA:
            return self.knowledge_base.value
        return f"{self.persona}.{self.knowledge_base.value}"

    @classmethod
    def of_collection(cls, name: str) -> Shelf | None:
        """The shelf that a collection of this name belongs to; None for somebody else's collection."""
        persona, _, base = name.rpartition(".")
        shelf = (
            cls(persona or DEFAULT_PERSONA, KnowledgeBase(base)) if base in {kb.value for kb in KnowledgeBase} else None
        )
        return shelf if shelf and shelf.collection == name else None


@dataclass(frozen=True, slots=True)
class SourceText:
    """A document as it was found."""

    shelf: Shelf
    # Path below the knowledge-bases folder, with "/".
    source: str
    text: str
    # Changes when the bytes of the file change.
    content_hash: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the folders brought."""

    texts: list[SourceText]
    # Documents that are there and could not be read now; what is known of them stays.
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document that is searched by itself; offset in characters of the document's text."""

    text: str
    headings: tuple[str, ...]
    offset: int
    index: int

    @property
    def title(self) -> str:
        """The headings above it in one line, outermost first."""
        return " > ".join(self.headings)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece with its name and its place."""

    id: str
    shelf: Shelf
    source: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Document:
    """A document ready to be stored, with one vector for each of its passages."""

    source_text: SourceText
    # Changes when anything changes that its passages or vectors depend on.
    fingerprint: str
    passages: list[Passage] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate of one kind of search: the higher the score the better; comparable within one search."""

    passage_id: str
    score: float


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """An answer of retrieval; `dense` and `lexical` are its parts, scaled to 0..1 within the answer's candidates."""

    passage: Passage
    score: float
    dense: float
    lexical: float


class TurnRole(StrEnum):
    """Who speaks in a turn."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL_PLAN = "tool_plan"
    TOOL_OUTPUT = "tool_output"


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said; `position` is its order within its run, from 0."""

    role: TurnRole
    text: str
    run_id: str
    position: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A conversation of a tenant; another tenant's session of the same id is another one."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Context:
    """All that a run needs to begin."""

    soul: str
    turns: list[Turn]
    passages: list[ScoredPassage]
