"""What a piece of work belongs to: carried through calls, written on every log line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple

_FIELDS_BY_KEY = {
    "x-trace-id": "trace_id",
    "x-run-id": "run_id",
    "x-session-id": "session_id",
    "x-tenant": "tenant",
}


class Correlation(NamedTuple):
    """The ids of the work in progress; an empty text means that there is none."""

    trace_id: str = ""
    run_id: str = ""
    session_id: str = ""
    tenant: str = ""

    def filled(self) -> dict[str, str]:
        """The members that hold something, by name."""
        return {name: value for name in _FIELDS_BY_KEY.values() if (value := getattr(self, name))}


_NONE = Correlation()
_current: ContextVar[Correlation] = ContextVar("pagi_correlation", default=_NONE)


def current() -> Correlation:
    """The correlation of the running task."""
    return _current.get()


@contextmanager
def bind(**ids: str) -> Iterator[Correlation]:
    """Sets some of the ids (names of `Correlation`) for the block; the others stay."""
    before = _current.get()
    _current.set(bound := before._replace(**ids))
    try:
        yield bound
    finally:
        # Not reset(): an abandoned generator is ended in another context, which would refuse the token.
        _current.set(before)


def to_metadata() -> tuple[tuple[str, str], ...]:
    """The current ids as gRPC metadata; what is not ASCII is percent-encoded, as HTTP/2 headers need."""
    return _to_metadata(_current.get())


# A piece of work makes several calls.
@lru_cache(maxsize=256)
def _to_metadata(ids: Correlation) -> tuple[tuple[str, str], ...]:
    return tuple((key, as_header(value)) for key, value in zip(_FIELDS_BY_KEY, ids, strict=True) if value)


def from_metadata(metadata: Mapping[str, str | bytes]) -> Correlation:
    """The ids that a caller sent."""
    return Correlation._make([_decode(metadata.get(key, "")) for key in _FIELDS_BY_KEY])


def adopt(correlation: Correlation) -> None:
    """Sets the ids for the rest of the running task: for an edge, where the task is the request."""
    _current.set(correlation)


def as_header(value: str) -> str:
    """An id as a header may hold it: percent-encoded where it is not plain ASCII."""
    # Spaces at the ends are lost on the way; the rest is what a header may hold.
    if value.isascii() and value.isprintable() and "%" not in value and value == value.strip():
        return value
    from urllib.parse import quote

    # Half of a surrogate pair is not text: it goes as "?".
    return quote(value, errors="replace")


def _decode(value: str | bytes) -> str:
    if not value:
        return ""
    text = value if isinstance(value, str) else value.decode("ascii", "replace")
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)
