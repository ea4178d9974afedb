"""What can go wrong with a model, each with the status that the chassis gives its parent."""

from __future__ import annotations

from pagi_chassis.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)


class InvalidPlanRequestError(InvalidArgumentError):
    """The request cannot be asked of any model; `field` says which part of it."""


class ModelNotFoundError(NotFoundError):
    """The provider has no model of that name."""


class ProviderRejectedError(InvalidArgumentError):
    """The provider read the request and refused it as malformed or too large."""


class ProviderAccessError(FailedPreconditionError):
    """The provider does not accept the key, or the gateway is set up wrongly for it."""


class ProviderBusyError(ResourceExhaustedError):
    """The provider limits the rate or the quota; `retry_after_s` says when to come back."""


class ProviderDownError(UnavailableError):
    """The provider cannot be reached, broke off, or answered with a fault of its own."""


class ProviderAnswerError(UnavailableError):
    """The provider answered something that is not an answer."""


class WrongShapeError(ProviderAnswerError):
    """The answer is not of the form that was asked for."""


class UnsupportedError(FailedPreconditionError):
    """The model is known not to do what is asked; nothing was sent."""


class ProviderTimeoutError(DeadlineExceededError):
    """The provider did not answer in time."""


class ScriptError(FailedPreconditionError):
    """A script of the `scripted` provider is wrong, or has no line for what is asked."""
