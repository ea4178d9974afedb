"""What the operator may choose of the built-in tools: shell, and modules that are preloaded for python."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.tools import BuiltInOptions


async def started(options: BuiltInOptions) -> ForkRunner:
    runner = ForkRunner(ForkServerOptions(built_in=options))
    await runner.start()
    return runner


async def run(runner: ForkRunner, tool: str, workspace: Path, **arguments: Any) -> ToolOutcome:
    return await runner.run(ToolCall(tool, arguments, Limits(10_000, 1024, 100_000), workspace, "s"))


class TestShell:
    @pytest_asyncio.fixture(loop_scope="module")
    async def runner(self) -> AsyncIterator[ForkRunner]:
        runner = await started(BuiltInOptions(shell=True))
        yield runner
        await runner.stop()

    async def test_is_off_unless_it_is_asked_for(self) -> None:
        runner = await started(BuiltInOptions())
        await runner.stop()
        assert "shell" not in {spec.name for spec in runner.tools()}

    async def test_says_what_it_needs(self, runner: ForkRunner) -> None:
        [spec] = [spec for spec in runner.tools() if spec.name == "shell"]
        assert spec.permissions == ("workspace-read", "workspace-write", "subprocess")
        assert spec.minimum_profile == "L1"

    async def test_runs_a_pipe_in_the_workspace(self, runner: ForkRunner, tmp_path: Path) -> None:
        (tmp_path / "names").write_text("b\na\n")
        outcome = await run(runner, "shell", tmp_path, command="sort names | tr a-z A-Z > sorted; cat sorted; ls >&2")
        assert (outcome.verdict, outcome.error) == (Verdict.OK, "")
        assert json.loads(outcome.output_json) == {"exit_code": 0}
        assert outcome.stdout == "A\nB\n"
        assert outcome.stderr.split() == ["names", "sorted"]

    @pytest.mark.parametrize(
        ("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("no-such-program", 127), ("yes | head -1", 0)]
    )
    async def test_a_command_that_fails_is_a_result(
        self, runner: ForkRunner, tmp_path: Path, command: str, code: int
    ) -> None:
        outcome = await run(runner, "shell", tmp_path, command=command)
        assert outcome.verdict is Verdict.OK
        assert json.loads(outcome.output_json) == {"exit_code": code}

    async def test_its_environment_is_ours_alone(
        self, runner: ForkRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PAGI_API_KEY", "s3cret")
        outcome = await run(runner, "shell", tmp_path, command="env")
        assert "s3cret" not in outcome.stdout
        names = {line.split("=")[0] for line in outcome.stdout.split()}
        assert names <= {"PATH", "HOME", "PWD", "LANG", "SHLVL", "TMPDIR", "_", "OLDPWD"}

    async def test_programs_find_their_temporary_directory(self, runner: ForkRunner, tmp_path: Path) -> None:
        outcome = await run(runner, "shell", tmp_path, command="f=$(mktemp) && echo hello > $f && cat $f")
        assert (outcome.stdout, outcome.stderr) == ("hello\n", "")

    async def test_a_nul_is_refused(self, runner: ForkRunner, tmp_path: Path) -> None:
        outcome = await run(runner, "shell", tmp_path, command="echo a\0b")
        assert (outcome.verdict, outcome.error) == (Verdict.FAILED, "the command holds a NUL character")


class TestPreload:
    async def test_a_module_is_there_before_the_call(self, tmp_path: Path) -> None:
        runner = await started(BuiltInOptions(preload=("fractions",)))
        outcome = await run(runner, "python", tmp_path, code="import sys; 'fractions' in sys.modules")
        await runner.stop()
        assert json.loads(outcome.output_json) == {"value": "True"}
        [spec] = [spec for spec in runner.tools() if spec.name == "python"]
        assert "the standard library and fractions" in spec.description

    async def test_numpy_starts_no_threads_and_computes(self, tmp_path: Path) -> None:
        pytest.importorskip("numpy", reason="numpy is an operator's choice and not installed here")
        runner = await started(BuiltInOptions(preload=("numpy",)))
        code = "import numpy as n\nint((n.ones((200, 200)) @ n.ones((200, 200))).sum())"
        outcome = await run(runner, "python", tmp_path, code=code)
        await runner.stop()
        assert json.loads(outcome.output_json) == {"value": "8000000"}
        assert "numpy" in next(spec.description for spec in runner.tools() if spec.name == "python")

    async def test_a_module_that_does_not_load_is_named_and_the_tools_go_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = await started(BuiltInOptions(preload=("no_such_module",)))
        outcome = await run(runner, "python", tmp_path, code="1 + 1")
        await runner.stop()
        assert outcome.verdict is Verdict.OK
        assert "SANDBOX_PRELOAD=no_such_module" in caplog.text
        assert "No module named 'no_such_module'" in caplog.text
        assert "no_such_module" not in next(spec.description for spec in runner.tools() if spec.name == "python")


async def test_a_tools_configuration_travels_with_its_call_only(tmp_path: Path) -> None:
    runner = await started(BuiltInOptions())
    limits = Limits(10_000, 512, 100_000)
    math = ToolCall("math", {"expression": "1"}, limits, tmp_path, "s", configuration={"key": "s3cret-of-math"})
    assert (await runner.run(math)).verdict is Verdict.OK
    # Written backwards, so that the search does not find itself.
    code = "import gc\nany(bytes(reversed(b'htam-fo-terc3s')).decode() in str(one) for one in gc.get_objects())"
    outcome = await run(runner, "python", tmp_path, code=code)
    await runner.stop()
    assert json.loads(outcome.output_json) == {"value": "False"}
