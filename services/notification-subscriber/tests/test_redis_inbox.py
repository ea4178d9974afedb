"""What only a real server can show: it is killed, hangs, loses its data, serves other groups."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from pagi_notifier.adapters import redis_server
from pagi_notifier.adapters.redis_server import RedisServer
from pagi_notifier.domain.errors import InboxUnavailableError
from pagi_notifier.testing import notification_json, until
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from conftest import Valkey


async def test_a_call_waits_for_a_killed_server_and_says_so_once(
    valkey_server: Valkey, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inbox = valkey_server.inbox("a")
    published = [await redis.xadd(valkey_server.stream, {"payload": notification_json(number)}) for number in range(3)]
    [first] = await inbox.receive(1, 0)
    valkey_server.kill()
    acknowledging = asyncio.create_task(inbox.acknowledge([first.id]))
    await until(lambda: "is away" in caplog.text)
    await valkey_server.start()
    await acknowledging
    assert [entry.id.encode() for entry in await inbox.receive(9, 0)] == published[1:]
    assert caplog.text.count("is away") == 1
    assert caplog.text.count("is back") == 1
    assert (await inbox.backlog()).pending == 2
    await inbox.stop()


async def test_a_server_that_is_away_for_days_is_waited_for() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def command(_: object) -> str:
        if len(pauses) < 5_000:
            raise RedisConnectionError("refused")
        return "there"

    server = RedisServer("redis://127.0.0.1:1/0", longest_block_s=1, sleep=sleep)
    assert await server.call(command) == "there"
    await server.close()
    assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pauses[-1] == 1.0


async def test_a_hung_server_is_noticed(
    valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_server, "SILENCE_S", -1.8)  # 0.2 s in all instead of 7
    inbox = valkey_server.inbox("a")
    assert await inbox.receive(1, 0) == []
    valkey_server.freeze()
    receiving = asyncio.create_task(inbox.receive(1, 0))
    await until(lambda: "is away" in caplog.text)
    valkey_server.thaw()
    assert await receiving == []
    await inbox.stop()


async def test_a_server_that_lost_everything_gets_its_group_back(valkey_server: Valkey, redis: Redis) -> None:
    inbox = valkey_server.inbox("a")
    await inbox.receive(1, 0)
    await redis.flushall()
    assert (await inbox.backlog()).pending == 0
    await redis.flushall()
    assert await inbox.take_over() is None
    await redis.flushall()
    await redis.xadd(valkey_server.stream, {"payload": notification_json()})
    assert len(await inbox.receive(1, 0)) == 1
    await inbox.stop()


async def test_a_refusal_is_an_error_with_the_reason(valkey_server: Valkey, redis: Redis) -> None:
    await redis.set(valkey_server.stream, "not a stream")
    inbox = valkey_server.inbox("a")
    with pytest.raises(InboxUnavailableError, match="WRONGTYPE"):
        await inbox.receive(1, 0)
    await inbox.stop()


async def test_forget_waits_for_other_groups(valkey_server: Valkey, redis: Redis) -> None:
    await redis.xgroup_create(valkey_server.stream, "others", id="0", mkstream=True)
    published = [await redis.xadd(valkey_server.stream, {"payload": notification_json(number)}) for number in range(3)]
    inbox = valkey_server.inbox("a")
    await inbox.acknowledge([entry.id for entry in await inbox.receive(9, 0)])
    assert await inbox.forget(-60) == 0
    await redis.xreadgroup("others", "x", {valkey_server.stream: ">"}, count=2)
    await redis.xack(valkey_server.stream, "others", published[0])
    assert await inbox.forget(-60) == 1
    await inbox.stop()


async def test_leaving_removes_the_consumer_only_when_it_holds_nothing(valkey_server: Valkey, redis: Redis) -> None:
    await redis.xadd(valkey_server.stream, {"payload": notification_json()})
    holder, idle = valkey_server.inbox("holder"), valkey_server.inbox("idle")
    await holder.receive(1, 0)
    await idle.receive(1, 0)
    await holder.stop()
    await idle.stop()
    assert [each["name"] for each in await redis.xinfo_consumers(valkey_server.stream, valkey_server.group)] == [
        b"holder"
    ]


async def test_stop_ends_although_the_server_is_away(valkey_server: Valkey) -> None:
    inbox = valkey_server.inbox("a")
    await inbox.receive(1, 0)
    valkey_server.kill()
    async with asyncio.timeout(5):
        await inbox.stop()
    await valkey_server.start()


async def test_ping_answers_for_health(valkey_server: Valkey) -> None:
    server = redis_server.RedisServer(valkey_server.url, longest_block_s=2)
    await server.ping()
    valkey_server.kill()
    with pytest.raises(InboxUnavailableError, match=f"127.0.0.1:{valkey_server.port} does not answer"):
        await server.ping()
    await server.close()
    await valkey_server.start()
