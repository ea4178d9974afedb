"""The data that memory is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # One text's place in the space of meanings: float32, of length 1, `Embedder.dimensions` long.
    Vector = NDArray[np.float32]
    # Many of them, one in each row.
    Matrix = NDArray[np.float32]

DEFAULT_PERSONA = "default"


class KnowledgeBase(StrEnum):
    """The parts of what an agent has in mind; the values are the names of folders and collections."""

    SOUL = "Soul-KB"
    DOMAIN = "Domain-KB"
    BODY = "Body-KB"
    MIND = "Mind-KB"


# Where documents are searched. The Soul is given whole; what is in the Mind is a tenant's own (`Playbooks`).
SEARCHABLE = (KnowledgeBase.DOMAIN, KnowledgeBase.BODY)


@dataclass(frozen=True, slots=True)
class Shelf:
    """One knowledge base of one persona: the unit that is indexed and searched by itself.

    `owner` stands for the tenant of a Mind (`owner_of`); it is empty where there is one tenant, and for documents.
    """

    persona: str
    knowledge_base: KnowledgeBase
    owner: str = ""

    @property
    def collection(self) -> str:
        """Its name in the vector index: `Domain-KB`, `companion-dog.Domain-KB`, `<owner>.default.Mind-KB`."""
        if self.owner:
            return f"{self.owner}.{self.persona}.{self.knowledge_base.value}"
        if self.persona == DEFAULT_PERSONA:
            return self.knowledge_base.value
        return f"{self.persona}.{self.knowledge_base.value}"

    @classmethod
    def of_collection(cls, name: str) -> Shelf | None:
        """The shelf that a collection of this name belongs to; None for somebody else's collection."""
        *place, base = name.split(".")
        if len(place) > 2 or base not in {kb.value for kb in KnowledgeBase}:
            return None
        owner, persona = ["", "", *place][-2:]
        shelf = cls(persona or DEFAULT_PERSONA, KnowledgeBase(base), owner)
        return shelf if shelf.collection == name else None


def owner_of(tenant: str) -> str:
    """What stands for a tenant in names that other systems see: no name that a collection cannot have."""
    return hashlib.sha256(tenant.encode("utf-8", "replace")).hexdigest()[:24] if tenant else ""


@dataclass(frozen=True, slots=True)
class SourceText:
    """A document as it was found."""

    shelf: Shelf
    # Path below the knowledge-bases folder, with "/".
    source: str
    text: str
    # Changes when the bytes of the file change, or what is made of them.
    content_hash: str
    # What the document says of itself.
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that holds a document."""

    shelf: Shelf
    source: str
    # Changes when the bytes of the file change, or what is made of them.
    content_hash: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the folders brought."""

    files: list[FoundFile]
    # Documents that are there and could not be read now, with the reason; what is known of them stays.
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document that is searched by itself; offset in characters of the document's text."""

    text: str
    headings: tuple[str, ...]
    offset: int
    index: int
    # Tokens of the text, as the splitter counts them.
    tokens: int = 0

    @property
    def title(self) -> str:
        """The headings above it in one line, outermost first."""
        return " > ".join(self.headings)

    @property
    def embedded_text(self) -> str:
        """What the embedder reads: the headings say what a passage is about that does not say so itself."""
        return f"{self.title}\n{self.text}" if self.headings else self.text


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece with its name and its place."""

    id: str
    shelf: Shelf
    source: str
    piece: Piece
    # Of its document.
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A document ready to be stored, with one vector of the serving model for each of its passages."""

    source_text: SourceText
    # Changes when anything changes that its passages or vectors depend on.
    fingerprint: str
    passages: list[Passage] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What a list tells of a document."""

    source: str
    shelf: Shelf
    passages: int
    characters: int
    metadata: Mapping[str, str]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ShelfStatistics:
    """How much a shelf holds."""

    shelf: Shelf
    documents: int
    passages: int
    characters: int


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which documents a search is about: any of the sources ("*" stands for anything), all of the metadata."""

    sources: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it leaves out anything."""
        return bool(self.sources or self.metadata)


# Tuples: a search makes a hundred of each, and a frozen dataclass takes four times as long to make.
class Hit(NamedTuple):
    """A candidate of one kind of search: the higher the score the better; comparable within one search."""

    passage_id: str
    score: float


class FusedHit(NamedTuple):
    """A candidate with its joint score and its parts, each 0 to 1 among the candidates of its kind."""

    passage_id: str
    score: float
    dense: float
    lexical: float
    # As measured: cosine to the query and BM25; 0 where it was not among the candidates of the kind.
    cosine: float = 0.0
    bm25: float = 0.0
    # The place among the candidates of the kind, from 1; 0 where it was not among them.
    dense_rank: int = 0
    lexical_rank: int = 0


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """An answer of retrieval and why it was chosen; `merged` pieces that stand one after the other are in it."""

    passage: Passage
    hit: FusedHit
    merged: int = 1

    @property
    def score(self) -> float:
        """The joint score, 0 to 1, comparable within one answer."""
        return self.hit.score

    @property
    def dense(self) -> float:
        """The part of the meaning."""
        return self.hit.dense

    @property
    def lexical(self) -> float:
        """The part of the words."""
        return self.hit.lexical


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
    # When somebody changed the text; None: it stands as it was said.
    edited_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A conversation of a tenant; another tenant's session of the same id is another one."""

    tenant: str
    session_id: str
