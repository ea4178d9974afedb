"""What can go wrong with a run, by the status that a caller gets."""

from __future__ import annotations

from pagi_chassis.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)

# What says that a part cannot be used now, as against: that it has refused this request.
AWAY: tuple[type[PagiError], ...] = (
    UnavailableError,
    DeadlineExceededError,
    ResourceExhaustedError,
    InternalError,
)


class UnknownPersonaError(InvalidArgumentError):
    """The request names a persona that memory does not have."""


class UnknownModelError(InvalidArgumentError):
    """The request names a model that the gateway does not have."""


class UnknownToolError(InvalidArgumentError):
    """The request names a tool that no sandbox offers."""


class ContextTooLongError(InvalidArgumentError):
    """The model refuses the conversation for its length."""


class EffectConflictError(InternalError):
    """The gateway knows the effect id, and another request under it: the tools have changed over a restart, say."""


class UnreadableFileError(InvalidArgumentError):
    """A file of the request cannot be read."""


class IdempotencyConflictError(InvalidArgumentError):
    """The key was used before, with another request."""


class RunSuspendedError(UnavailableError):
    """The planner stops; the run goes on after its next start."""


class RunEndedError(FailedPreconditionError):
    """The run has ended: nothing can be decided on in it any more."""


class UnknownCallError(NotFoundError):
    """No call of this id waits for a person's word, or ever did."""


class DecidedError(AlreadyExistsError):
    """A person has said something else of the call before."""


class RunNotFoundError(NotFoundError):
    """No run has this id."""


class OverloadedError(UnavailableError):
    """As many runs are in progress as are allowed."""


class JournalError(UnavailableError):
    """The journal cannot be written or read; without it a run may not go on."""


class RunTakenOverError(JournalError):
    """Another planner works on the run now, or it has ended: nothing further may be done for it here."""
