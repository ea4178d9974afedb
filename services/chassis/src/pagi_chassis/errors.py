"""The failures that a caller may meet. Each type has one gRPC and one HTTP status, listed in `statuses`."""

from __future__ import annotations


class PagiError(Exception):
    """A failure with a meaning for the caller.

    Services raise subclasses of the types below. `message` is written for the caller: it says what is
    wrong, where, and what to do, and holds nothing that the caller may not see.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgumentError(PagiError):
    """What was sent cannot be used, whatever the state of the service; `field` names the place."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(PagiError):
    """What was named does not exist."""


class AlreadyExistsError(PagiError):
    """What was to be made exists and differs."""


class FailedPreconditionError(PagiError):
    """The service is not in a state for this; a repeat without a change fails again."""


class UnauthenticatedError(PagiError):
    """Nobody vouches for the caller."""


class PermissionDeniedError(PagiError):
    """The caller is known and may not."""


class _RetryableError(PagiError):
    """A failure that a later repeat may not meet; `retry_after_s` says when (seconds)."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ResourceExhaustedError(_RetryableError):
    """A limit is reached."""


class UnavailableError(_RetryableError):
    """The service, or one that it needs, cannot be reached now.

    Attributes:
        is_away: Whether nothing answered at the address that was called: it may be starting. A service that answers
            for another one that it needs is not away.
    """

    is_away = False


class DeadlineExceededError(PagiError):
    """The time given was not enough; whether the work was done is unknown."""


class CancelledByCallerError(PagiError):
    """The caller gave up."""


class InternalError(PagiError):
    """A fault of ours. The caller reads the trace id and no detail; the log has the rest."""
