"""A server that is killed or hangs, as its client sees it. Each server is a process of its own."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis import errors
from pagi_chassis.grpc_client import GrpcClient

SERVER = """
    import asyncio, sys
    from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
    from pagi_chassis.errors import UnavailableError
    from pagi_chassis.grpc_server import GrpcServer

    class Tools(sandbox_pb2_grpc.ToolServiceServicer):
        async def ExecuteTool(self, request, context):
            if request.tool == "hang":
                print("hangs", flush=True)
                await asyncio.Event().wait()
            if request.tool == "need":
                raise UnavailableError("the one behind is away", retry_after_s=0.05)
            return sandbox_pb2.ExecuteToolResponse(stdout=sys.argv[2])

    async def main():
        server = GrpcServer("127.0.0.1", int(sys.argv[1]))
        server.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, Tools(), "pagi.sandbox.v1.ToolService")
        await server.start()
        print("port", server.port, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def port_of(process) -> int:
    return int(process.hear("port").split()[1])


async def ask(client, tool="t", **kwargs):
    stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
    request = sandbox_pb2.ExecuteToolRequest(tool=tool)
    return (await client.call(stub.ExecuteTool, request, **{"timeout_s": 10.0, **kwargs})).stdout


@pytest.fixture
async def client_of():
    clients = []

    def client_of(port, **kwargs):
        clients.append(GrpcClient(f"127.0.0.1:{port}", **kwargs))
        return clients[-1]

    yield client_of
    for client in clients:
        await client.close()


@pytest.mark.parametrize("down_s", [0.0, 3.0], ids=["back at once", "away for 3 s"])
async def test_a_killed_server_is_used_again_within_two_seconds_of_its_return(start, client_of, down_s):
    first = start(SERVER, 0, "first")
    port = port_of(first)
    client = client_of(port)
    assert await ask(client) == "first"
    first.popen.kill()
    first.popen.wait()
    # An outage that is long enough for gRPC to back off, with calls that fail meanwhile.
    ends = time.monotonic() + down_s
    while time.monotonic() < ends:
        with pytest.raises(errors.UnavailableError):
            await ask(client)
        await asyncio.sleep(0.1)
    second = start(SERVER, port, "second")
    assert port_of(second) == port
    back = time.monotonic()
    assert await ask(client, repeatable=True) == "second"
    assert time.monotonic() - back < 2


async def test_a_call_may_wait_longer_for_a_server_that_is_away(start, client_of):
    first = start(SERVER, 0, "first")
    port = port_of(first)
    client = client_of(port, patience_s=0.2)
    assert await ask(client) == "first"
    first.popen.kill()
    first.popen.wait()
    with pytest.raises(errors.UnavailableError) as caught:
        await ask(client, repeatable=True)
    assert caught.value.is_away
    waiting = asyncio.create_task(ask(client, repeatable=True, patience_s=10.0))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    second = await asyncio.to_thread(start, SERVER, port, "second")
    await asyncio.to_thread(second.hear, "port")
    assert await waiting == "second"


async def test_no_call_waits_longer_for_what_a_server_needs(start, client_of):
    """The server is there: it has its own patience with whoever is behind it."""
    server = start(SERVER, 0, "needy")
    client = client_of(port_of(server), patience_s=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(errors.UnavailableError, match="the one behind") as caught:
            await ask(client, "need", repeatable=True, patience_s=60.0)
    assert not caught.value.is_away


async def test_a_call_that_was_killed_midway_is_repeated_only_where_that_is_harmless(start, client_of):
    first = start(SERVER, 0, "first")
    port = port_of(first)
    client = client_of(port)
    once = asyncio.create_task(ask(client, "hang"))
    again = asyncio.create_task(ask(client, "hang", timeout_s=4.0, repeatable=True))
    for _ in range(2):
        await asyncio.to_thread(first.hear, "hangs")
    first.popen.kill()
    with pytest.raises(errors.UnavailableError):
        await once
    second = await asyncio.to_thread(start, SERVER, port, "second")
    await asyncio.to_thread(second.hear, "hangs")
    with pytest.raises(errors.DeadlineExceededError):
        await again


async def test_a_server_that_hangs_holds_no_call_beyond_its_deadline(start, client_of):
    server = start(SERVER, 0, "awake")
    client = client_of(port_of(server))
    assert await ask(client) == "awake"
    server.popen.send_signal(signal.SIGSTOP)
    try:
        for repeatable in (False, True):
            began = time.monotonic()
            with pytest.raises(errors.DeadlineExceededError):
                await ask(client, timeout_s=0.5, repeatable=repeatable)
            assert time.monotonic() - began < 1.5
        with pytest.raises(errors.DeadlineExceededError):
            await client.check_health(timeout_s=0.3)
    finally:
        server.popen.send_signal(signal.SIGCONT)
    assert await ask(client) == "awake"
