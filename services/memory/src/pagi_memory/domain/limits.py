"""What a caller may send."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from pagi_chassis.errors import InvalidArgumentError

MAX_QUERY_CHARS = 32_768
MAX_TOP_K = 100
MAX_TURNS_READ = 1_000
MAX_TURNS_STORED = 1_000
MAX_TURN_CHARS = 1_048_576
MAX_ID_CHARS = 200

_PERSONA = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is meant by 0."""

    top_k: int = 5
    max_turns: int = 20


def is_persona_name(name: str) -> bool:
    """Whether a folder of this name can be a persona: letters, digits, "-" and "_", at most 63."""
    return _PERSONA.fullmatch(name) is not None


def checked_session_id(session_id: str, field: str = "session_id") -> str:
    """The id, if it can be one.

    Raises:
        InvalidArgumentError: It is empty, longer than 200 characters, a path or holds control characters.
    """
    if session_id in (".", "..") or "/" in session_id or "\\" in session_id:
        raise InvalidArgumentError(f"{field} may not hold '/' or '\\' and may not be '.' or '..'.", field=field)
    return checked_id(session_id, field)


def checked_id(value: str, field: str) -> str:
    """The id of a run or a session, if it can be one.

    Raises:
        InvalidArgumentError: It is empty, longer than 200 characters or holds control characters.
    """
    if not value:
        raise InvalidArgumentError(f"{field} is missing.", field=field)
    if len(value) > MAX_ID_CHARS:
        raise InvalidArgumentError(
            f"{field} has {len(value)} characters; at most {MAX_ID_CHARS} are allowed.", field=field
        )
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise InvalidArgumentError(f"{field} may not hold control characters.", field=field)
    return value


def checked_query(query: str) -> str:
    """The query without the space around it.

    Raises:
        InvalidArgumentError: It has more than 32,768 characters.
    """
    if len(query) > MAX_QUERY_CHARS:
        raise InvalidArgumentError(
            f"query has {len(query)} characters; at most {MAX_QUERY_CHARS} are allowed.", field="query"
        )
    return query.strip()


def checked_count(value: int, field: str, *, default: int, most: int) -> int:
    """The number, or the default where it is 0.

    Raises:
        InvalidArgumentError: It is negative or more than `most`.
    """
    if value == 0:
        return default
    if not 1 <= value <= most:
        raise InvalidArgumentError(f"{field} is {value}; it must be between 1 and {most}.", field=field)
    return value
