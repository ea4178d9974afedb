"""Typed errors in and out of gRPC's `grpc-status-details-bin` (google.rpc.Status, google/rpc/error_details.proto)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pagi_chassis import errors
from pagi_chassis.statuses import error_type_of, status_of

DETAILS_KEY = "grpc-status-details-bin"
MESSAGE_BYTES = 4_000  # it travels in the trailers, twice, and a peer that finds them too long sees another error


def to_message(error: errors.PagiError) -> str:
    """The error's message, cut to what trailers can hold: it may quote what a caller sent."""
    return error.message.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore")


def to_trailers(error: errors.PagiError) -> tuple[tuple[str, bytes], ...]:
    """What a message cannot say in words: the field of a bad request, when to come back. Often nothing."""
    status = status_pb2.Status(code=status_of(error).grpc.value[0], message=(message := to_message(error)))
    if isinstance(error, errors.InvalidArgumentError) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, errors.ResourceExhaustedError | errors.UnavailableError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    else:
        return ()
    return ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> errors.PagiError:
    """The typed error for a call that failed.

    Args:
        error: As raised by grpc.aio.
        peer: The address that was called, named where it cannot be reached.
    """
    error_type = error_type_of(error.code())
    message = error.details() or error.code().name.lower().replace("_", " ")
    details = _details(error.trailing_metadata() or ())
    if issubclass(error_type, errors.InvalidArgumentError):
        return error_type(message, field=_field(details))
    if issubclass(error_type, errors.ResourceExhaustedError | errors.UnavailableError):
        if issubclass(error_type, errors.UnavailableError) and not details.details:
            # Without details it is gRPC itself that speaks, in terms of sockets.
            away = error_type(f"{peer} cannot be reached: {message}")
            away.is_away = True
            return away
        return error_type(message, retry_after_s=_retry_after_s(details))
    if issubclass(error_type, errors.DeadlineExceededError) and message == "Deadline Exceeded":
        # That is gRPC on this side; a peer that gave up on another one says so itself.
        message = f"{peer} did not answer in time"
    return error_type(message)


def asked_pause_s(error: grpc.aio.AioRpcError) -> float:
    """How long the peer asked to wait before a repeat; 0 where it said nothing, as where it is away."""
    details = _details(error.trailing_metadata() or ())
    return _retry_after_s(details) if details.details else 0.0


def _details(trailers: Iterable[Any]) -> status_pb2.Status:
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            # A peer that is not ours may put anything there; its status and message are good without.
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _field(status: status_pb2.Status) -> str:
    bad_request = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad_request) and bad_request.field_violations:
            return str(bad_request.field_violations[0].field)
    return ""


def _retry_after_s(status: status_pb2.Status) -> float:
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToNanoseconds() / 1e9)
    return 1.0
