from __future__ import annotations

import contextlib
import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from pagi.events.v1 import events_pb2
from pagi_notifier.convert import notification_from_json
from pagi_notifier.domain.errors import UnreadableEntryError
from pagi_notifier.domain.model import Status
from pagi_notifier.testing import notification_json


@pytest.mark.parametrize("status", list(Status))
def test_reads_what_protobuf_writes(status: Status) -> None:
    sent = events_pb2.Notification(
        trace_id="t", run_id="r", session_id="s", status=status.value, result="x", timestamp="2026", traceparent="00-"
    )
    read = notification_from_json(json_format.MessageToJson(sent, preserving_proto_field_name=True).encode())
    assert (read.trace_id, read.run_id, read.session_id, read.status) == ("t", "r", "s", status)
    assert (read.result, read.timestamp, read.traceparent) == ("x", "2026", "00-")


def test_every_status_of_the_wire_has_one_here() -> None:
    assert set(events_pb2.Notification.Status.keys()) == {*Status, "STATUS_UNSPECIFIED"}


def test_members_of_a_newer_publisher_are_passed_over() -> None:
    assert notification_from_json(notification_json(1, priority="high")).run_id == "run-1"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"trace_id": "t"}',
        b'{"status": "COMPLETED"}',
        b'{"trace_id": "t", "status": "EXPLODED"}',
        b'{"trace_id": "t", "status": 99}',
        b'{"trace_id": 5, "status": "COMPLETED"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_notification_is_refused_as_such(broken: bytes) -> None:
    with pytest.raises(UnreadableEntryError):
        notification_from_json(broken)


members = st.dictionaries(st.sampled_from(["trace_id", "status", "result"]), st.none() | st.integers() | st.text())


@given(st.binary() | members.map(lambda value: json.dumps(value).encode()))
def test_nothing_else_is_ever_raised(anything: bytes) -> None:
    with contextlib.suppress(UnreadableEntryError):
        notification_from_json(anything)
