from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from otlp_receiver import OtlpReceiver, receiving
from real_mesh import Mesh, free_ports
from redis_server import Valkey


@pytest.fixture(scope="session")
def receiver() -> Iterator[OtlpReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server that the harness finds running, so that the tests decide when it is away."""
    server = Valkey(tmp_path_factory.mktemp("valkey"), free_ports(1)[0])
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver, valkey: Valkey) -> Iterator[Mesh]:
    mesh = Mesh(
        tmp_path_factory.mktemp("mesh"),
        REDIS_ADDR=valkey.address,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    yield mesh
    mesh.stop()
