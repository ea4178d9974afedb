"""Builds the service's parts and joins them."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_chassis.component import Component
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app

from pagi_notifier.adapters.stdout_channel import StdoutChannel
from pagi_notifier.domain.courier import Courier
from pagi_notifier.domain.ports import Channel, Inbox
from pagi_notifier.settings import NotifierSettings
from pagi_notifier.subscriber import Subscriber


async def build(
    settings: NotifierSettings, *, inbox: Inbox | None = None, channel: Channel | None = None
) -> Sequence[Component]:
    """The components in the order of their start; a test passes in what it replaces."""
    health = Health("notification-subscriber")
    components: list[Component] = []
    if inbox is None:
        inbox, components = _redis_inbox(settings, health)
    channel = channel or StdoutChannel()
    courier = Courier(channel, inbox, max_deliveries=settings.max_deliveries, timeout_s=settings.delivery_timeout_s)
    subscriber = Subscriber(
        inbox,
        courier,
        channel=channel.name,
        batch=settings.batch,
        claim_idle_s=settings.claim_idle_s,
        keep_s=settings.keep_delivered_s,
    )
    health.depends_on("delivery", subscriber.check, required=True)
    http = HttpServer(
        health_app(health), settings.bind_host, settings.port, port_variable="NOTIFICATION_SUBSCRIBER_PORT"
    )
    return [*components, http, subscriber, health]


def _redis_inbox(settings: NotifierSettings, health: Health) -> tuple[Inbox, list[Component]]:
    # Imported here: redis-py takes 220 ms, and what only reads the settings or the domain does without it.
    from pagi_notifier.adapters.redis_inbox import RedisInbox
    from pagi_notifier.adapters.redis_server import RedisServer
    from pagi_notifier.subscriber import WAIT_S

    server = RedisServer(settings.redis_url, longest_block_s=WAIT_S)
    # Delivery is this service's only work: without Redis it is unavailable, though it stays up and comes back.
    health.depends_on("redis", server.ping, required=True)
    inbox = RedisInbox(
        server,
        stream=settings.stream,
        group=settings.group,
        consumer=settings.consumer,
        claim_idle_s=settings.claim_idle_s,
    )
    return inbox, [inbox]
