"""From the wire (pagi.events.v1 as protobuf JSON) to the domain."""

from __future__ import annotations

from google.protobuf import json_format
from pagi.events.v1 import events_pb2

from pagi_notifier.domain.errors import UnreadableEntryError
from pagi_notifier.domain.model import Notification, Status


def notification_from_json(payload: bytes) -> Notification:
    """Reads one notification. Members that a newer publisher added are passed over.

    Raises:
        UnreadableEntryError: It is no JSON object of this message, or lacks `trace_id` or a known `status`.
    """
    if not payload:
        raise UnreadableEntryError("the entry has no field `payload`", field="payload")
    try:
        message = json_format.Parse(payload, events_pb2.Notification(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEntryError(
            f"not protobuf JSON of pagi.events.v1.Notification: {error}", field="payload"
        ) from error
    if not message.trace_id:
        raise UnreadableEntryError("trace_id is missing", field="trace_id")
    if message.status == events_pb2.Notification.STATUS_UNSPECIFIED:
        raise UnreadableEntryError("status is missing, or unknown to this version", field="status")
    return Notification(
        trace_id=message.trace_id,
        status=_status_from_proto(message.status),
        run_id=message.run_id,
        session_id=message.session_id,
        result=message.result,
        timestamp=message.timestamp,
        traceparent=message.traceparent,
    )


def _status_from_proto(status: events_pb2.Notification.Status.ValueType) -> Status:
    try:
        return Status(events_pb2.Notification.Status.Name(status))
    except ValueError as error:  # a number that this version has no name for
        raise UnreadableEntryError(f"status {status} is unknown to this version", field="status") from error
