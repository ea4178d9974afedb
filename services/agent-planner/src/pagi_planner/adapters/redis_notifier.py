"""Notifications through Redis: a channel for whoever listens now, a stream for delivery."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from pagi.events.v1 import events_pb2
from pagi_chassis import telemetry
from pagi_chassis.errors import UnavailableError

from pagi_planner.domain.events import Event, EventType

_STATUSES = {
    EventType.PLAN_START: events_pb2.Notification.STARTED,
    EventType.PLAN_END: events_pb2.Notification.COMPLETED,
    EventType.PLAN_ERROR: events_pb2.Notification.FAILED,
    EventType.PLAN_CANCELLED: events_pb2.Notification.CANCELLED,
}
NOTIFIED = frozenset(_STATUSES)
TIMEOUT_S = 5.0


class RedisNotifier:
    """Publishes one event to the channel and the stream in one round trip.

    Args:
        address: `host:port` or a `redis://` URL.
        channel: Pub/sub channel.
        stream: Stream key.
    """

    def __init__(self, address: str, *, channel: str, stream: str) -> None:
        # Imported here: it costs 200 ms, which the service does not need to be ready.
        from redis.asyncio import Redis

        url = address if "://" in address else f"redis://{address}"
        self._redis: Any = Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, health_check_interval=5
        )
        self._channel = channel
        self._stream = stream

    async def notify(self, event: Event) -> None:
        """Publishes; the same event may come twice.

        Raises:
            UnavailableError: Redis is away; nothing is lost, since the journal has the event.
        """
        from redis.exceptions import RedisError

        with telemetry.span(f"publish {self._stream}", "producer"):
            payload = json_format.MessageToJson(_notification(event), preserving_proto_field_name=True, indent=None)
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    pipe.xadd(self._stream, {"payload": payload})
                    pipe.publish(self._channel, payload)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                raise UnavailableError(f"Redis cannot be reached: {error}") from error

    async def check(self) -> None:
        """Raises where Redis does not answer."""
        await self._redis.ping()

    async def start(self) -> None:
        """Connects at the first message, so that Redis may come later."""

    async def stop(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def _notification(event: Event) -> events_pb2.Notification:
    return events_pb2.Notification(
        trace_id=event.trace_id,
        session_id=event.session_id,
        run_id=event.run_id,
        status=_STATUSES[event.type],
        result=event.data.get("result") or event.data.get("error") or event.data.get("reason") or "",
        timestamp=event.timestamp.isoformat(),
        traceparent=telemetry.inject().get("traceparent", ""),
    )
