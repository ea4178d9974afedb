"""The mesh with mutual TLS on every internal link."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from real_mesh import Mesh
from redis_server import Valkey


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Iterator[Mesh]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing, which makes the certificates")
    mesh = Mesh(tmp_path_factory.mktemp("secured"), "--mtls", REDIS_ADDR=valkey.address)
    yield mesh
    mesh.stop()


def health_of(channel: grpc.Channel) -> int:
    with channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return answer.status


def certificates(folder: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        (folder / "ca.crt").read_bytes(), (folder / "client.key").read_bytes(), (folder / "client.crt").read_bytes()
    )


def test_a_plan_crosses_the_secured_links(secured: Mesh):
    answer = secured.plan("What is (100 + 50) * 2?")
    assert answer["degraded"] == []
    assert "300" in answer["result"]


@pytest.mark.parametrize("service", ["memory", "sandbox", "model-gateway"])
def test_only_who_has_a_certificate_of_the_ca_is_let_in(secured: Mesh, service: str, tmp_path: Path):
    address = f"127.0.0.1:{secured.grpc[service]}"
    good = certificates(secured.root / "tls_certs")
    assert health_of(grpc.secure_channel(address, good)) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        health_of(grpc.insecure_channel(address))
    shutil.copytree(secured.root / "scripts", tmp_path / "scripts")
    subprocess.run(["bash", "scripts/gen_certs.sh"], cwd=tmp_path, check=True, capture_output=True)
    stranger = grpc.ssl_channel_credentials(
        (secured.root / "tls_certs" / "ca.crt").read_bytes(),
        (tmp_path / "tls_certs" / "client.key").read_bytes(),
        (tmp_path / "tls_certs" / "client.crt").read_bytes(),
    )
    with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        health_of(grpc.secure_channel(address, stranger))
