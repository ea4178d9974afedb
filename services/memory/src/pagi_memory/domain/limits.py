"""What a caller may send."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.model import DEFAULT_PERSONA

MAX_QUERY_CHARS = 32_768
MAX_TOP_K = 100
MAX_TURNS_READ = 1_000
MAX_TURNS_STORED = 1_000
MAX_TURN_CHARS = 1_048_576
MAX_ID_CHARS = 200
MAX_TITLE_CHARS = 200
MAX_HISTORY_TOKENS = 1_000_000
# Of all texts in one answer (UTF-8): a message of gRPC takes 16 MiB.
MAX_GIVEN_BYTES = 12 * 1024 * 1024

T = TypeVar("T")

_PERSONA = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is meant by 0."""

    top_k: int = 5
    max_turns: int = 20
    # Of all turns in one context together, and of the summary of those before them (tokens).
    max_history_tokens: int = 3_000
    summary_tokens: int = 400


def is_persona_name(name: str) -> bool:
    """Whether a folder of this name can be a persona: letters, digits, "-" and "_", at most 63."""
    return _PERSONA.fullmatch(name) is not None


# The categories Cc and Cs of Unicode. Cs is half of a surrogate pair: no text, and nothing that a database takes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


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
    _refuse_control(value, field)
    return value


def checked_tenant(tenant: str) -> str:
    """The tenant, if it can be one; empty where there is one tenant.

    Raises:
        InvalidArgumentError: It is longer than 200 characters or holds control characters.
    """
    return checked_id(tenant, "tenant") if tenant else ""


def checked_persona(persona: str) -> str:
    """The persona's name, the default one where none is given; it need not exist any more.

    Raises:
        InvalidArgumentError: It can be none.
    """
    name = persona or DEFAULT_PERSONA
    if not is_persona_name(name):
        raise InvalidArgumentError("persona may hold letters, digits, '-' and '_', at most 63.", field="persona")
    return name


def checked_turn_text(text: str, field: str) -> str:
    """The text of a turn, as it can be stored.

    Raises:
        InvalidArgumentError: It has more than 1,048,576 characters.
    """
    if len(text) > MAX_TURN_CHARS:
        raise InvalidArgumentError(
            f"{field} has {len(text)} characters; at most {MAX_TURN_CHARS} are allowed.", field=field
        )
    return storable(text)


def storable(text: str) -> str:
    """The text without what no database text holds: NUL becomes U+FFFD, half of a surrogate pair "?"."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def checked_page_token(token: str) -> tuple[int, str] | None:
    """The place after which a list goes on: a time in microseconds since 1970 and an id; None: the beginning.

    Raises:
        InvalidArgumentError: It is none that a page before gave.
    """
    if not token:
        return None
    time, separator, last_id = token.partition(":")
    if not (separator and last_id and len(time) < 19 and re.fullmatch(r"-?[0-9]+", time)):
        raise InvalidArgumentError("page_token is none that a page before gave.", field="page_token")
    return int(time), checked_id(last_id, "page_token")


def _refuse_control(value: str, field: str) -> None:
    if _CONTROL.search(value):
        raise InvalidArgumentError(f"{field} may not hold control characters.", field=field)


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


def first_that_fit(found: Iterable[T], texts: Callable[[T], Iterable[str]], *, most: int = MAX_GIVEN_BYTES) -> list[T]:
    """The first of them whose texts fit into one answer, and always the very first.

    Args:
        found: Each with texts of its own.
        texts: Of one of them.
        most: Bytes of all together.
    """
    given: list[T] = []
    for each in found:
        most -= sum(len(text.encode("utf-8", "replace")) for text in texts(each))
        if most < 0 and given:
            break
        given.append(each)
    return given
