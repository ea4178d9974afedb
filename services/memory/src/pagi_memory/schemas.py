"""JSON of the HTTP port, and JSON Lines of sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.documents import Overview
from pagi_memory.domain.limits import MAX_TITLE_CHARS, checked_persona, checked_turn_text, storable
from pagi_memory.domain.model import DocumentInfo, Passage, ScoredPassage, Turn, TurnRole
from pagi_memory.domain.session import SessionRecord


def turns_to_json(session_id: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """The turns of a session, oldest first; times in RFC 3339."""
    return {"session_id": session_id, "turns": [turn_to_json(turn) for turn in turns]}


# So many characters of lines go into one message; gRPC takes 4 MiB.
_MESSAGE_CHARACTERS = 500_000
MAX_LINES = 2_000


def records_to_jsonl(record: SessionRecord) -> Iterator[str]:
    """A session as JSON Lines, in parts: a line for it, a line for each turn."""
    head = {"type": "session", "session_id": record.session_id, "persona": record.persona, "title": record.title}
    lines = [_line(head)]
    size = len(lines[0])
    for turn in record.turns:
        line = _line({"type": "turn", "session_id": record.session_id, **turn_to_json(turn)})
        if size + len(line) > _MESSAGE_CHARACTERS:
            yield "".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    yield "".join(lines)


def records_from_jsonl(text: str) -> list[SessionRecord]:
    """The sessions of JSON Lines; of one that has no line of its own, title and persona are empty.

    Raises:
        InvalidArgumentError: A line is none; it is named.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > MAX_LINES:
        raise InvalidArgumentError(f"{len(lines)} lines were sent; at most {MAX_LINES} are allowed.", field="jsonl")
    heads: dict[str, tuple[str, str]] = {}
    turns: dict[str, list[Turn]] = {}
    for number, line in lines:
        try:
            data = json.loads(line)
            session_id = _text(data, "session_id")
            if data["type"] == "session":
                title = " ".join(_text(data, "title", "").split())[:MAX_TITLE_CHARS].strip()
                heads[session_id] = (checked_persona(_text(data, "persona", "")), title)
            elif data["type"] == "turn":
                turns.setdefault(session_id, []).append(_turn(data))
            else:
                raise ValueError("type must be session or turn")
        except json.JSONDecodeError as error:
            message = f"line {number}: this is no JSON: {error.msg} (character {error.pos + 1})"
            raise InvalidArgumentError(message, field="jsonl") from error
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, InvalidArgumentError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InvalidArgumentError(f"line {number}: {what}", field="jsonl") from error
    return [
        SessionRecord(session_id, *heads.get(session_id, ("", "")), turns.get(session_id, []))
        for session_id in heads | turns
    ]


def turn_to_json(turn: Turn) -> dict[str, Any]:
    """A turn; times in RFC 3339."""
    return {
        "role": turn.role.value,
        "text": turn.text,
        "run_id": turn.run_id,
        "position": turn.position,
        "created_at": turn.created_at.isoformat(),
        **({"edited_at": turn.edited_at.isoformat()} if turn.edited_at else {}),
    }


def _turn(data: dict[str, Any]) -> Turn:
    position = data["position"]
    if type(position) is not int:
        raise ValueError("position must be a whole number")
    return Turn(
        TurnRole(data["role"]),
        checked_turn_text(_text(data, "text"), "text"),
        _text(data, "run_id"),
        position,
        _time(data["created_at"]),
        _time(data["edited_at"]) if data.get("edited_at") else None,
    )


def _text(data: Any, name: str, default: str | None = None) -> str:
    if not isinstance(data, dict):
        raise ValueError("a line must be a JSON object")
    value = data[name] if default is None else data.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text")
    return storable(value)


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time must be a text such as 2026-03-01T12:00:00+00:00")
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError(f"the time {value} has no zone")
    return time.astimezone(UTC)


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False) + "\n"


def info_to_json(info: DocumentInfo) -> dict[str, Any]:
    """What a list tells of a document."""
    return {
        "source": info.source,
        "persona": info.shelf.persona,
        "knowledge_base": info.shelf.knowledge_base.value,
        "passages": info.passages,
        "characters": info.characters,
        "metadata": dict(info.metadata),
        "updated_at": info.updated_at.isoformat(),
    }


def document_to_json(info: DocumentInfo, text: str, passages: Sequence[Passage]) -> dict[str, Any]:
    """A document with its text and its passages."""
    return {**info_to_json(info), "text": text, "pieces": [passage_to_json(passage) for passage in passages]}


def passage_to_json(passage: Passage) -> dict[str, Any]:
    """A passage and its place."""
    piece = passage.piece
    return {
        "id": passage.id,
        "source": passage.source,
        "knowledge_base": passage.shelf.knowledge_base.value,
        "headings": list(piece.headings),
        "offset": piece.offset,
        "index": piece.index,
        "tokens": piece.tokens,
        "text": piece.text,
    }


def scored_to_json(scored: ScoredPassage) -> dict[str, Any]:
    """A passage and why it was chosen."""
    hit = scored.hit
    return {
        **passage_to_json(scored.passage),
        "metadata": dict(scored.passage.metadata),
        "score": scored.score,
        "why": {
            "dense": hit.dense,
            "lexical": hit.lexical,
            "cosine": hit.cosine,
            "bm25": hit.bm25,
            "dense_rank": hit.dense_rank,
            "lexical_rank": hit.lexical_rank,
            "merged": scored.merged,
        },
    }


def overview_to_json(overview: Overview) -> dict[str, Any]:
    """What there is."""
    return {
        "shelves": [
            {
                "persona": found.shelf.persona,
                "knowledge_base": found.shelf.knowledge_base.value,
                "documents": found.documents,
                "passages": found.passages,
                "characters": found.characters,
            }
            for found in overview.shelves
        ],
        "embedding_model": overview.model,
        "next_embedding_model": overview.next_model,
        "reembedded": overview.reembedded,
        "skipped": dict(overview.skipped),
    }
