"""What memory answers about documents, for the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator


def _folder_name(value: Any) -> Any:
    """`domain`, as a message becomes JSON, by the name that people give the folder."""
    return f"{value.capitalize()}-KB" if isinstance(value, str) and not value.endswith("-KB") else value


KnowledgeBaseName = Literal["Soul-KB", "Domain-KB", "Body-KB", "Mind-KB"]
_ShownName = Annotated[KnowledgeBaseName, BeforeValidator(_folder_name)]


class DocumentInfoBody(BaseModel):
    """What a list tells of a document."""

    source: str = Field(description="The path of the file below the knowledge bases' folder.")
    persona: str
    knowledge_base: _ShownName
    passages: int
    characters: int
    metadata: dict[str, str] = Field(description="What the document says of itself.")
    updated_at: datetime


class DocumentListBody(BaseModel):
    """Documents in the order of their sources."""

    documents: list[DocumentInfoBody]
    after: str = Field(description="Give it as `after` for the next page; empty at the end.")


class PieceBody(BaseModel):
    """A passage and its place."""

    id: str
    source: str
    knowledge_base: _ShownName
    headings: list[str] = Field(description="Above the passage, outermost first.")
    offset: int = Field(description="Where it begins in the document's text, in characters.")
    index: int = Field(description="Which piece of the document it is, from 0.")
    tokens: int
    text: str


class DocumentBody(DocumentInfoBody):
    """A document with its text and its passages."""

    text: str = Field(description="As it is searched: of formats that are not text, what was made of the file.")
    pieces: list[PieceBody]


class WhyBody(BaseModel):
    """Why a passage was chosen."""

    dense: float = Field(description="The part of its meaning, 0 to 1 among the candidates of its kind.")
    lexical: float = Field(description="The part of its words, 0 to 1 among the candidates of its kind.")
    cosine: float
    bm25: float
    dense_rank: int = Field(description="From 1; 0: it was not among the candidates.")
    lexical_rank: int = Field(description="From 1; 0: it was not among the candidates.")
    merged: int = Field(description="How many neighbouring pieces were joined into this one; 1: none.")


class FoundPassageBody(PieceBody):
    """A passage that a search found."""

    metadata: dict[str, str]
    score: float = Field(description="0 to 1, comparable within one answer.")
    why: WhyBody

    @model_validator(mode="before")
    @classmethod
    def _with_reasons(cls, data: Any) -> Any:
        if isinstance(data, dict) and "why" not in data:
            return {**data, "why": {**(data["score_parts"] or {}), "merged": data["merged"]}}
        return data


class FoundPassageListBody(BaseModel):
    """The best passages first."""

    passages: list[FoundPassageBody]


class ShelfBody(BaseModel):
    """What a knowledge base of a persona holds."""

    persona: str
    knowledge_base: _ShownName
    documents: int
    passages: int
    characters: int


class KnowledgeBody(BaseModel):
    """What there is."""

    shelves: list[ShelfBody]
    embedding_model: str
    next_embedding_model: str = Field(description="What all is being embedded anew with; empty: nothing is.")
    reembedded: int = Field(description="Passages that are done with it.")
    skipped: dict[str, str] = Field(description="What could not be taken in, and why.")
