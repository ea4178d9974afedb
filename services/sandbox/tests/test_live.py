"""Live output: deltas, and StreamTool over real gRPC."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.live import LiveOutput, OutputDelta, stream
from pagi_sandbox.domain.model import Stream, ToolOutcome, Verdict
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.servicer import SERVICE, ToolServicer


@given(st.binary(max_size=60), st.lists(st.integers(1, 7), max_size=20))
def test_the_deltas_together_are_the_text_of_the_outcome(data: bytes, cuts: list[int]) -> None:
    async def deltas() -> str:
        live, at = LiveOutput(), 0

        async def execute() -> ToolOutcome:
            return ToolOutcome(Verdict.OK)

        for size in cuts:
            live.printed(Stream.STDOUT, data[at : at + size])
            at += size
        live.printed(Stream.STDOUT, data[at:])
        task = asyncio.create_task(execute())
        return "".join([delta.text async for delta in live.follow(task)])

    assert asyncio.run(deltas()) == data.decode("utf-8", "replace")


async def test_what_comes_close_together_goes_as_one_and_the_order_is_kept() -> None:
    async def execute(watcher: CallWatcher) -> ToolOutcome:
        for _ in range(3):
            watcher.printed(Stream.STDOUT, b"a")
        watcher.printed(Stream.STDERR, b"b")
        watcher.printed(Stream.STDOUT, b"c\xc3")
        return ToolOutcome(Verdict.OK)

    events = [event async for event in stream(execute)]
    assert events == [
        OutputDelta(Stream.STDOUT, "aaa"),
        OutputDelta(Stream.STDERR, "b"),
        OutputDelta(Stream.STDOUT, "c�"),
        ToolOutcome(Verdict.OK),
    ]


async def test_a_slow_listener_gets_everything() -> None:
    async def execute(watcher: CallWatcher) -> ToolOutcome:
        for number in range(50):
            watcher.printed(Stream.STDOUT, b"%d " % number)
            await asyncio.sleep(0.001)
        return ToolOutcome(Verdict.OK)

    text, pieces = "", 0
    async for event in stream(execute):
        if isinstance(event, OutputDelta):
            text, pieces = text + event.text, pieces + 1
            await asyncio.sleep(0.01)
    assert text.split() == [str(number) for number in range(50)]
    assert pieces < 15


class Client:
    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)

    async def __call__(
        self, code: str, tool: str = "python", effect_id: str = "", **limits: int
    ) -> AsyncIterator[pb.StreamToolResponse]:
        arguments = json.dumps({"code": code} if tool == "python" else {"expression": code})
        call = pb.ExecuteToolRequest(
            tool=tool, arguments_json=arguments, session_id="s", effect_id=effect_id, limits=pb.Limits(**limits)
        )
        request = pb.StreamToolRequest(call=call)
        async for event in self._client.stream(self._stub.StreamTool, request, timeout_s=15.0):
            yield event


@pytest_asyncio.fixture(loop_scope="module")
async def client(sandbox: Sandbox, files: SessionFiles) -> AsyncIterator[Client]:
    servicer = ToolServicer(sandbox, files)
    async with serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, servicer, SERVICE) as connection:
        yield Client(connection)


async def test_output_comes_while_the_tool_runs(client: Client, workspaces: DirectoryWorkspaces) -> None:
    go = workspaces.directory("", "s") / "go"
    code = (
        "import os, sys, time\nprint('é' * 3, flush=True)\nwhile not os.path.exists('go'): time.sleep(0.005)\n"
        "print('late', file=sys.stderr)\n41 + 1"
    )
    events = []
    async for event in client(code):
        events.append(event)
        if event.stdout_delta:
            go.touch()
    assert [event.WhichOneof("event") for event in events] == ["stdout_delta", "stderr_delta", "response"]
    assert (events[0].stdout_delta, events[1].stderr_delta) == ("ééé\n", "late\n")
    response = events[-1].response
    assert (response.stdout, response.stderr, response.output_json) == ("ééé\n", "late\n", '{"value": "42"}')


async def test_a_character_that_is_written_in_two_halves_comes_whole(client: Client) -> None:
    code = (
        "import os, time\nfor byte in '日本'.encode():\n    os.write(1, bytes([byte]))\n    time.sleep(0.03)\n"
        "os.write(1, b'\\xff!')"
    )
    deltas = [event.stdout_delta async for event in client(code) if event.WhichOneof("event") == "stdout_delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == "日本�!"
    assert all("�" not in delta for delta in deltas[:-1])


async def test_a_call_over_its_limit_ends_with_the_whole_response(client: Client) -> None:
    events = [event async for event in client("while True: print('y' * 1000)", output_bytes=50_000)]
    response = events[-1].response
    assert (response.verdict, response.truncated, len(response.stdout)) == (pb.VERDICT_OUTPUT, True, 50_000)
    assert "".join(event.stdout_delta for event in events[:-1]) == response.stdout


async def test_a_repeat_gets_the_response_alone(client: Client) -> None:
    first = [event async for event in client("print('x')", effect_id="run/1/0")]
    again = [event async for event in client("print('x')", effect_id="run/1/0")]
    assert (first[0].stdout_delta, first[-1].response.replayed) == ("x\n", False)
    assert [event.WhichOneof("event") for event in again] == ["response"]
    assert (again[0].response.stdout, again[0].response.replayed) == ("x\n", True)


@pytest.mark.parametrize(("tool", "error"), [("pyton", NotFoundError), ("math", InvalidArgumentError)])
async def test_a_wrong_request_is_an_error(client: Client, tool: str, error: Any) -> None:
    with pytest.raises(error):
        async for _ in client("", tool=tool, memory_mb=99_999):
            pass


@pytest.mark.parametrize("effect_id", ["", "run/1/0"])
async def test_leaving_kills_the_tool_within_100_ms(
    client: Client, workspaces: DirectoryWorkspaces, effect_id: str
) -> None:
    beat = workspaces.directory("", "s") / "beat"
    code = (
        "import signal, subprocess, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\n"
        "while True:\n    open('beat', 'w').write(str(time.time()))\n    time.sleep(0.002)"
    )
    events = client(code, effect_id=effect_id)
    assert (await anext(events)).stdout_delta == "up\n"
    await _until(lambda: beat.exists() and beat.read_text() != "")
    left = time.time()
    await events.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.3)  # the span in which a tool that lives on would beat
    assert float(beat.read_text() or "0") - left < 0.1


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)


def test_the_fixture_directory_is_the_tests_own(tmp_path: Path, workspaces: DirectoryWorkspaces) -> None:
    assert workspaces.directory("", "s").is_relative_to(tmp_path)
