"""Tools of real MCP servers: over stdio in a jail, over HTTP, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.mcp_connection import Patience
from pagi_sandbox.adapters.mcp_process import PipedProcess
from pagi_sandbox.adapters.mcp_runner import McpRunner
from pagi_sandbox.domain.mcp import McpServer, ServerJail, ServerPlace
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.zygote import landlock
from pagi_sandbox.zygote.server_jail import profile_of

HERE = Path(__file__).parent
USERS = (2_100_000_000, 2_139_999_999)
QUICK = Patience(start=30.0, first_pause=0.05, longest_pause=0.2, absent=25.0, hung=0.02)


def program(name: str = "test", **options: Any) -> McpServer:
    return McpServer(name, sys.executable, (str(HERE / "mcp_program.py"), "stdio"), **options)


def by_hand(mode: str, name: str = "hand") -> McpServer:
    return McpServer(name, sys.executable, (str(HERE / "mcp_by_hand.py"), mode))


async def refuse(call: ToolCall) -> ToolOutcome:
    """A workspace without room for files."""
    return ToolOutcome(Verdict.DISK, error="the workspace is full")


class Servers:
    """Runs servers, and calls their tools."""

    def __init__(self, runner: McpRunner, workspace: Path) -> None:
        self.runner, self._workspace = runner, workspace

    async def call(self, tool: str, *, timeout_ms: int = 20_000, **arguments: Any) -> ToolOutcome:
        return await self.runner.run(
            ToolCall(tool, arguments, Limits(timeout_ms, 512, 100_000, 10_000, 10, 10), self._workspace, "s")
        )

    async def text(self, tool: str, **arguments: Any) -> str:
        outcome = await self.call(tool, **arguments)
        assert (outcome.verdict, outcome.error) == (Verdict.OK, "")
        return str(json.loads(outcome.output_json)["text"])

    def names(self) -> set[str]:
        return {spec.name for spec in self.runner.tools()}


@asynccontextmanager
async def running(
    tmp_path: Path,
    *servers: McpServer,
    patience: Patience = QUICK,
    write: Any = None,
    place: ServerPlace | None = None,
) -> AsyncIterator[Servers]:
    place = place or ServerPlace(tmp_path / "homes", USERS)
    runner = McpRunner(servers, place, write=write or refuse, patience=patience)
    await runner.start()
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    try:
        yield Servers(runner, workspace)
    finally:
        await runner.stop()


async def until(fact: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not fact():
            await asyncio.sleep(0.02)


def asleep(seconds: str) -> int:
    """How many processes of the machine sleep for so long; a server's own numbers say nothing out here."""
    found = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            found += (
                process.name.isdigit() and (process / "cmdline").read_bytes() == f"/bin/sleep\0{seconds}\0".encode()
            )
    return found


class TestTools:
    async def test_they_say_what_the_server_says(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            specs = {spec.name: spec for spec in servers.runner.tools()}
        assert specs["test.add"].effects is Effects.READ_ONLY
        assert specs["test.read_file"].effects is Effects.IDEMPOTENT
        assert specs["test.crash"].effects is Effects.EFFECTFUL
        assert [name for name, spec in specs.items() if spec.requires_approval] == ["test.write_file"]
        add = specs["test.add"]
        assert (add.description, add.version, add.permissions) == ("Add two numbers.", "3.1", ("service", "network"))
        assert add.parameters["required"] == ["a", "b"]

    async def test_the_operator_names_those_that_need_approval(self, tmp_path: Path) -> None:
        async with running(
            tmp_path, replace(by_hand("good"), approval=("Goo?",)), program(approval=["Read-*"])
        ) as servers:
            specs = servers.runner.tools()
        asked = {spec.name for spec in specs if spec.requires_approval}
        # The name as the server has it, or as it is shown; and the one that calls itself destructive.
        assert asked == {"test.read_file", "test.write_file"}

    async def test_answers_errors_and_pictures(self, tmp_path: Path, fork_runner: ForkRunner) -> None:
        async with running(tmp_path, program(), write=fork_runner.run) as servers:
            added = await servers.call("test.add", a=1, b=2)
            assert (added.verdict, json.loads(added.output_json)) == (Verdict.OK, {"structured": {"result": 3}})
            failed = await servers.call("test.fail")
            assert (failed.verdict, "this cannot be done" in failed.error) == (Verdict.FAILED, True)
            wrong = await servers.call("test.add", a="one", b=2)
            assert wrong.verdict is Verdict.FAILED
            picture = await servers.call("test.picture")
        answer = json.loads(picture.output_json)
        [entry] = answer["files"]
        assert (answer["text"], entry["media_type"], entry["size_bytes"]) == ("a picture", "image/png", 18)
        assert [artifact.path for artifact in picture.artifacts] == [entry["path"]]
        assert (tmp_path / "workspace" / entry["path"]).read_bytes() == b"\x89PNG\r\n\x1a\nnot really"

    async def test_a_picture_that_cannot_be_kept_is_described(self, tmp_path: Path) -> None:
        async with running(tmp_path, program(), write=refuse) as servers:
            outcome = await servers.call("test.picture")
        assert json.loads(outcome.output_json)["files"] == [{"media_type": "image/png", "size_bytes": 18}]
        assert outcome.artifacts == ()

    async def test_a_larger_answer_than_fits_is_refused(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            assert len(await servers.text("test.long_line", size=1_000_000)) == 1_000_000
            assert (await servers.call("test.long_line", size=5_000_000)).verdict is Verdict.OUTPUT

    async def test_new_tools_are_listed_when_the_server_says_so(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            assert "test.grown" not in servers.names()
            await servers.text("test.grow")
            await until(lambda: "test.grown" in servers.names())
            assert (await servers.call("test.grown", a=2, b=3)).verdict is Verdict.OK

    async def test_an_older_server_too(self, tmp_path: Path) -> None:
        async with running(tmp_path, by_hand("good")) as servers:
            heard = []
            servers.runner.on_change = lambda: heard.append(1)
            assert await servers.text("hand.good") == "listed 1 times"
            await until(lambda: bool(heard))
            assert await servers.text("hand.good") != "listed 1 times"


class TestJail:
    async def test_the_environment_is_what_it_is_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PAGI_API_KEY", "s3cret")
        async with running(tmp_path, program(env={"TOKEN": "its own"})) as servers:
            told = dict(line.split("=", 1) for line in (await servers.text("test.environment")).splitlines())
        assert {"TOKEN": "its own", "HOME": str(tmp_path / "homes" / "test")}.items() <= told.items()
        assert set(told) <= {"TOKEN", "HOME", "PATH", "TMPDIR", "LANG", "LC_CTYPE"}

    @pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock, without which files are open")
    async def test_files_are_closed_but_for_those_that_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s3cret")
        (tmp_path / "shown").mkdir()
        (tmp_path / "shown" / "file").write_text("open")
        jail = ServerJail(read=(str(tmp_path / "shown"),))
        async with running(tmp_path, program(jail=jail)) as servers:
            assert await servers.text("test.read_file", path=str(tmp_path / "shown" / "file")) == "open"
            for closed in (tmp_path / "secret", Path("/etc/passwd"), Path("/proc/1/environ")):
                outcome = await servers.call("test.read_file", path=str(closed))
                assert outcome.verdict is Verdict.FAILED
            assert (
                await servers.call("test.write_file", path=str(tmp_path / "shown" / "new"))
            ).verdict is Verdict.FAILED
            assert await servers.text("test.write_file", path=str(tmp_path / "homes" / "test" / "mine")) == "done"
        assert not (tmp_path / "shown" / "new").exists()

    async def test_the_network_is_open_unless_it_is_closed(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            closed = replace(program("closed"), jail=ServerJail(network=False))
            async with running(tmp_path, program(), closed) as servers:
                assert await servers.text("test.connect", port=port) == "connected"
                assert (await servers.call("closed.connect", port=port)).verdict is Verdict.FAILED
                assert "network" not in next(s for s in servers.runner.tools() if s.name == "closed.add").permissions

    async def test_each_server_is_somebody_else_and_alone(self, tmp_path: Path) -> None:
        async with running(tmp_path, program(), replace(program("shut"), jail=ServerJail(network=False))) as servers:
            seen = {
                name: json.loads((await servers.call(f"{name}.who")).output_json)["structured"]
                for name in ("test", "shut")
            }
            told = {one.server: one for one in servers.runner.isolation()}
        for name, who in seen.items():
            active = {layer.name for layer in told[name].layers if layer.active}
            assert told[name].running
            assert {"process", "no_new_privs"} <= active
            assert (int(who["capabilities"], 16), who["no_new_privs"], who["files"]) == (0, "1", 1024)
            assert ("seccomp" in active) == (who["filter"] == "2")
            own = {kind for kind, link in who["namespaces"].items() if link != os.readlink(f"/proc/self/ns/{kind}")}
            if "namespaces" in active:
                # Process 1, which reaps, the server, and what that has started: nothing.
                assert len(who["processes"]) == 2
                assert own == ({"pid", "mnt", "ipc", "net"} if name == "shut" else {"pid", "mnt", "ipc"})
            if "user per server" in active:
                assert USERS[0] <= who["uid"] <= USERS[1]
                assert (who["groups"], who["tasks"]) == ([], 256)
        if os.geteuid() == 0:
            assert "user per server" in active
            assert seen["test"]["uid"] != seen["shut"]["uid"]
            assert (tmp_path / "homes" / "test").stat().st_uid == seen["test"]["uid"]

    async def test_results_say_what_it_ran_under(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            outcome = await servers.call("test.add", a=1, b=1)
            [told] = servers.runner.isolation()
        assert outcome.layers == tuple(layer.name for layer in told.layers if layer.active)
        assert (outcome.backend, outcome.profile) == ("native", profile_of(set(outcome.layers)))
        assert not servers.runner.isolation()[0].running

    async def test_below_the_profile_that_is_asked_for_it_is_not_started(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # No number for it and nowhere to count: at most L2.
        place = ServerPlace(tmp_path / "homes", None, str(tmp_path), "L3")
        async with running(tmp_path, by_hand("good"), place=place) as servers:
            await until(lambda: "SANDBOX_MINIMUM_PROFILE asks for L3" in caplog.text)
            assert servers.names() == set()
        assert "missing: " in caplog.text
        assert "cgroups (" in caplog.text

    async def test_modes_of_its_own_files_are_its_own(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            [told] = servers.runner.isolation()
            if not {"namespaces", "user per server"} & {layer.name for layer in told.layers if layer.active}:
                pytest.skip(
                    "neither namespaces nor a user of its own: modes are everybody's here, and cannot be changed"
                )
            assert await servers.text("test.change_mode", mode=0o700) == oct(0o100700)

    async def test_a_full_directory_ends_it_and_keeps_it_away(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.mcp_disk._EVERY_S", 0.05)
        async with running(tmp_path, replace(program(), jail=ServerJail(disk_mb=8)), program("other")) as servers:
            await servers.call("test.fill", mebibytes=20)
            await until(lambda: "holds more than 8 MiB" in caplog.text)
            assert (await servers.call("other.add", a=1, b=1)).verdict is Verdict.OK
            away = await servers.call("test.add", a=1, b=1, timeout_ms=1000)
            assert away.verdict in {Verdict.FAILED, Verdict.TIMEOUT}

    async def test_memory_is_a_total_where_it_is_counted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(tmp_path, replace(program(), jail=ServerJail(memory_mb=192))) as servers:
            [told] = servers.runner.isolation()
            if "cgroups" not in {layer.name for layer in told.layers if layer.active}:
                pytest.skip("no control group is granted here, which alone counts all processes of a server together")
            outcome = await servers.call("test.hold", mebibytes=400)
            assert outcome.verdict is Verdict.OUTCOME_UNKNOWN or int(json.loads(outcome.output_json)["text"]) < 25
            assert asleep("60") == 0

    async def test_everything_that_it_started_ends_with_it(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            await servers.text("test.daemons", seconds="600.25")
            await until(lambda: asleep("600.25") == 3)
        assert asleep("600.25") == 0

    async def test_also_when_it_crashes(self, tmp_path: Path) -> None:
        async with running(tmp_path, program()) as servers:
            await servers.text("test.daemons", seconds="600.5")
            await until(lambda: asleep("600.5") == 3)
            await servers.call("test.crash")
            await until(lambda: asleep("600.5") == 0)


class TestJailWithoutNamespaces:
    """As an ordinary user, or root, in a container with Docker's default profile has it."""

    @pytest.fixture(autouse=True)
    def _forbid_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code = (
            "import pagi_sandbox.zygote.namespaces as namespaces\n"
            "def clone(**_): raise PermissionError(1, 'Operation not permitted')\n"
            "namespaces.clone = clone\nfrom pagi_sandbox.zygote.launch import main\nmain()"
        )

        def process(arguments: list[str], *rest: Any) -> PipedProcess:
            assert arguments[:3] == ["-I", "-m", "pagi_sandbox.zygote.launch"]
            return PipedProcess(["-I", "-c", code, *arguments[3:]], *rest)

        monkeypatch.setattr("pagi_sandbox.adapters.mcp_stdio.PipedProcess", process)

    async def test_the_other_layers_hold_and_what_is_missing_is_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "secret").write_text("s3cret")
        async with running(tmp_path, program()) as servers:
            [told] = servers.runner.isolation()
            await servers.text("test.daemons", seconds="600.125")
            await until(lambda: asleep("600.125") == 3)
            read = await servers.call("test.read_file", path=str(tmp_path / "secret"))
            who = json.loads((await servers.call("test.who")).output_json)["structured"]
            assert await servers.text("test.write_file", path=str(tmp_path / "homes" / "test" / "mine")) == "done"
        assert asleep("600.125") == 0
        layers = {layer.name: layer for layer in told.layers}
        assert (layers["namespaces"].active, int(who["capabilities"], 16)) == (False, 0)
        assert "runs without" in caplog.text
        assert "namespaces ([Errno 1] Operation not permitted; they need root" in caplog.text
        if layers["landlock"].active:
            assert read.verdict is Verdict.FAILED
        if landlock.abi() >= landlock.SCOPED:
            assert layers["scoped kill"].active
            assert read.profile == "L1"
        if not layers["user per server"].active:
            # An interpreter that no other user can reach, or nobody but root could give it one.
            assert who["uid"] == os.geteuid()
            assert layers["user per server"].detail


class TestMisbehaviour:
    async def test_a_hang_costs_its_call_only(self, tmp_path: Path) -> None:
        async with running(tmp_path, program(), program("other")) as servers:
            hanging = asyncio.create_task(servers.call("test.hang", timeout_ms=2000))
            assert (await servers.call("test.add", a=1, b=1)).verdict is Verdict.OK
            assert (await servers.call("other.add", a=1, b=1)).verdict is Verdict.OK
            outcome = await hanging
            assert (outcome.verdict, "2000 ms" in outcome.error) == (Verdict.TIMEOUT, True)

    async def test_a_server_that_lets_three_calls_pass_is_started_anew(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(tmp_path, program()) as servers:
            for _ in range(3):
                assert (await servers.call("test.hang", timeout_ms=50)).verdict is Verdict.TIMEOUT
            await until(lambda: "did not answer 3 calls" in caplog.text)
            assert (await servers.call("test.add", a=1, b=1)).verdict is Verdict.OK

    async def test_callers_without_patience_do_not_end_the_calls_of_others(self, tmp_path: Path) -> None:
        async with running(tmp_path, program(), patience=replace(QUICK, hung=1.0)) as servers:
            other = asyncio.create_task(servers.call("test.hang", timeout_ms=1000))
            await asyncio.sleep(0)
            for _ in range(6):
                assert (await servers.call("test.hang", timeout_ms=1)).verdict is Verdict.TIMEOUT
            assert (await other).verdict is Verdict.TIMEOUT

    async def test_a_crash_leaves_the_outcome_open_and_the_server_comes_back(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(tmp_path, program()) as servers:
            outcome = await servers.call("test.crash")
            assert outcome.verdict is Verdict.OUTCOME_UNKNOWN
            assert "test.add" in servers.names()
            assert (await servers.call("test.add", a=1, b=1)).verdict is Verdict.OK
        assert "the disk is on fire" in caplog.text

    async def test_an_end_between_calls_is_noticed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async with running(tmp_path, program()) as servers:
            await servers.text("test.leave")
            await until(lambda: "it ended with status 5" in caplog.text)
            assert (await servers.call("test.add", a=1, b=1)).verdict is Verdict.OK

    async def test_while_it_is_away_its_tools_say_so(self, tmp_path: Path) -> None:
        patience = Patience(start=30.0, first_pause=60.0, longest_pause=60.0, absent=25.0)
        async with running(tmp_path, program(), patience=patience) as servers:
            await servers.call("test.crash")
            outcome = await servers.call("test.add", a=1, b=1, timeout_ms=300)
            assert outcome.verdict in {Verdict.FAILED, Verdict.TIMEOUT}
            assert "test.add" in servers.names()

    async def test_chatter_keeps_nobody_from_their_calls(self, tmp_path: Path) -> None:
        async with running(tmp_path, program(), program("other")) as servers:
            await servers.text("test.chatter", seconds=3)
            began, worst = time.monotonic(), 0.0
            while time.monotonic() - began < 1.5:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                worst = max(worst, time.monotonic() - before)
                assert (await servers.call("other.add", a=1, b=1)).verdict is Verdict.OK
        assert worst < 1.0

    async def test_large_messages_without_pause_keep_nobody_either(self, tmp_path: Path) -> None:
        async with running(tmp_path, by_hand("large_messages")):
            began, late = time.thread_time(), 0.0
            for _ in range(150):
                await asyncio.sleep(0.01)
            late = time.thread_time() - began
        # Without pauses it takes all of the time.
        assert late < 0.75

    async def test_half_a_character_costs_that_character_only(self, tmp_path: Path) -> None:
        async with running(tmp_path, by_hand("half_a_character")) as servers:
            assert await servers.text("hand.good") == "cut here: ?"

    async def test_an_answer_that_is_not_finite_is_no_json(self, tmp_path: Path) -> None:
        async with running(tmp_path, by_hand("not_finite")) as servers:
            outcome = await servers.call("hand.good")
            assert (outcome.verdict, "NaN" in outcome.error) == (Verdict.FAILED, True)

    async def test_what_takes_too_much_to_list_is_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(tmp_path, by_hand("large_schemas"), by_hand("many", "many")) as servers:
            assert servers.names() == {"hand.t0", "hand.t1"}
        assert "would take more than 1048576 bytes to list" in caplog.text
        assert "'many' has more than 500 tools" in caplog.text
        assert caplog.text.count("of MCP server 'many' is left out") <= 500

    @pytest.mark.parametrize(
        ("mode", "reason"),
        [
            ("dead", "no licence"),
            ("flood", "more than 8388608 bytes"),
            ("bad_list", "ValidationError"),
        ],
    )
    async def test_a_server_that_does_not_start_is_named_and_the_others_go_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, reason: str
    ) -> None:
        async with running(tmp_path, by_hand(mode, "bad"), program()) as servers:
            assert (await servers.call("test.add", a=1, b=1)).verdict is Verdict.OK
            await until(lambda: "MCP server 'bad' failed" in caplog.text)
            assert not any(name.startswith("bad.") for name in servers.names())
        assert reason in caplog.text

    async def test_a_silent_server_is_given_up(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        began = time.monotonic()
        async with running(tmp_path, by_hand("silent"), patience=replace(QUICK, start=0.5)):
            assert time.monotonic() - began < 10
        assert "did not start within 0.5 s" in caplog.text

    async def test_a_program_that_is_not_there_is_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async with running(tmp_path, McpServer("gone", "no-such-program")) as servers:
            assert servers.names() == set()
        assert "there is no program 'no-such-program'" in caplog.text

    @pytest.mark.parametrize(
        ("mode", "complaint"),
        [
            ("bad_schema", "tool 'hand.bad' from MCP server 'hand' is left out"),
            ("twice", "another of its tools is named 'hand.good' too"),
            ("long_name", "more than 64 characters"),
            ("endless_pages", ""),
            ("no_number", "tool 'bad' of MCP server 'hand' is left out"),
        ],
    )
    async def test_what_cannot_be_shown_is_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, complaint: str
    ) -> None:
        registry = ToolRegistry()
        async with running(tmp_path, by_hand(mode)) as servers:
            registry.update(servers.runner, JsonSchemaArguments())
            registry.update(servers.runner, JsonSchemaArguments())
        assert [spec.name for spec in registry.specs()] == ["hand.good"]
        assert complaint in caplog.text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestHttp:
    @pytest_asyncio.fixture(loop_scope="module")
    async def url(self) -> AsyncIterator[str]:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "mcp_program.py"), "http", str(port), stderr=asyncio.subprocess.DEVNULL
        )
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
        process.kill()
        await process.wait()

    async def test_tools_answers_and_errors(self, tmp_path: Path, url: str) -> None:
        async with running(tmp_path, McpServer("web", url=url)) as servers:
            assert json.loads((await servers.call("web.add", a=1, b=2)).output_json) == {"structured": {"result": 3}}
            assert (await servers.call("web.fail")).verdict is Verdict.FAILED
            assert (await servers.call("web.hang", timeout_ms=300)).verdict is Verdict.TIMEOUT
            await servers.text("web.grow")
            await until(lambda: "web.grown" in servers.names())

    async def test_an_answer_without_end_is_cut_off(self, tmp_path: Path, url: str) -> None:
        async with running(tmp_path, McpServer("web", url=url)) as servers:
            outcome = await servers.call("web.long_line", size=20_000_000)
            assert outcome.verdict in {Verdict.OUTPUT, Verdict.OUTCOME_UNKNOWN, Verdict.FAILED}
            assert (await servers.call("web.add", a=1, b=2)).verdict is Verdict.OK

    async def test_a_server_that_is_not_there_is_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async with running(
            tmp_path, McpServer("away", url=f"http://127.0.0.1:{free_port()}/mcp"), program()
        ) as servers:
            assert (await servers.call("test.add", a=1, b=2)).verdict is Verdict.OK
        assert "MCP server 'away' failed" in caplog.text
