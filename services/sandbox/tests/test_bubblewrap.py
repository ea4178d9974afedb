"""bubblewrap as backend: when it cannot be had, and what only its own way of starting a tool could break.

What it has in common with the native jail is tested with that, in test_runners.py and test_isolation.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.lifecycle import StartError
from pagi_chassis.testing import serving
from pagi_sandbox.adapters.entry_point_tools import find_tools
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.domain.tools import BuiltInOptions
from pagi_sandbox.servicer import SERVICE, ToolServicer
from pagi_sandbox.settings import SandboxSettings
from pydantic import ValidationError

from .conftest import why_no_bubblewrap
from .local_web import local_web, page
from .test_packages import SHOUT, install

LIMITS = Limits(timeout_ms=10_000, memory_mb=512, output_bytes=100_000, cpu_ms=5_000, disk_mb=32, processes=32)
OPTIONS = ForkServerOptions(backend="bubblewrap")
needs_bubblewrap = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap())


class TestWhereItCannotWork:
    """Nothing is run with another backend than the one that was asked for."""

    async def why(self, options: ForkServerOptions) -> str:
        runner = ForkRunner(options)
        with pytest.raises(StartError) as refused:
            await runner.start()
        return str(refused.value)

    def stub(self, folder: Path, script: str) -> ForkServerOptions:
        folder.chmod(0o755)
        (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bwrap").chmod(0o755)
        return replace(OPTIONS, programs=str(folder))

    @pytest.fixture
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """That sessions' users may enter, too."""
        folder = tmp_path_factory.mktemp("programs")
        # Where tests run in parallel, there is one more of pytest's between.
        for above in folder.parents:
            if above.name.startswith(("pytest-", "popen-")):
                above.chmod(0o711)
        return folder

    async def test_it_is_not_installed(self, folder: Path) -> None:
        told = await self.why(replace(OPTIONS, programs=str(folder)))
        assert f"needs the program bwrap, which is not on {folder}; install the package bubblewrap" in told

    async def test_the_system_grants_no_user_namespaces(self, folder: Path) -> None:
        told = await self.why(self.stub(folder, "echo bwrap: No permissions to create new namespace >&2; exit 1"))
        assert "bwrap: No permissions to create new namespace; it needs user namespaces in which a mount works" in told

    async def test_it_is_too_old(self, folder: Path) -> None:
        told = await self.why(self.stub(folder, "echo bwrap: Unknown option --size >&2; exit 1"))
        assert "Unknown option --size" in told

    async def test_what_does_not_start_the_program_inside_is_seen_through(self, folder: Path) -> None:
        assert "no tool can be run in it" in await self.why(self.stub(folder, "exit 0"))

    @needs_bubblewrap
    async def test_what_leaves_a_layer_out_is_seen_through(self, folder: Path) -> None:
        # bwrap itself, but without the filter. Its arguments come over descriptor 7, with a NUL behind each.
        script = (
            'case "$1" in --args) shift 3;; *) exec bwrap "$@";; esac\n'
            "tr '\\0' '\\n' <&7 | grep -vx -e --seccomp -e 8 | tr '\\n' '\\0' | bwrap --args 0 -- \"$@\""
        )
        told = await self.why(self.stub(folder, f"PATH=/usr/local/bin:/usr/bin:/bin\n{script}"))
        assert "no tool can be run in it: not held: " in told

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused for being root")
    async def test_it_never_runs_as_root(self) -> None:
        told = await self.why(replace(OPTIONS, users=None))
        assert "never runs as root, and SANDBOX_UIDS is empty" in told

    def test_a_profile_that_it_is_above_is_a_contradiction(self) -> None:
        with pytest.raises(ValidationError, match="SANDBOX_PROFILE=L1 goes with SANDBOX_BACKEND=native only"):
            SandboxSettings(sandbox_backend="bubblewrap", sandbox_profile="L1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ForkRunner]:
    site = tmp_path_factory.mktemp("packages") / "site"
    install(site, "shout-tool", SHOUT)
    path = (str(site),)
    runner = ForkRunner(
        replace(OPTIONS, references=find_tools(path), path=path, built_in=BuiltInOptions(shell=True), spares=1)
    )
    await runner.start()
    yield runner
    await runner.stop()


@needs_bubblewrap
class TestInIt:
    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Path:
        (tmp_path / "workspace").mkdir()
        return tmp_path / "workspace"

    async def run(self, runner: ForkRunner, tool: str, workspace: Path, **arguments: Any) -> ToolOutcome:
        return await runner.run(ToolCall(tool, arguments, LIMITS, workspace, "s-1"))

    async def test_every_kind_of_tool_is_run(self, runner: ForkRunner, workspace: Path) -> None:
        shouted = await self.run(runner, "shout", workspace, text="hey")
        assert json.loads(shouted.output_json) == {"text": "HEY", "session": "s-1"}, shouted
        shell = await self.run(runner, "shell", workspace, command="env | sort; cat /proc/1/cmdline; id -G; exit 3")
        assert (shell.verdict, json.loads(shell.output_json)) == (Verdict.OK, {"exit_code": 3})
        assert str(workspace) not in shell.stdout
        names = {line.partition("=")[0] for line in shell.stdout.splitlines() if line[:1].isupper()}
        assert names <= {"HOME", "LANG", "PATH", "TMPDIR", "PWD", "OLDPWD", "SHLVL"}
        assert (await self.run(runner, "write_file", workspace, path="a", content="text")).verdict is Verdict.OK
        assert json.loads((await self.run(runner, "read_file", workspace, path="a")).output_json)["content"] == "text"
        assert json.loads((await self.run(runner, "math", workspace, expression="6 * 7")).output_json)["result"] == 42

    async def test_a_tool_that_only_reads_finds_its_workspace_read_only(
        self, runner: ForkRunner, workspace: Path, tmp_path: Path
    ) -> None:
        source = SHOUT.replace('arguments["text"].upper()', "open('planted', 'w').write('x')")
        install(tmp_path / "more", "plant-tool", source.replace('"shout"', '"plant"'))
        path = (str(tmp_path / "more"),)
        other = ForkRunner(replace(OPTIONS, references=find_tools(path), path=path, spares=0))
        await other.start()
        try:
            outcome = await self.run(other, "plant", workspace, text="x")
        finally:
            await other.stop()
        assert (outcome.verdict, list(workspace.iterdir())) == (Verdict.FAILED, [])

    async def test_a_tool_with_network_reaches_it_and_no_other_does(self, runner: ForkRunner, workspace: Path) -> None:
        async with local_web() as web:
            web.answers["/"] = page("there", "text/plain")
            call = ToolCall("fetch_url", {"url": web.url("/")}, LIMITS, workspace, "s")
            fetched = await runner.run(replace(call, configuration={"allow": [f"127.0.0.1:{web.port}"]}))
            assert json.loads(fetched.output_json)["text"] == "there", fetched
            code = f"import socket\nsocket.create_connection(('127.0.0.1', {web.port}), 1)"
            assert (await self.run(runner, "python", workspace, code=code)).verdict is Verdict.FAILED

    async def test_nothing_but_workspace_and_tmp_can_be_written(self, runner: ForkRunner, workspace: Path) -> None:
        code = """
import os
def writable(path):
    try:
        with open(path, "w") as file: file.write("x")
    except OSError:
        return False
    return True
tmp = os.environ["TMPDIR"]
outside = ("/x", "/dev/x", "/etc/x", "/proc/sys/kernel/hostname", "/proc/1/oom_score_adj")
print([path for path in outside if writable(path)])
print(writable("a"), writable(f"{tmp}/a"), writable("/dev/shm/b"), os.path.realpath("/dev/shm") == tmp)
"""
        outcome = await self.run(runner, "python", workspace, code=code)
        assert outcome.stdout.splitlines() == ["[]", "True True True True"], outcome

    async def test_process_1_is_out_of_reach(self, runner: ForkRunner, workspace: Path) -> None:
        code = """
import os, signal
got = []
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/fd", "/proc/1/cwd/."):
    try:
        os.listdir(path) if path.endswith("fd") else open(path, "rb").read(1)
        got.append(path)
    except OSError:
        pass
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGSEGV):
    try:
        os.kill(1, number)
    except OSError:
        pass
got
"""
        outcome = await self.run(runner, "python", workspace, code=code)
        assert (outcome.verdict, json.loads(outcome.output_json)) == (Verdict.OK, {"value": "[]"}), outcome

    async def test_its_end_is_told_as_it_was(self, runner: ForkRunner, workspace: Path) -> None:
        ends = {"os._exit(159)": "status 159", "os._exit(137)": "status 137", "os.kill(os.getpid(), 9)": "SIGKILL"}
        for code, told in ends.items():
            outcome = await self.run(runner, "python", workspace, code=f"import os\n{code}")
            assert outcome.verdict is Verdict.CRASH
            assert told in outcome.error


@needs_bubblewrap
async def test_results_isolation_and_its_layers_name_the_backend(sandbox: Sandbox, files: SessionFiles) -> None:
    runner = ForkRunner(replace(OPTIONS, spares=0))
    await runner.start()
    sandbox.runners, sandbox.isolates = [runner], runner
    sandbox.registry.update(runner, sandbox.schemas)
    request = pb.ExecuteToolRequest(tool="list_files", arguments_json="{}", session_id="s-1")
    try:
        async with serving(
            sandbox_pb2_grpc.add_ToolServiceServicer_to_server, ToolServicer(sandbox, files), SERVICE
        ) as client:
            stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)
            told = await client.call(stub.GetIsolation, pb.GetIsolationRequest(), timeout_s=5.0)
            # With the native jail's tools out of the way.
            sandbox.registry = type(sandbox.registry)()
            sandbox.register()
            ran = await client.call(stub.ExecuteTool, request, timeout_s=10.0)
    finally:
        await runner.stop()
    assert (told.backend, ran.backend, ran.profile) == ("bubblewrap", "bubblewrap", told.profile)
    assert list(ran.layers) == [layer.name for layer in told.layers if layer.active]
    assert {"namespaces", "seccomp", "process", "no_new_privs"} <= set(ran.layers)
