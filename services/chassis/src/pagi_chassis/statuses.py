"""The one table of failures: type, gRPC status, HTTP status, title. It is read in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from pagi_chassis import errors


@dataclass(frozen=True, slots=True)
class Status:
    """How one type of failure looks on the wire.

    Attributes:
        error: The type; its subclasses share the row.
        grpc: Status code, see https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
        http: Status code, RFC 9110 (499 as nginx uses it: the client closed the request).
        title: The `title` of an RFC 9457 problem document.
    """

    error: type[errors.PagiError]
    grpc: grpc.StatusCode
    http: int
    title: str


STATUSES: tuple[Status, ...] = (
    Status(errors.InvalidArgumentError, grpc.StatusCode.INVALID_ARGUMENT, 422, "Invalid argument"),
    Status(errors.NotFoundError, grpc.StatusCode.NOT_FOUND, 404, "Not found"),
    Status(errors.AlreadyExistsError, grpc.StatusCode.ALREADY_EXISTS, 409, "Already exists"),
    Status(errors.FailedPreconditionError, grpc.StatusCode.FAILED_PRECONDITION, 412, "Precondition failed"),
    Status(errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED, 401, "Unauthenticated"),
    Status(errors.PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED, 403, "Permission denied"),
    Status(errors.ResourceExhaustedError, grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "Too many requests"),
    Status(errors.UnavailableError, grpc.StatusCode.UNAVAILABLE, 503, "Unavailable"),
    Status(errors.DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED, 504, "Deadline exceeded"),
    Status(errors.CancelledByCallerError, grpc.StatusCode.CANCELLED, 499, "Cancelled by the caller"),
    Status(errors.InternalError, grpc.StatusCode.INTERNAL, 500, "Internal error"),
)

_BY_CODE = {row.grpc: row for row in STATUSES}
_BY_TYPE = {row.error: row for row in STATUSES}


def status_of(error: errors.PagiError) -> Status:
    """The row of an error, found by its nearest listed ancestor."""
    for ancestor in type(error).__mro__:
        if ancestor in _BY_TYPE:
            return _BY_TYPE[ancestor]
    return _BY_TYPE[errors.InternalError]


def error_type_of(code: grpc.StatusCode) -> type[errors.PagiError]:
    """The type for a status that a peer sent; a status without a row is a fault of ours."""
    row = _BY_CODE.get(code)
    return row.error if row else errors.InternalError
