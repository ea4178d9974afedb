"""pagi.agent.v1.Agent with mutual TLS, as `scripts/gen_certs.sh` and the planner's variables set it up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis.errors import UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.tls import ClientTls
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.bootstrap import build
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.settings import PlannerSettings
from pagi_planner.testing import (
    InMemoryMemory,
    RecordingNotifier,
    RecordingTools,
    SpeakingModel,
    call,
    calling,
    saying,
)

GEN_CERTS = Path(__file__).parents[3] / "scripts" / "gen_certs.sh"
PATIENCE_S = 10
SCRIPT = calling(call("add", {"a": 1, "b": 2}, "c")), saying("It is 3, over TLS.")


def certificates(folder: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing, which makes the certificates")
    environment = {**os.environ, "TLS_CERTS_DIR": str(folder)}
    subprocess.run(["bash", str(GEN_CERTS)], env=environment, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "foreign")


def client_tls(folder: Path, believes: Path | None = None) -> ClientTls:
    return ClientTls(folder / "client.crt", folder / "client.key", (believes or folder) / "ca.crt")


class Secured(NamedTuple):
    """A planner of which only certificates of a CA are let in."""

    address: str
    journal: SqliteJournal


@pytest.fixture
async def planner(ours: Path, tmp_path: Path) -> AsyncIterator[Secured]:
    nobody = "127.0.0.1:1"
    settings = PlannerSettings(
        agent_planner_port=0,
        agent_planner_grpc_port=0,
        pagi_audit_db_path=tmp_path / "audit.db",
        model_gateway_addr=nobody,
        sandbox_grpc_addr=nobody,
        pagi_api_key="secret",
        tls_server_cert_path=ours / "server.crt",
        tls_server_key_path=ours / "server.key",
        tls_ca_cert_path=ours / "ca.crt",
    )
    components = await build(
        settings,
        model=SpeakingModel(*SCRIPT),
        memory=InMemoryMemory(),
        tools=RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})}),
        notifier=RecordingNotifier(),
    )
    async with AsyncExitStack() as stack:
        for component in components:
            stack.push_async_callback(component.stop)
            await component.start()
        [server] = [component for component in components if isinstance(component, GrpcServer)]
        yield Secured(f"localhost:{server.port}", components[0])


async def run(client: GrpcClient, *, key: str = "secret") -> list[pb.RunEvent]:
    stub = agent_pb2_grpc.AgentStub(client.channel)
    return [told async for told in stub.Run(pb.RunRequest(run_id="r", prompt="1 + 2?"), metadata=(("x-api-key", key),))]


async def test_with_the_right_certificate_a_whole_run_is_streamed(planner, ours):
    client = GrpcClient(planner.address, tls=client_tls(ours))
    try:
        events = await run(client)
        again = await run(client)
        wrong_key = await refusal(run(client, key="wrong"))
    finally:
        await client.close()
    assert events[0].begun.run_id == "r"
    seen = [told.journal.type for told in events if told.WhichOneof("event") == "journal"]
    assert seen == [event.type for event in await planner.journal.events("r")]
    assert "".join(told.text_delta.text for told in events) == "It is 3, over TLS."
    assert (events[-1].result.status, events[-1].result.steps[0].tool) == ("completed", "add")
    assert again[-1] == events[-1]
    assert wrong_key is grpc.StatusCode.UNAUTHENTICATED, "a certificate is no key"


async def refusal(work) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work
    return caught.value.code()


def of_no_certificate(ours: Path, address: str) -> grpc.aio.Channel:
    """One that believes the planner, and shows nothing of its own."""
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials((ours / "ca.crt").read_bytes()))


async def test_without_one_or_with_a_foreign_one_nothing_is_told_and_nothing_begun(planner, ours, foreign):
    channels = [
        of_no_certificate(ours, planner.address),
        grpc.aio.insecure_channel(planner.address),
        GrpcClient(planner.address, tls=client_tls(foreign, believes=ours)).channel,
    ]
    for channel in channels:
        stub = agent_pb2_grpc.AgentStub(channel)
        metadata = (("x-api-key", "secret"),)
        for method, request in (
            (stub.GetRun, pb.GetRunRequest(run_id="r")),
            (stub.Cancel, pb.CancelRequest(run_id="r")),
            (stub.Decide, pb.DecideRequest(run_id="r", call_id="c")),
        ):
            asked = method(request, metadata=metadata, timeout=PATIENCE_S)
            assert await refusal(asked) is grpc.StatusCode.UNAVAILABLE
        stream = stub.Run(pb.RunRequest(run_id="r", prompt="x"), metadata=metadata, timeout=PATIENCE_S)
        assert await refusal(stream.read()) is grpc.StatusCode.UNAVAILABLE
        await channel.close()
    assert await planner.journal.events("r") == []


async def test_who_believes_another_ca_does_not_talk_to_the_planner(planner, ours, foreign):
    client = GrpcClient(planner.address, tls=client_tls(ours, believes=foreign))
    with pytest.raises(UnavailableError):
        await client.check_health(timeout_s=PATIENCE_S)
    await client.close()
