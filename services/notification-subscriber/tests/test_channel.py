"""What any channel does: one suite for the recording one and the one on standard output."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from pagi_notifier.adapters.stdout_channel import StdoutChannel
from pagi_notifier.domain.errors import DeliveryError
from pagi_notifier.domain.model import Notification, Status
from pagi_notifier.domain.ports import Channel
from pagi_notifier.testing import RecordingChannel

NOTE = Notification(
    trace_id="0af7651916cd43dd8448eb211c80319c",
    status=Status.FAILED,
    run_id="r1",
    session_id="Sitzung ä",
    result="private",
    timestamp="2026-01-01T00:00:00Z",
)


@pytest.fixture(params=["recording", "stdout"])
def channel_and_count(request: pytest.FixtureRequest) -> tuple[Channel, Callable[[], int]]:
    if request.param == "recording":
        recording = RecordingChannel()
        return recording, lambda: len(recording.delivered)
    out = io.StringIO()
    return StdoutChannel(out), lambda: out.getvalue().count("\n")


async def test_each_delivery_arrives_once(channel_and_count: tuple[Channel, Callable[[], int]]) -> None:
    channel, count = channel_and_count
    assert channel.name
    for number in (1, 2):
        await channel.deliver(NOTE)
        assert count() == number


@pytest.mark.parametrize("kind", ["recording", "stdout"])
async def test_what_does_not_arrive_is_a_delivery_error(kind: str) -> None:
    closed = io.StringIO()
    closed.close()
    channel = RecordingChannel(lambda _: "gone") if kind == "recording" else StdoutChannel(closed)
    with pytest.raises(DeliveryError):
        await channel.deliver(NOTE)


async def test_the_line_names_the_work_and_leaves_the_result_out() -> None:
    out = io.StringIO()
    await StdoutChannel(out).deliver(NOTE)
    line = json.loads(out.getvalue())
    assert line["trace_id"] == NOTE.trace_id
    assert (line["run_id"], line["session_id"], line["status"]) == ("r1", "Sitzung ä", "FAILED")
    assert line["published"] == "2026-01-01T00:00:00Z"
    assert "private" not in out.getvalue()
