from __future__ import annotations

import asyncio

import pytest
from pagi_notifier.domain.courier import Courier
from pagi_notifier.domain.model import Entry, Notification, Outcome, Status
from pagi_notifier.testing import InMemoryInbox, InMemoryStream, RecordingChannel, notification_json

NOTE = Notification(trace_id="t1", status=Status.COMPLETED)


class SlowChannel:
    name = "slow"

    async def deliver(self, notification: Notification) -> None:
        await asyncio.sleep(60)


class FaultyChannel:
    name = "faulty"

    async def deliver(self, notification: Notification) -> None:
        raise KeyError("subject")


async def taken(stream: InMemoryStream, deliveries: int = 1) -> tuple[InMemoryInbox, Entry]:
    inbox = InMemoryInbox(stream, "a", claim_idle_s=1)
    stream.publish(notification_json())
    [entry] = await inbox.receive(1, 0)
    return inbox, Entry(entry.id, entry.payload, deliveries)


async def test_delivers() -> None:
    inbox, entry = await taken(InMemoryStream())
    channel = RecordingChannel()
    assert await Courier(channel, inbox, max_deliveries=3, timeout_s=1).deliver(entry, NOTE) is Outcome.DELIVERED
    assert channel.delivered == [NOTE]


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        (RecordingChannel(lambda _: "mailbox full"), "mailbox full"),
        (SlowChannel(), "no answer within 0.01 s"),
        (FaultyChannel(), "KeyError in channel faulty"),
    ],
)
async def test_a_failure_stays_until_the_last_attempt_and_is_then_buried_with_the_reason(
    channel: RecordingChannel, reason: str
) -> None:
    stream = InMemoryStream()
    inbox, entry = await taken(stream, deliveries=2)
    courier = Courier(channel, inbox, max_deliveries=3, timeout_s=0.01)
    assert await courier.deliver(entry, NOTE) is Outcome.FAILED
    assert stream.held
    assert await courier.deliver(Entry(entry.id, entry.payload, 3), NOTE) is Outcome.DEAD
    assert not stream.held
    assert reason in stream.dead[0]["reason"]


async def test_an_entry_that_was_taken_too_often_is_not_tried_again() -> None:
    """It may be what killed those who took it."""
    stream = InMemoryStream()
    inbox, entry = await taken(stream, deliveries=4)
    channel = RecordingChannel()
    assert await Courier(channel, inbox, max_deliveries=3, timeout_s=1).deliver(entry, NOTE) is Outcome.DEAD
    assert channel.delivered == []
    assert stream.dead[0]["reason"] == "taken 3 times and never finished"
