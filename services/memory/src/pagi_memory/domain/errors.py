"""What can go wrong in memory, each with the status of the chassis error that it is."""

from __future__ import annotations

from collections.abc import Iterable

from pagi_chassis.errors import FailedPreconditionError, NotFoundError, UnavailableError


class UnknownPersonaError(NotFoundError):
    """No folder describes this persona."""

    def __init__(self, persona: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no persona {persona!r}. Known personas: {', '.join(sorted(known))}.")


class IndexInUseError(FailedPreconditionError):
    """Another process owns the embedded vector index."""


class IndexUnavailableError(UnavailableError):
    """The vector index cannot be reached or read now."""


class WeightsError(FailedPreconditionError):
    """The files of the embedding model are missing or are not the ones that were published."""


class NoKnowledgeFolderError(FailedPreconditionError):
    """The folder that should hold the knowledge bases is not there."""


class StoreUnavailableError(UnavailableError):
    """The database cannot be read or written now."""
