"""What can go wrong with a model, each with the status that the chassis gives its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_chassis.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    ResourceExhaustedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from pagi_gateway.domain.model import Attempt, Plan, Usage


class ProviderFaultError(PagiError):
    """Whatever went wrong with a provider.

    Attributes:
        attempts: Every call that was made for the request, oldest first.
        received: What had come of a stream that broke; None where nothing had gone out yet.
        usage: What it used nevertheless; None where the provider did not say.
    """

    attempts: tuple[Attempt, ...] = ()
    received: Plan | None = None
    usage: Usage | None = None


class InvalidPlanRequestError(InvalidArgumentError):
    """The request cannot be asked of any model; `field` says which part of it."""


class ModelNotFoundError(ProviderFaultError, NotFoundError):
    """The provider has no model of that name."""


class ProviderRejectedError(ProviderFaultError, InvalidArgumentError):
    """The provider read the request and refused it as malformed or too large."""


class ProviderAccessError(ProviderFaultError, FailedPreconditionError):
    """The provider does not accept the key, or the gateway is set up wrongly for it."""


class _WaitError(ProviderFaultError):
    """A failure that has its time; `told` is whether the provider said how long (else it is a guess)."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        # The other parent is the chassis's error with that argument.
        super().__init__(message, retry_after_s=1.0 if retry_after_s is None else retry_after_s)  # type: ignore[call-arg]
        self.told = retry_after_s is not None


class ProviderBusyError(_WaitError, ResourceExhaustedError):
    """The provider limits the rate or the quota; `retry_after_s` says when to come back."""


class ProviderDownError(_WaitError, UnavailableError):
    """The provider cannot be reached, broke off, or answered with a fault of its own."""


class ProviderAnswerError(ProviderFaultError, UnavailableError):
    """The provider answered something that is not an answer."""


class WrongShapeError(ProviderAnswerError):
    """The answer is not of the form that was asked for."""


class UnsupportedError(ProviderFaultError, FailedPreconditionError):
    """The model is known not to do what is asked; nothing was sent."""


class ProviderTimeoutError(ProviderFaultError, DeadlineExceededError):
    """The provider did not answer in time."""


class TargetsBusyError(ProviderFaultError, ResourceExhaustedError):
    """Everyone who could answer is at a limit; `retry_after_s` is the shortest wait."""


class TargetsDownError(ProviderFaultError, UnavailableError):
    """Nobody who could answer did, or can now; `retry_after_s` is the shortest wait."""


class ScriptError(FailedPreconditionError):
    """A script of the `scripted` provider is wrong, or has no line for what is asked."""


def outcome_of(error: Exception) -> str:
    """What an attempt that ended so is said to have come to: `ProviderDown`, `WrongShape`, ..."""
    return type(error).__name__.removesuffix("Error")


class BudgetError(ResourceExhaustedError):
    """A budget has not enough left; `retry_after_s` says when it has again."""


class BudgetTooSmallError(FailedPreconditionError):
    """The call may take more than a whole budget."""


class CostLimitError(FailedPreconditionError):
    """What the call may cost at most does not pay for its input."""


class UnknownPriceError(FailedPreconditionError):
    """Money is limited, and nobody knows what the model costs."""


class BudgetStoreError(UnavailableError):
    """The counters of budgets cannot be reached, so that no call is made."""
