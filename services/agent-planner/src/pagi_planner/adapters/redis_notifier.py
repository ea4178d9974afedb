"""Notifications through Redis: a channel for whoever listens now, a stream for delivery."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any

from google.protobuf import json_format
from pagi.events.v1 import events_pb2
from pagi_chassis import telemetry
from pagi_chassis.errors import UnavailableError

from pagi_planner.domain.state.events import Event, EventType

_STATUSES = {
    EventType.PLAN_START: events_pb2.Notification.STARTED,
    EventType.PLAN_END: events_pb2.Notification.COMPLETED,
    EventType.PLAN_ERROR: events_pb2.Notification.FAILED,
    EventType.PLAN_CANCELLED: events_pb2.Notification.CANCELLED,
    EventType.APPROVAL_REQUESTED: events_pb2.Notification.APPROVAL_REQUESTED,
}
NOTIFIED = frozenset(_STATUSES)
# A call that takes longer has failed: the relay asks again, and no run waits for it.
CONNECT_TIMEOUT_S = 1.0
# So much of a call that waits is told; the run has all of it.
WISH_CHARACTERS = 1_000
ANSWER_TIMEOUT_S = 2.0


class RedisNotifier:
    """Publishes events to the channel and the stream, all that there are in one round trip.

    Args:
        address: `host:port` or a `redis://` URL.
        channel: Pub/sub channel.
        stream: Stream key.
    """

    def __init__(self, address: str, *, channel: str, stream: str) -> None:
        # Imported here: it takes 200 ms, and whoever only reads the settings or the domain does without it.
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        # The library's own retry is off: the relay has the patience, and says why it waits.
        self._redis: Any = Redis.from_url(
            address if "://" in address else f"redis://{address}",
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
        )
        self._channel = channel
        self._stream = stream

    async def notify(self, events: Sequence[Event]) -> Sequence[str]:
        """Publishes in this order; the same event may come twice.

        Raises:
            UnavailableError: Redis is away; nothing is lost, since the journal has the events.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                payload = self._payload(event)
                pipe.xadd(self._stream, {"payload": payload})
                pipe.publish(self._channel, payload)
            await _answered(pipe.execute())
        return ()

    def _payload(self, event: Event) -> str:
        """The notification, in the trace of its run."""
        with (
            telemetry.attach({key: value for key, value in event.data.items() if key == "traceparent"}),
            telemetry.span(f"publish {self._stream}", "producer"),
        ):
            return json_format.MessageToJson(_notification(event), preserving_proto_field_name=True, indent=None)

    async def check(self) -> None:
        """Asks whether Redis is there.

        Raises:
            UnavailableError: It does not answer.
        """
        await _answered(self._redis.ping())

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


async def _answered(command: Awaitable[Any]) -> None:
    from redis.exceptions import RedisError

    try:
        await command
    except (RedisError, OSError) as error:
        raise UnavailableError(f"Redis does not answer: {error or type(error).__name__}") from error


def _result(event: Event) -> str:
    data = event.data
    if event.type is EventType.APPROVAL_REQUESTED:
        wish = f"{data['tool']} {json.dumps(data['input'], ensure_ascii=False)}"
        wish = wish if len(wish) <= WISH_CHARACTERS else f"{wish[: WISH_CHARACTERS - 1]}…"
        return f"{wish} waits for a person's word at /runs/{event.run_id}/approvals/{data['call_id']}"
    return data.get("result") or data.get("error") or data.get("reason") or ""


def _notification(event: Event) -> events_pb2.Notification:
    return events_pb2.Notification(
        trace_id=event.trace_id,
        session_id=event.session_id,
        run_id=event.run_id,
        status=_STATUSES[event.type],
        result=_result(event),
        timestamp=event.timestamp.isoformat(),
        traceparent=telemetry.inject().get("traceparent", ""),
    )
