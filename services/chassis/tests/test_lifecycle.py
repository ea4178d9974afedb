"""A service's life, in a real process."""

from __future__ import annotations

import json
import signal

import pytest

SERVICE = """
    import asyncio, sys
    from pagi_chassis import lifecycle
    from pagi_chassis.errors import UnavailableError
    from pagi_chassis.lifecycle import StartError, run
    from pagi_chassis.settings import ServiceSettings
    from pydantic import Field

    class Settings(ServiceSettings):
        demo_port: int = Field(default=1, ge=1, description="d")

    class Part:
        def __init__(self, name, behaviour=""):
            self.name, self.behaviour = name, behaviour

        async def start(self):
            print(self.name, "starts", flush=True)
            match self.behaviour:
                case "hangs": await asyncio.Event().wait()
                case "port taken": raise StartError("the port is taken by tests")
                case "two faults": raise StartError("models.yaml, line 2: a\\nmodels.yaml, line 3: b")
                case "peer away": raise UnavailableError("redis cannot be reached")
                case "bug": raise KeyError("a bug")
                case "fails when cut short":
                    try: await asyncio.Event().wait()
                    except asyncio.CancelledError: raise ValueError("half done") from None
            print(self.name, "started", flush=True)

        async def stop(self):
            if self.behaviour == "cannot stop": raise OSError("disk full")
            if self.behaviour == "never stops": await asyncio.Event().wait()
            print(self.name, "stopped", flush=True)

    lifecycle.STOP_TIMEOUT_S = 0.2

    async def build(settings):
        if sys.argv[1] == "slow build":
            print("builds", flush=True)
            await asyncio.Event().wait()
        return [Part("first"), Part("second", sys.argv[1]), Part("third")]

    run("demo", Settings, build)
"""


def said(process) -> list[str]:
    """What the parts said, without log lines."""
    return [line for line in process.lines if line.startswith(("first ", "second ", "third "))]


UP = ["first starts", "first started", "second starts", "second started", "third starts", "third started"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_parts_in_reverse(start, number):
    process = start(SERVICE, "")
    process.hear("demo is ready")
    process.popen.send_signal(number)
    assert process.end() == (0, "")
    assert said(process) == [*UP, "third stopped", "second stopped", "first stopped"]


@pytest.mark.parametrize("behaviour", ["hangs", "fails when cut short"])
def test_a_signal_ends_a_slow_start(start, behaviour):
    process = start(SERVICE, behaviour)
    process.hear("second starts")
    process.popen.terminate()
    assert process.end() == (0, "")
    assert said(process)[3:] == ["second stopped", "first stopped"]
    assert ("half done" in "\n".join(process.lines)) == (behaviour == "fails when cut short")


def test_a_signal_ends_a_slow_build(start):
    process = start(SERVICE, "slow build")
    process.hear("builds")
    process.popen.terminate()
    assert process.end() == (0, "")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("port taken", "the port is taken by tests"),
        ("peer away", "redis cannot be reached"),
        ("bug", "KeyError: 'a bug'"),
    ],
)
def test_a_part_that_cannot_start_ends_the_others_with_the_reason(start, behaviour, reason):
    process = start(SERVICE, behaviour)
    assert process.end() == (1, "")
    assert said(process) == ["first starts", "first started", "second starts", "second stopped", "first stopped"]
    [said_why] = [line for line in process.lines if "demo cannot start" in line]
    if behaviour == "bug":
        assert process.lines[-1] == reason, "a fault of ours is shown with its traceback"
    else:
        assert said_why.endswith(f"demo cannot start: {reason}")
        assert "Traceback" not in "\n".join(process.lines)


def test_each_fault_of_a_file_has_a_line_of_its_own(start):
    process = start(SERVICE, "two faults")
    assert process.end() == (1, "")
    told = [line.partition("demo cannot start: ")[2] for line in process.lines if "cannot start" in line]
    assert told == ["models.yaml, line 2: a", "models.yaml, line 3: b"]


@pytest.mark.parametrize("behaviour", ["cannot stop", "never stops"])
def test_a_part_that_does_not_stop_keeps_no_other_from_it(start, behaviour):
    process = start(SERVICE, behaviour)
    process.hear("demo is ready")
    process.popen.terminate()
    assert process.end() == (0, "")
    assert said(process)[-2:] == ["third stopped", "first stopped"]
    assert "Part did not stop cleanly" in "\n".join(process.lines)


def test_a_wrong_configuration_is_named_and_no_restart_helps(start):
    process = start(SERVICE, "", DEMO_PORT="0", LOG_LEVEL="loud")
    status, stderr = process.end()
    assert status == 78
    assert stderr.splitlines()[0] == "demo: the configuration is wrong"
    assert "DEMO_PORT: Input should be greater than or equal to 1 (it is '0')" in stderr
    assert "LOG_LEVEL: " in stderr
    assert "Traceback" not in stderr
    assert process.lines == []


def test_every_line_is_json_where_that_is_asked_for(start):
    process = start(SERVICE, "bug", LOG_FORMAT="json")
    assert process.end() == (1, "")
    records = [json.loads(line) for line in process.lines if line.startswith("{")]
    assert [record["message"] for record in records] == ["demo cannot start"]
    assert records[0]["service"] == "demo"
    assert "KeyError" in records[0]["exception"]


def test_it_runs_on_uvloop(start):
    process = start(
        """
        import asyncio
        from pagi_chassis.lifecycle import run
        from pagi_chassis.settings import ServiceSettings

        class Part:
            async def start(self): print(type(asyncio.get_running_loop()).__module__, flush=True)
            async def stop(self): pass

        async def build(settings): return [Part()]

        run("demo", ServiceSettings, build)
        """
    )
    assert process.hear("loop") == "uvloop"


def test_a_process_that_is_started_while_calls_are_made_disturbs_nobody(start):
    process = start(
        """
        import asyncio
        from pagi_chassis.lifecycle import run
        from pagi_chassis.settings import ServiceSettings
        from pagi_chassis.testing import serving
        from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc

        class Tools(sandbox_pb2_grpc.ToolServiceServicer):
            async def ExecuteTool(self, request, context): return sandbox_pb2.ExecuteToolResponse()

        async def call(client):
            method = sandbox_pb2_grpc.ToolServiceStub(client.channel).ExecuteTool
            while True:
                await client.call(method, sandbox_pb2.ExecuteToolRequest(), timeout_s=5)

        async def build(settings):
            register = sandbox_pb2_grpc.add_ToolServiceServicer_to_server
            async with serving(register, Tools(), "pagi.sandbox.v1.ToolService") as client:
                calls = [asyncio.create_task(call(client)) for _ in range(4)]
                for _ in range(10):
                    await (await asyncio.create_subprocess_exec("/bin/true")).wait()
                for each in calls:
                    each.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            return []

        run("demo", ServiceSettings, build)
        """
    )
    process.hear("demo is ready")
    process.popen.terminate()
    assert process.end() == (0, "")


def test_the_garbage_collector_passes_by_what_a_service_is_made_of(start):
    process = start(
        """
        import gc
        from pagi_chassis.lifecycle import run
        from pagi_chassis.settings import ServiceSettings

        class Part:
            async def start(self): self.made = [[number] for number in range(50_000)]
            async def stop(self): print("looked at:", len(gc.get_objects()), flush=True)

        async def build(settings): return [Part()]

        run("demo", ServiceSettings, build)
        """
    )
    process.hear("demo is ready")
    process.popen.terminate()
    looked_at = process.hear("looked at:")
    assert int(looked_at.rpartition(" ")[2]) < 10_000
    assert process.end() == (0, "")
