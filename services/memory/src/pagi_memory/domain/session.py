"""A session as a thing that is listed, summed up, searched and carried elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pagi_memory.domain.model import FusedHit, Turn, TurnRole

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

_TITLE_OF_PROMPT_CHARS = 80


@dataclass(frozen=True, slots=True)
class Session:
    """One line of a list of sessions; `persona` is who answered last."""

    session_id: str
    title: str
    persona: str
    turns: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the one last spoken in first; `next_token` goes on after them and is empty at the end."""

    sessions: list[Session]
    next_token: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What was said in turns that are no longer given whole.

    `turns` is how many it covers; they are counted for who asks for the session, in a `Window` it is 0. `version`
    changes with every summary and with every change of the turns, so that a summary of turns that have changed
    meanwhile is never stored.
    """

    text: str = ""
    made_by: str = ""
    turns: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Digest:
    """A summary as it was made, and by whom."""

    text: str
    made_by: str


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn with the number it has in the store."""

    number: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Window:
    """What a session's context is made of: its newest turns, and the turns that no summary covers (oldest first)."""

    summary: Summary
    newest: list[StoredTurn]
    pending: list[StoredTurn]


@dataclass(frozen=True, slots=True)
class Recollection:
    """What a run is told of its session: the newest turns, oldest of them first, and what was said before them."""

    summary: str
    turns: list[Turn]


@dataclass(frozen=True, slots=True)
class TurnHit:
    """A turn that a search found. `score` is comparable within one answer; `matched_words` as they stand there.

    `parts` tells of which the score is made where two kinds of search were joined.
    """

    session_id: str
    title: str
    turn: Turn
    score: float
    matched_words: list[str]
    parts: FusedHit | None = None

    @property
    def place(self) -> str:
        """Names the turn among those of its tenant."""
        return "\0".join((self.session_id, self.turn.run_id, str(self.turn.position)))


@dataclass(frozen=True, slots=True)
class SaidVector:
    """What a turn means, as a model saw it when the turn was said."""

    run_id: str
    position: int
    model: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is carried elsewhere, or some of its turns.

    Empty `persona`: that of the session where there is one, else the default one; empty `title`: the session's own.
    """

    session_id: str
    persona: str
    title: str
    turns: list[Turn]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many sessions and turns came, and how many of the turns were there already."""

    sessions: int
    stored_turns: int
    known_turns: int


@dataclass(frozen=True, slots=True)
class HeartStatistics:
    """How much a tenant has said."""

    sessions: int = 0
    turns: int = 0
    characters: int = 0
    summarised: int = 0
    oldest_at: datetime | None = None
    newest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept; 0 bounds nothing.

    Attributes:
        days: A session in which nothing was said for so long is forgotten.
        sessions: The newest so many of a tenant are kept.
        turns: The newest so many of a session are kept; its summary stays.
    """

    days: int = 0
    sessions: int = 0
    turns: int = 0


def title_of(turns: Sequence[Turn]) -> str:
    """What a session is called until somebody names it: how its first request begins."""
    said = next((turn.text for turn in turns if turn.role is TurnRole.USER), turns[0].text if turns else "")
    words = " ".join(said[: 4 * _TITLE_OF_PROMPT_CHARS].split())
    if len(words) <= _TITLE_OF_PROMPT_CHARS:
        return words
    # At a word's end where there is one.
    cut = words[: _TITLE_OF_PROMPT_CHARS - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"
