"""Typed errors to and from the trailers of a call."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from pagi_chassis import error_details, errors
from pagi_chassis.statuses import error_type_of, status_of


def rpc_error(code: grpc.StatusCode, message: str = "", trailers=()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=message)


def there_and_back(error: errors.PagiError) -> errors.PagiError:
    code, message = status_of(error).grpc, error_details.to_message(error)
    return error_details.from_rpc_error(rpc_error(code, message, error_details.to_trailers(error)), "peer:1")


@given(st.text(), st.text())
def test_a_bad_request_keeps_its_field(message, field):
    back = there_and_back(errors.InvalidArgumentError(message, field=field))
    assert type(back) is errors.InvalidArgumentError
    assert back.field == field


@pytest.mark.parametrize("kind", [errors.ResourceExhaustedError, errors.UnavailableError])
@given(st.floats(min_value=0, max_value=1e6))
def test_when_to_come_back_is_kept(kind, retry_after_s):
    back = there_and_back(kind("later", retry_after_s=retry_after_s))
    assert type(back) is kind
    assert back.retry_after_s == pytest.approx(retry_after_s, abs=1e-9)
    assert back.message == "later"


def test_the_form_is_that_of_google_rpc():
    """Clients that are not ours read google.rpc.Status with BadRequest and RetryInfo."""
    [(key, value)] = error_details.to_trailers(errors.InvalidArgumentError("too long", field="prompt"))
    status = status_pb2.Status.FromString(value)
    bad_request = error_details_pb2.BadRequest()
    assert key == "grpc-status-details-bin"
    assert (status.code, status.message) == (3, "too long")
    assert status.details[0].Unpack(bad_request)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("prompt", "too long")]


def test_a_subclass_travels_as_the_type_that_carries_its_status():
    class UnknownToolError(errors.NotFoundError):
        pass

    assert type(there_and_back(UnknownToolError("no tool x"))) is errors.NotFoundError


def test_a_message_is_cut_at_a_whole_character():
    message = error_details.to_message(errors.NotFoundError("ä" * 3_000))
    assert message == "ä" * 2_000


def test_half_a_surrogate_pair_in_a_message_is_no_new_error():
    assert error_details.to_message(errors.NotFoundError("a\ud800b")) == "a?b"


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"", b"\x08"])
def test_trailers_of_a_stranger_do_no_harm(garbage):
    error = rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "no", [(error_details.DETAILS_KEY, garbage)])
    back = error_details.from_rpc_error(error, "peer:1")
    assert (type(back), back.message) == (errors.InvalidArgumentError, "no")


def test_who_did_not_answer_is_named_and_what_a_peer_says_of_another_is_kept():
    own = error_details.from_rpc_error(
        rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), "memory:50052"
    )
    assert own.message == "memory:50052 did not answer in time"
    told = there_and_back(errors.DeadlineExceededError("the model did not answer"))
    assert told.message == "the model did not answer"


def test_an_absent_peer_asks_for_no_pause_and_a_busy_one_for_its_own():
    absent = rpc_error(grpc.StatusCode.UNAVAILABLE, "connection refused")
    assert error_details.asked_pause_s(absent) == 0
    busy = errors.UnavailableError("loading", retry_after_s=3)
    told = rpc_error(grpc.StatusCode.UNAVAILABLE, "loading", error_details.to_trailers(busy))
    assert error_details.asked_pause_s(told) == 3


def test_a_status_without_a_row_is_a_fault_of_ours():
    assert error_type_of(grpc.StatusCode.DATA_LOSS) is errors.InternalError
    assert status_of(errors.PagiError("bare")).grpc is grpc.StatusCode.INTERNAL
