"""What can go wrong in memory, each with the status of the chassis error that it is."""

from __future__ import annotations

from collections.abc import Iterable

from pagi_chassis.errors import FailedPreconditionError, NotFoundError, PermissionDeniedError, UnavailableError


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


class StoreInUseError(FailedPreconditionError):
    """Another process owns the database."""


class UnreadableDocumentError(FailedPreconditionError):
    """The file of a document cannot be read or is not what its name says."""


class UnknownDocumentError(NotFoundError):
    """No document has this source."""

    def __init__(self, source: str) -> None:
        super().__init__(f"There is no document {source!r}.")


class NotAnEditorError(PermissionDeniedError):
    """The tenant may read the knowledge bases and not change them."""

    def __init__(self) -> None:
        super().__init__(
            "The knowledge bases belong to the installation: this tenant reads them and may not change them. "
            "KNOWLEDGE_BASES_EDITORS names those that may."
        )


class EmbeddingUnavailableError(UnavailableError):
    """The embedding backend does not answer, or cannot be loaded."""


class UnknownSessionError(NotFoundError):
    """The tenant has no session of this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id!r}.")


class UnknownTurnError(NotFoundError):
    """The session has no such turn."""

    def __init__(self, session_id: str, run_id: str, position: int) -> None:
        super().__init__(f"Session {session_id!r} has no turn {position} of run {run_id!r}.")


class UnknownPlaybookError(NotFoundError):
    """The tenant has no playbook of this id."""

    def __init__(self, playbook_id: str) -> None:
        super().__init__(f"There is no playbook {playbook_id!r}.")
