"""Bad input over real gRPC: a typed error, or a result that says what happened, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, PagiError, ResourceExhaustedError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.servicer import SERVICE, ToolServicer

MIB = 2**20


class Client:
    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)

    async def __call__(self, tool: str, arguments: Any, effect_id: str = "", **limits: int) -> pb.ExecuteToolResponse:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        request = pb.ExecuteToolRequest(
            tool=tool, arguments_json=text, limits=pb.Limits(**limits), session_id="s", effect_id=effect_id
        )
        response = await self._client.call(self._stub.ExecuteTool, request, timeout_s=30.0)
        assert isinstance(response, pb.ExecuteToolResponse)
        return response


@pytest_asyncio.fixture(loop_scope="module")
async def client(sandbox: Sandbox, files: SessionFiles) -> AsyncIterator[Client]:
    servicer = ToolServicer(sandbox, files)
    async with serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, servicer, SERVICE) as connection:
        yield Client(connection)


@contextmanager
def bounded(seconds: float, mib: float) -> Iterator[None]:
    """The block takes at most so long, and this process at no moment so much more memory."""
    over, peak, before, began = threading.Event(), 0, _resident(), time.monotonic()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert time.monotonic() - began < seconds
    assert peak - before < mib * MIB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("tool", "arguments", "limits", "error", "field", "complaint"),
    [
        ("shel", {}, {}, NotFoundError, None, "ListTools"),
        ("", {}, {}, NotFoundError, None, "no tool ''"),
        ("x" * 100_000, {}, {}, NotFoundError, None, "no tool"),
        ("python", {"code": 1}, {}, InvalidArgumentError, "arguments_json.code", "$.code"),
        ("python", {"code": "1", "cod": 2}, {}, InvalidArgumentError, "arguments_json", "cod"),
        ("python", {"code": "x" * 10 * MIB}, {}, InvalidArgumentError, "arguments_json.code", "longer than"),
        ("python", '{"code": ' + "[" * MIB, {}, InvalidArgumentError, "arguments_json", "deeply"),
        ("python", {"code": "1"}, {"cpu_ms": 40_001}, InvalidArgumentError, "limits.cpu_ms", "1 to 40000"),
        ("python", {"code": "1"}, {"disk_mb": 201}, InvalidArgumentError, "limits.disk_mb", "1 to 200"),
        ("python", {"code": "1"}, {"processes": 129}, InvalidArgumentError, "limits.processes", "1 to 128"),
        ("python", {"code": "1"}, {"memory_mb": -1}, InvalidArgumentError, "limits.memory_mb", "64 to 1024"),
        ("python", {"code": "x" * 20 * MIB}, {}, ResourceExhaustedError, None, ""),
    ],
)
async def test_a_wrong_request_is_a_typed_error_soon(
    client: Client,
    tool: str,
    arguments: Any,
    limits: dict[str, int],
    error: type[PagiError],
    field: str | None,
    complaint: str,
) -> None:
    with bounded(5, 200), pytest.raises(error) as caught:
        await client(tool, arguments, **limits)
    assert complaint in caught.value.message
    assert len(caught.value.message) < 1000
    assert getattr(caught.value, "field", None) == field


async def test_2_gb_of_output_take_bounded_memory(client: Client) -> None:
    code = "import os\nblock = b'y' * 2**20\nfor _ in range(2048): os.write(1, block)"
    with bounded(10, 60):
        response = await client("python", {"code": code}, output_bytes=1_000_000)
    assert (response.verdict, response.truncated, len(response.stdout)) == (pb.VERDICT_OUTPUT, True, 1_000_000)


async def test_2_gb_of_output_from_many_processes_take_bounded_memory(client: Client) -> None:
    code = "import os\nos.fork(); os.fork(); os.fork()\nblock = b'y' * 2**20\nwhile True: os.write(2, block)"
    with bounded(10, 60):
        response = await client("python", {"code": code})
    assert (response.verdict, len(response.stderr)) == (pb.VERDICT_OUTPUT, 100_000)


async def test_binary_output_is_text_with_replacements(client: Client) -> None:
    response = await client("python", {"code": "import os\nos.write(1, bytes(range(256)) * 4)"})
    assert response.verdict == pb.VERDICT_OK
    assert response.stdout.count("�") == 128 * 4


async def test_a_value_of_any_size_is_cut(client: Client) -> None:
    with bounded(10, 60):
        response = await client("python", {"code": "'x' * 100_000_000"})
    assert (response.verdict, len(response.output_json) < 50_000) == (pb.VERDICT_OK, True)


async def test_what_finished_before_a_limit_is_not_lost(client: Client, sandbox: Sandbox) -> None:
    code = "open('done.txt', 'w').write('finished')\nprint('so far', flush=True)\nimport time; time.sleep(60)"
    response = await client("python", {"code": code}, timeout_ms=400)
    assert (response.verdict, response.stdout) == (pb.VERDICT_TIMEOUT, "so far\n")
    assert [(one.path, one.size_bytes) for one in response.artifacts] == [("done.txt", 8)]
    kept = await client("read_file", {"path": "done.txt"})
    assert json.loads(kept.output_json)["content"] == "finished"


async def test_bad_requests_hold_up_nobody(client: Client) -> None:
    async def bad() -> None:
        with pytest.raises(InvalidArgumentError):
            await client("python", {"code": "x" * 2 * MIB})

    results = await asyncio.gather(
        *(bad() for _ in range(10)), *(client("math", {"expression": "1 + 1"}) for _ in range(10))
    )
    assert [one.verdict for one in results if one is not None] == [pb.VERDICT_OK] * 10
