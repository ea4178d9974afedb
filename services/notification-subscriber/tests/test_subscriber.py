"""The subscriber on a real Valkey: everything arrives, in order, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pagi_chassis import correlation, telemetry
from pagi_notifier.adapters.stdout_channel import StdoutChannel
from pagi_notifier.domain.courier import Courier
from pagi_notifier.domain.errors import InboxUnavailableError
from pagi_notifier.domain.model import Backlog, Entry, Notification
from pagi_notifier.domain.ports import Channel, Inbox
from pagi_notifier.subscriber import Subscriber
from pagi_notifier.testing import InMemoryInbox, InMemoryStream, RecordingChannel, notification_json, until
from prometheus_client import REGISTRY
from redis.asyncio import Redis

if TYPE_CHECKING:
    from conftest import Valkey

CLAIM_IDLE_S = 0.15


def subscriber(inbox: Inbox, channel: Channel, *, batch: int = 8, max_deliveries: int = 3) -> Subscriber:
    courier = Courier(channel, inbox, max_deliveries=max_deliveries, timeout_s=5)
    return Subscriber(inbox, courier, channel=channel.name, batch=batch, claim_idle_s=CLAIM_IDLE_S, keep_s=86_400)


@asynccontextmanager
async def running(server: Valkey, channel: Channel, consumer: str = "a") -> AsyncIterator[Subscriber]:
    inbox = server.inbox(consumer, claim_idle_s=CLAIM_IDLE_S)
    service = subscriber(inbox, channel)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        await inbox.stop()


async def publish(redis: Redis, server: Valkey, *numbers: int) -> None:
    for number in numbers:
        await redis.xadd(server.stream, {"payload": notification_json(number)})


def runs(channel: RecordingChannel) -> list[str]:
    return [each.run_id for each in channel.delivered]


def nothing_pending(redis: Redis, server: Valkey) -> Callable[[], object]:
    async def check() -> bool:
        summary = await redis.xpending(server.stream, server.group)
        return summary["pending"] == 0

    return check


async def test_everything_arrives_in_order_and_is_acknowledged(valkey_server: Valkey, redis: Redis) -> None:
    before = REGISTRY.get_sample_value("pagi_notifier_delivered_total", {"channel": "recording", "status": "COMPLETED"})
    await publish(redis, valkey_server, *range(30))
    channel = RecordingChannel()
    async with running(valkey_server, channel):
        await until(lambda: len(channel.delivered) == 30)
        await publish(redis, valkey_server, *range(30, 40))
        await until(lambda: len(channel.delivered) == 40)
        await until(nothing_pending(redis, valkey_server))
    assert runs(channel) == [f"run-{number}" for number in range(40)]
    after = REGISTRY.get_sample_value("pagi_notifier_delivered_total", {"channel": "recording", "status": "COMPLETED"})
    assert after is not None
    assert after - (before or 0) == 40
    assert await redis.xlen(valkey_server.stream) == 40


async def test_it_is_not_acknowledged_before_it_is_delivered(valkey_server: Valkey, redis: Redis) -> None:
    gate = asyncio.Event()

    class Gated(RecordingChannel):
        async def deliver(self, notification: Notification) -> None:
            await gate.wait()
            await super().deliver(notification)

    channel = Gated()
    async with running(valkey_server, channel):
        await publish(redis, valkey_server, 1)

        async def held() -> bool:
            groups = await redis.xinfo_groups(valkey_server.stream)
            return bool(groups) and groups[0]["pending"] == 1

        await until(held)
        assert channel.delivered == []
        gate.set()
        await until(nothing_pending(redis, valkey_server))
    assert runs(channel) == ["run-1"]


async def test_what_a_dead_consumer_left_is_delivered(valkey_server: Valkey, redis: Redis) -> None:
    await publish(redis, valkey_server, 1, 2, 3)
    dead = valkey_server.inbox("dead")
    assert len(await dead.receive(2, 0)) == 2
    taken_over = REGISTRY.get_sample_value("pagi_notifier_redeliveries_total") or 0
    channel = RecordingChannel()
    async with running(valkey_server, channel, "heir"):
        await until(lambda: len(channel.delivered) == 3)
        await until(nothing_pending(redis, valkey_server))
    assert sorted(runs(channel)) == ["run-1", "run-2", "run-3"]
    assert REGISTRY.get_sample_value("pagi_notifier_redeliveries_total") == taken_over + 2
    await dead.stop()


async def test_poison_goes_to_the_dead_letters_and_holds_up_nothing(
    valkey_server: Valkey, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(redis, valkey_server, 1)
    await redis.xadd(valkey_server.stream, {"payload": "not json"})
    await redis.xadd(valkey_server.stream, {"other": "field"})
    await publish(redis, valkey_server, 2)
    channel = RecordingChannel()
    async with running(valkey_server, channel):
        await until(lambda: len(channel.delivered) == 2)
        await until(nothing_pending(redis, valkey_server))
    assert runs(channel) == ["run-1", "run-2"]
    letters = [fields for _, fields in await redis.xrange(f"{valkey_server.stream}:dead")]
    assert letters[0][b"payload"] == b"not json"
    assert b"not protobuf JSON" in letters[0][b"reason"]
    assert b"no field `payload`" in letters[1][b"reason"]
    assert caplog.text.count("is given up") == 2


async def test_a_batch_that_takes_longer_than_the_claim_time_is_nobody_elses(
    valkey_server: Valkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CLAIM_IDLE_S", 0.5)

    class Slow(RecordingChannel):
        async def deliver(self, notification: Notification) -> None:
            await asyncio.sleep(0.12)
            await super().deliver(notification)

    await publish(redis, valkey_server, *range(8))
    slow, quick = Slow(), RecordingChannel()
    async with running(valkey_server, slow, "slow"):
        await until(lambda: slow.delivered)
        async with running(valkey_server, quick, "quick"):
            await until(lambda: len(slow.delivered) + len(quick.delivered) >= 8)
            await until(nothing_pending(redis, valkey_server))
    assert (runs(slow), runs(quick)) == ([f"run-{number}" for number in range(8)], [])


async def test_a_delivery_that_fails_is_repeated_then_given_up_and_the_rest_goes_on(
    valkey_server: Valkey, redis: Redis
) -> None:
    attempts: list[str] = []

    def refuse(notification: Notification) -> str:
        attempts.append(notification.run_id)
        once = notification.run_id == "run-2" and attempts.count("run-2") == 1
        return "mailbox full" if once or notification.run_id == "run-1" else ""

    await publish(redis, valkey_server, 1, 2, 3)
    channel = RecordingChannel(refuse)
    async with running(valkey_server, channel):
        await until(lambda: attempts.count("run-1") == 3)
        await until(lambda: len(channel.delivered) == 2)
        await until(nothing_pending(redis, valkey_server))
    assert runs(channel) == ["run-3", "run-2"]
    assert attempts.count("run-1") == 3
    [(_, letter)] = await redis.xrange(f"{valkey_server.stream}:dead")
    assert letter[b"reason"] == b"delivery failed 3 times, at last: mailbox full"
    assert letter[b"deliveries"] == b"3"


async def test_redis_killed_and_started_again_loses_nothing(valkey_server: Valkey, redis: Redis) -> None:
    channel = RecordingChannel()
    async with running(valkey_server, channel):
        await publish(redis, valkey_server, *range(5))
        await until(lambda: len(channel.delivered) >= 2)
        valkey_server.kill()
        await valkey_server.start()
        async with Redis.from_url(valkey_server.url) as again:
            await publish(again, valkey_server, *range(5, 10))
            await until(lambda: len(set(runs(channel))) == 10)
            await until(nothing_pending(again, valkey_server))
    first_times = list(dict.fromkeys(runs(channel)))
    assert first_times == [f"run-{number}" for number in range(10)]


async def test_it_starts_without_redis_and_delivers_when_it_comes(valkey_server: Valkey, redis: Redis) -> None:
    await publish(redis, valkey_server, 1)
    valkey_server.kill()
    channel = RecordingChannel()
    async with running(valkey_server, channel):
        await valkey_server.start()
        await until(lambda: runs(channel) == ["run-1"])


async def test_the_trace_goes_on_and_the_line_carries_the_ids(valkey_server: Valkey, redis: Redis) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"
    out = io.StringIO()
    bound: list[correlation.Correlation] = []

    class Noting(StdoutChannel):
        async def deliver(self, notification: Notification) -> None:
            bound.append(correlation.current())
            await super().deliver(notification)

    spans = InMemorySpanExporter()
    telemetry.set_up_exporter("notification-subscriber", spans)
    try:
        async with running(valkey_server, Noting(out)):
            note = notification_json(1, trace_id=trace_id, traceparent=traceparent)
            await redis.xadd(valkey_server.stream, {"payload": note})
            await until(out.getvalue)
    finally:
        telemetry.shut_down()
    assert json.loads(out.getvalue())["trace_id"] == trace_id
    assert (bound[0].trace_id, bound[0].run_id, bound[0].session_id) == (trace_id, "run-1", "s1")
    [span] = [span for span in spans.get_finished_spans() if span.name == "deliver notification"]
    assert f"{span.context.trace_id:032x}" == trace_id
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


async def test_health_tells_a_refusal_and_forgets_it_when_it_is_over(valkey_server: Valkey, redis: Redis) -> None:
    await redis.set(valkey_server.stream, "not a stream")
    channel = RecordingChannel()
    async with running(valkey_server, channel) as service:

        async def refused() -> bool:
            try:
                await service.check()
            except InboxUnavailableError as error:
                return "WRONGTYPE" in error.message
            return False

        await until(refused)
        await redis.delete(valkey_server.stream)
        await publish(redis, valkey_server, 1)
        await until(lambda: runs(channel) == ["run-1"])


class Deadly(RecordingChannel):
    """Ends the process that delivers one of the runs, as far as the subscriber can see."""

    kills = 0

    async def deliver(self, notification: Notification) -> None:
        if notification.run_id == "run-2":
            self.kills += 1
            raise asyncio.CancelledError
        await super().deliver(notification)


async def lives_until_nothing_is_pending(stream: InMemoryStream, channel: Deadly, max_deliveries: int) -> int:
    """Starts one subscriber after the other, each a consumer of its own; returns how many died."""
    for number in range(20):
        inbox = InMemoryInbox(stream, f"life-{number}", claim_idle_s=CLAIM_IDLE_S)
        service = subscriber(inbox, channel, max_deliveries=max_deliveries)
        await service.start()
        kills = channel.kills
        await until(
            lambda kills=kills: channel.kills > kills or not (stream.held or stream.entries.keys() - stream.taken)
        )
        await service.stop()
        if not stream.held:
            return number
        stream.now_s += CLAIM_IDLE_S * 2
    raise AssertionError("it never ends")


@pytest.mark.parametrize("max_deliveries", [1, 3])
async def test_an_entry_that_kills_takes_none_of_its_batch_along(max_deliveries: int) -> None:
    stream = InMemoryStream()
    for number in range(8):
        stream.publish(notification_json(number))
    channel = Deadly()
    deaths = await lives_until_nothing_is_pending(stream, channel, max_deliveries)
    assert sorted(runs(channel)) == [f"run-{number}" for number in range(8) if number != 2]
    [letter] = stream.dead
    assert "run-2" in letter["payload"]
    assert letter["reason"] == f"taken {max_deliveries} times and never finished"
    assert deaths == 1 + max_deliveries, "that in the batch may have been any other's"


class SlowToAcknowledge(InMemoryInbox):
    """The first acknowledgement waits, as where Redis is away."""

    def __init__(self, stream: InMemoryStream) -> None:
        super().__init__(stream, "slow", claim_idle_s=CLAIM_IDLE_S)
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def acknowledge(self, ids: Sequence[str]) -> None:
        if ids and not self.waits.is_set():
            self.waits.set()
            await self.goes_on.wait()
        await super().acknowledge(ids)


class Slow(RecordingChannel):
    """Takes so long that what is left of a batch has to be held anew."""

    async def deliver(self, notification: Notification) -> None:
        await asyncio.sleep(CLAIM_IDLE_S * 0.6)
        await super().deliver(notification)


@asynccontextmanager
async def waiting_to_acknowledge() -> AsyncIterator[tuple[InMemoryStream, SlowToAcknowledge, Slow, Subscriber]]:
    """A batch of two, of which the first is delivered and not acknowledged yet."""
    stream = InMemoryStream()
    for number in range(2):
        stream.publish(notification_json(number))
    inbox, channel = SlowToAcknowledge(stream), Slow()
    service = subscriber(inbox, channel)
    await service.start()
    await inbox.waits.wait()
    yield stream, inbox, channel, service
    await service.stop()


@pytest.mark.parametrize("waited_s", [0.0, CLAIM_IDLE_S])
async def test_what_another_took_while_an_acknowledgement_waited_is_left_to_it(waited_s: float) -> None:
    async with waiting_to_acknowledge() as (stream, inbox, channel, _):
        stream.now_s += CLAIM_IDLE_S * 2
        other = InMemoryInbox(stream, "other", claim_idle_s=CLAIM_IDLE_S)
        taken = [await other.take_over() for _ in range(2)]
        assert all(taken)
        await asyncio.sleep(waited_s)
        inbox.goes_on.set()
        stream.publish(notification_json(2))
        await until(lambda: "run-2" in runs(channel))
    assert runs(channel) == ["run-0", "run-2"]
    assert [held.consumer for held in stream.held.values()] == ["other"]


async def test_a_stop_while_an_acknowledgement_waits_loses_none() -> None:
    async with waiting_to_acknowledge() as (stream, _, channel, service):
        await service.stop()
    assert runs(channel) == ["run-0"]
    assert [stream.entries[id_] for id_ in stream.held] == [notification_json(1)]


class BrokenOnce(InMemoryInbox):
    """Fails in a way that no inbox should, once."""

    broken = True

    async def receive(self, limit: int, wait_s: float) -> list[Entry]:
        if self.broken:
            self.broken = False
            raise ZeroDivisionError
        return await super().receive(limit, min(wait_s, 0.05))


async def test_a_fault_of_ours_is_logged_and_delivery_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stream = InMemoryStream()
    stream.publish(notification_json(1))
    channel = RecordingChannel()
    inbox = BrokenOnce(stream, "a", claim_idle_s=CLAIM_IDLE_S)
    service = subscriber(inbox, channel)
    await service.start()
    await until(lambda: runs(channel) == ["run-1"])
    await until(lambda: not stream.held)
    await service.stop()
    assert "ZeroDivisionError" in caplog.text
    assert await inbox.backlog() == Backlog(pending=0, unread=0, dead=0)
