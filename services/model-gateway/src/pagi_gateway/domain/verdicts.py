"""What a failure says of the target, and whether another one may do better."""

from __future__ import annotations

from dataclasses import dataclass

from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderTimeoutError,
    UnsupportedError,
    WrongShapeError,
)
from pagi_gateway.domain.routes import Fault

# A dead key or a model that is gone does not mend itself; somebody may mend it.
AVOIDED_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failure.

    Attributes:
        fault: What another target may do right; None where it is the request that is at fault.
        counts: Whether the target is broken: for its breaker and its share of errors.
        rest_s: For so long it must not be asked; None where nobody said.
        busy: Whether it is at a limit, and works.
        avoid_s: For so long others are asked first.
        hopeless: Whether the same target would answer the same again.
        sent: Whether the provider was asked at all.
    """

    fault: Fault | None = None
    counts: bool = False
    rest_s: float | None = None
    busy: bool = False
    avoid_s: float = 0.0
    hopeless: bool = False
    sent: bool = True


_NOBODY_DOES_BETTER = Verdict(hopeless=True)
_LATE_CALLER = Verdict()
_TIMEOUT = Verdict(Fault.TIMEOUT, counts=True)
_WRONG_SHAPE = Verdict(Fault.WRONG_SHAPE)
_NO_ANSWER = Verdict(Fault.WRONG_SHAPE, counts=True)
_ACCESS = Verdict(Fault.ACCESS, avoid_s=AVOIDED_S, hopeless=True)
_NOT_FOUND = Verdict(Fault.NOT_FOUND, hopeless=True)
_UNSUPPORTED = Verdict(hopeless=True, sent=False)
_BUSY = Verdict(Fault.RATE_LIMIT, busy=True)
_DOWN = Verdict(Fault.DOWN, counts=True)


def verdict_of(error: Exception, *, in_time: bool) -> Verdict:
    """Judges a failure.

    Args:
        error: What the target raised.
        in_time: Whether the caller still had time: else a time-out is not the target's.
    """
    if isinstance(error, ProviderBusyError):
        return Verdict(Fault.RATE_LIMIT, busy=True, rest_s=error.retry_after_s) if error.told else _BUSY
    if isinstance(error, ProviderDownError):
        return Verdict(Fault.DOWN, counts=True, rest_s=error.retry_after_s) if error.told else _DOWN
    for kind, verdict in _BY_TYPE:
        if isinstance(error, kind):
            return verdict if in_time or verdict is not _TIMEOUT else _LATE_CALLER
    return _NOBODY_DOES_BETTER


_BY_TYPE: tuple[tuple[type[Exception], Verdict], ...] = (
    (ProviderTimeoutError, _TIMEOUT),
    (WrongShapeError, _WRONG_SHAPE),
    (ProviderAnswerError, _NO_ANSWER),
    (ProviderAccessError, _ACCESS),
    (ModelNotFoundError, _NOT_FOUND),
    (UnsupportedError, _UNSUPPORTED),
)
