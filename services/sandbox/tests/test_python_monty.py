"""python in the interpreter of pydantic-monty: what it can, what holds it, and how calls end, without any jail too."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_chassis.lifecycle import StartError
from pagi_sandbox.adapters import fork_runner
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.bootstrap import build
from pagi_sandbox.domain.errors import IsolationError
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.tools import BuiltInOptions
from pagi_sandbox.settings import SandboxSettings

LIMITS = Limits(timeout_ms=15_000, memory_mb=512, output_bytes=100_000, cpu_ms=8000, disk_mb=4, processes=32)
installed = pytest.mark.skipif(
    importlib.util.find_spec("pydantic_monty") is None,
    reason="pydantic-monty is not installed (the extra monty of pagi-sandbox)",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["L0", "auto"])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[ForkRunner]:
    """Without isolation, and in the highest profile that this system grants."""
    runner = ForkRunner(ForkServerOptions(profile=request.param, built_in=BuiltInOptions(monty=True)))
    await runner.start()
    yield runner
    await runner.stop()


async def python(runner: ForkRunner, workspace: Path, code: str, limits: Limits = LIMITS) -> ToolOutcome:
    return await runner.run(ToolCall("python", {"code": code}, limits, workspace, session_id="s-1"))


@installed
class TestMonty:
    async def test_runs_code_and_answers_with_its_value(self, runner: ForkRunner, tmp_path: Path) -> None:
        code = "import json, math, sys\nprint('out')\nprint('err', file=sys.stderr)\n[math.floor(2.5), json.dumps({})]"
        outcome = await python(runner, tmp_path, code)
        assert (outcome.verdict, outcome.stdout, outcome.stderr) == (Verdict.OK, "out\n", "err\n"), outcome
        assert json.loads(outcome.output_json) == {"value": "[2, '{}']"}
        assert json.loads((await python(runner, tmp_path, "x = 1")).output_json) == {"value": None}

    async def test_nothing_of_a_call_is_left_for_the_next(self, runner: ForkRunner, tmp_path: Path) -> None:
        await python(runner, tmp_path, "kept = 1")
        outcome = await python(runner, tmp_path, "kept")
        assert "NameError" in outcome.error

    async def test_reads_and_writes_files_of_the_workspace(self, runner: ForkRunner, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("given")
        (tmp_path / "in.txt").chmod(0o644)
        code = "open('out.txt', 'w').write(open('in.txt').read().upper())\nopen('/workspace/out.txt').read()"
        outcome = await python(runner, tmp_path, code)
        assert json.loads(outcome.output_json or "{}") == {"value": "'GIVEN'"}, outcome
        assert (tmp_path / "out.txt").read_text() == "GIVEN"

    @pytest.mark.parametrize(
        "attempt",
        [
            "open({outside!r}).read()",
            "open('../secret').read()",
            "open('link').read()",
            "open({outside!r}, 'w').write('x')",
            "import os\nos.environ['PATH']",
            "import os\nos.system('true')",
            "import os\nos.fork()",
            "import socket",
            "import subprocess",
            "import ctypes",
            "().__class__.__base__.__subclasses__()",
        ],
    )
    async def test_reaches_nothing_else(self, runner: ForkRunner, tmp_path: Path, attempt: str) -> None:
        workspace = tmp_path / "workspace"
        workspace.mkdir()
        outside = tmp_path / "secret"
        outside.write_text("canary")
        (workspace / "link").symlink_to(outside)
        outcome = await python(runner, workspace, attempt.format(outside=str(outside)))
        assert outcome.verdict is Verdict.FAILED, outcome
        assert outside.read_text() == "canary"
        assert "canary" not in outcome.error + outcome.output_json + outcome.stdout

    async def test_an_exception_is_told_with_its_line(self, runner: ForkRunner, tmp_path: Path) -> None:
        outcome = await python(runner, tmp_path, "def f():\n    return 1 / 0\nf()")
        assert outcome.verdict is Verdict.FAILED
        assert "line 2, in f" in outcome.error
        assert outcome.error.endswith("ZeroDivisionError: division by zero")
        assert "SyntaxError" in (await python(runner, tmp_path, "def f(:")).error

    @pytest.mark.parametrize("code", ["'x' * 10**10", "x = []\nwhile True: x.append('y' * 100_000)", "2 ** 10**10"])
    async def test_memory_is_bounded(self, runner: ForkRunner, tmp_path: Path, code: str) -> None:
        outcome = await python(runner, tmp_path, code, replace(LIMITS, memory_mb=256))
        assert outcome.verdict is Verdict.MEMORY, outcome

    async def test_recursion_is_bounded(self, runner: ForkRunner, tmp_path: Path) -> None:
        outcome = await python(runner, tmp_path, "def f(n): return f(n + 1)\nf(0)")
        assert "RecursionError" in outcome.error
        assert outcome.verdict is Verdict.FAILED
        nested = await python(runner, tmp_path, "(" * 5000 + ")" * 5000)
        assert nested.verdict is Verdict.FAILED, nested

    async def test_processor_time_is_bounded_with_its_worker(self, runner: ForkRunner, tmp_path: Path) -> None:
        outcome = await python(runner, tmp_path, "print('a')\nwhile True: pass", replace(LIMITS, cpu_ms=300))
        assert outcome.verdict is Verdict.TIMEOUT, outcome
        assert "processor time" in outcome.error
        assert outcome.stdout == "a\n"

    async def test_wall_time_output_and_disk_are_bounded(self, runner: ForkRunner, tmp_path: Path) -> None:
        slow = await python(runner, tmp_path, "import time\ntime.sleep(60)", replace(LIMITS, timeout_ms=300))
        assert (slow.verdict, "300 ms" in slow.error) == (Verdict.TIMEOUT, True)
        loud = await python(runner, tmp_path, "while True: print('x' * 1000)")
        assert (loud.verdict, loud.truncated) == (Verdict.OUTPUT, True)
        big = await python(runner, tmp_path, "for n in range(9): open(f'{n}', 'w').write('x' * 2**20)")
        assert big.verdict is Verdict.FAILED
        assert "write limit" in big.error
        assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 4 * 2**20

    async def test_it_and_its_worker_end_with_the_call(self, runner: ForkRunner, tmp_path: Path) -> None:
        for _ in range(3):
            await python(runner, tmp_path, "while True: pass", replace(LIMITS, timeout_ms=200))
        await asyncio.sleep(0)
        assert runner.running == 0
        assert not [one for one in _descendants(runner.pid) if _name(one) == "monty"]

    async def test_the_model_is_told_what_it_lacks(self, runner: ForkRunner) -> None:
        (spec,) = (spec for spec in runner.tools() if spec.name == "python")
        assert spec.minimum_profile == "L0"
        assert "part of the language" in spec.description
        assert "subprocess" not in spec.permissions


async def test_the_whole_interpreter_is_refused_without_isolation(tmp_path: Path) -> None:
    runner = ForkRunner(ForkServerOptions(profile="L0"))
    await runner.start()
    try:
        with pytest.raises(IsolationError):
            await python(runner, tmp_path, "1")
    finally:
        await runner.stop()


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # As find_spec answers for a module that is not to be had.
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    monkeypatch.setattr(fork_runner, "find_spec", lambda name: sys.modules.get(name))
    runner = ForkRunner(ForkServerOptions(built_in=BuiltInOptions(monty=True)))
    with pytest.raises(StartError, match=r"SANDBOX_PYTHON_BACKEND=monty needs .*pip install 'pydantic-monty"):
        await runner.start()


@installed
async def test_the_setting_chooses_it(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "sandbox_python_backend": "monty",
        "sandbox_db_path": tmp_path / "notes.db",
        "sandbox_ledger_path": tmp_path / "ledger.db",
        "sandbox_workspaces_dir": tmp_path / "workspaces",
    }
    (runner, *_) = await build(SandboxSettings(**given))
    assert isinstance(runner, ForkRunner)
    await runner.start()
    try:
        (spec,) = (spec for spec in runner.tools() if spec.name == "python")
        assert "small interpreter" in spec.description
    finally:
        await runner.stop()


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""
