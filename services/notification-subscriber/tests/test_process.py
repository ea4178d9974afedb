"""The service as a process of its own: health, metrics, a kill, an orderly end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from pagi_notifier.testing import notification_json, until
from redis.asyncio import Redis

if TYPE_CHECKING:
    from conftest import Valkey


class Service:
    def __init__(self, server: Valkey, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {
            "PATH": os.environ["PATH"],
            "REDIS_ADDR": f"127.0.0.1:{server.port}",
            "PAGI_NOTIFICATIONS_STREAM": server.stream,
            "NOTIFICATION_GROUP": server.group,
            "NOTIFICATION_SUBSCRIBER_PORT": str(self.port),
            "NOTIFICATION_CLAIM_IDLE_SECONDS": "0.2",
        }
        self._folder = folder
        self.log = folder / "subscriber.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pagi_notifier"], env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )

    def delivered(self) -> list[str]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line["run_id"] for line in lines if line["message"] == "notification"]

    async def health(self) -> tuple[int, dict[str, dict[str, dict[str, str]]]]:
        async with httpx.AsyncClient() as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.port}/health", timeout=5)
            except httpx.TransportError:
                return 0, {}
            return answer.status_code, answer.json()

    async def metrics(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5)).text


@pytest.fixture
def service(valkey_server: Valkey, tmp_path: Path) -> Iterator[Service]:
    service = Service(valkey_server, tmp_path)
    service.start()
    yield service
    assert service.process
    service.process.kill()
    service.process.wait()


async def test_a_process_through_its_life(service: Service, valkey_server: Valkey, redis: Redis) -> None:
    async def answers(status: int) -> bool:
        return (await service.health())[0] == status

    await until(lambda: answers(200))
    await redis.xadd(valkey_server.stream, {"payload": notification_json(1)})
    await until(lambda: service.delivered() == ["run-1"])

    # Redis away: it says so, stays up, and delivers again.
    valkey_server.kill()
    await until(lambda: answers(503))
    _, report = await service.health()
    assert "does not answer" in report["dependencies"]["redis"]["detail"]
    assert "pagi_notifier_redis_up 0.0" in await service.metrics()
    await valkey_server.start()
    await until(lambda: answers(200))
    async with Redis.from_url(valkey_server.url) as again:
        await again.xadd(valkey_server.stream, {"payload": notification_json(2)})
        await until(lambda: service.delivered() == ["run-1", "run-2"])

        # Killed: what comes meanwhile is delivered by the next one.
        assert service.process
        service.process.kill()
        service.process.wait()
        await again.xadd(valkey_server.stream, {"payload": notification_json(3)})
        service.start()
        await until(lambda: service.delivered() == ["run-1", "run-2", "run-3"])

    metrics = await service.metrics()
    assert 'pagi_notifier_delivered_total{channel="log",status="COMPLETED"} 1.0' in metrics
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "metrics"], input=metrics.encode(), check=True)

    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=10) == 0
