"""One suite for the fake and the real runner, then what only real processes show."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_chassis.errors import UnavailableError
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.domain.model import Limits, Stream, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.ports import CallWatcher, ToolRunner
from pagi_sandbox.domain.tools import BuiltInOptions, built_in
from pagi_sandbox.testing import InProcessRunner

from .conftest import started, why_no_bubblewrap

LIMITS = Limits(timeout_ms=10_000, memory_mb=512, output_bytes=100_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "native", "bubblewrap"])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[ToolRunner]:
    if request.param == "fake":
        yield InProcessRunner(built_in(BuiltInOptions()))
        return
    if request.param == "bubblewrap" and why_no_bubblewrap():
        pytest.skip(why_no_bubblewrap())
    async with started(request.param) as real:
        yield real


class Caller:
    def __init__(self, runner: ToolRunner, workspace: Path) -> None:
        self.runner, self.workspace = runner, workspace

    async def __call__(
        self, tool: str, limits: Limits = LIMITS, watcher: CallWatcher | None = None, **arguments: Any
    ) -> ToolOutcome:
        return await self.runner.run(ToolCall(tool, arguments, limits, self.workspace, "s-1"), watcher)

    async def python(self, code: str, limits: Limits = LIMITS, watcher: CallWatcher | None = None) -> ToolOutcome:
        return await self("python", limits, watcher, code=code)


@pytest.fixture
def call(runner: ToolRunner, tmp_path: Path) -> Caller:
    return Caller(runner, tmp_path)


@pytest.fixture
def real(every_runner: ForkRunner, tmp_path: Path) -> Caller:
    return Caller(every_runner, tmp_path)


def answer(outcome: ToolOutcome) -> dict[str, Any]:
    assert outcome.verdict is Verdict.OK, outcome
    parsed: dict[str, Any] = json.loads(outcome.output_json)
    return parsed


class TestBothRunners:
    async def test_names_its_tools_with_schema_and_effects(self, runner: ToolRunner) -> None:
        specs = {spec.name: spec for spec in runner.tools()}
        assert sorted(specs) == [
            "delete_file",
            "fetch_url",
            "list_files",
            "math",
            "python",
            "read_file",
            "web_search",
            "write_file",
        ]
        assert specs["math"].parameters["properties"]["expression"]["type"] == "string"
        assert specs["write_file"].effects.value == "idempotent"

    async def test_runs_a_tool(self, call: Caller) -> None:
        outcome = await call("math", expression="(100 + 50) * 2")
        assert answer(outcome) == {"result": 300, "expression": "(100 + 50) * 2"}
        assert outcome.error == ""
        assert 0 < outcome.duration_ms < 5000

    async def test_a_tool_that_fails_is_a_result(self, call: Caller) -> None:
        outcome = await call("math", expression="1 / 0")
        assert (outcome.verdict, outcome.error, outcome.output_json) == (Verdict.FAILED, "division by zero", "")

    async def test_captures_what_is_printed_and_the_last_value(self, call: Caller) -> None:
        outcome = await call.python("import sys\nprint('out é')\nprint('err', file=sys.stderr)\n6 * 7")
        assert (answer(outcome), outcome.stdout, outcome.stderr) == ({"value": "42"}, "out é\n", "err\n")

    async def test_an_exception_shows_only_the_users_code(self, call: Caller) -> None:
        outcome = await call.python("print('before')\ndef f():\n    return {}['k']\nf()")
        assert outcome.verdict is Verdict.FAILED
        assert outcome.stdout == "before\n"
        lines = outcome.error.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1] == '  File "<code>", line 4, in <module>'
        assert lines[-1] == "KeyError: 'k'"
        assert "    return {}['k']" in lines
        assert "pagi_sandbox" not in outcome.error

    async def test_a_syntax_error_names_the_line(self, call: Caller) -> None:
        outcome = await call.python("x = 1\ny = = 2")
        assert outcome.verdict is Verdict.FAILED
        assert 'File "<code>", line 2' in outcome.error
        assert "pagi_sandbox" not in outcome.error

    @pytest.mark.parametrize(("code", "verdict"), [("exit(0)", Verdict.OK), ("exit(3)", Verdict.FAILED)])
    async def test_sys_exit_is_an_end_like_any_other(self, call: Caller, code: str, verdict: Verdict) -> None:
        outcome = await call.python(f"import sys\nprint('x')\nsys.{code}")
        assert (outcome.verdict, outcome.stdout) == (verdict, "x\n")

    async def test_a_memory_error_is_the_memory_verdict(self, call: Caller) -> None:
        outcome = await call.python("print('so far', flush=True)\nraise MemoryError")
        assert (outcome.verdict, outcome.stdout) == (Verdict.MEMORY, "so far\n")
        assert "512 MiB" in outcome.error

    async def test_too_much_output_is_cut(self, call: Caller) -> None:
        outcome = await call.python("print('x' * 5000)", Limits(10_000, 512, 1000))
        assert (outcome.verdict, outcome.truncated, len(outcome.stdout)) == (Verdict.OUTPUT, True, 1000)
        assert "1000 bytes" in outcome.error

    async def test_output_up_to_the_limit_is_whole(self, call: Caller) -> None:
        outcome = await call.python("print('x' * 999)", Limits(10_000, 512, 1000))
        assert (outcome.verdict, outcome.truncated, len(outcome.stdout)) == (Verdict.OK, False, 1000)

    async def test_out_of_time_with_what_was_printed(self, call: Caller) -> None:
        # bwrap starts an interpreter first, which takes its time where other tests are busy.
        limit_ms = 900 if is_bubblewrap(call) else 300
        code = "import time\nprint('so far', flush=True)\ntime.sleep(1)"
        outcome = await call.python(code, Limits(limit_ms, 512, 1000))
        assert (outcome.verdict, outcome.stdout, outcome.truncated) == (Verdict.TIMEOUT, "so far\n", False)
        assert limit_ms - 10 < outcome.duration_ms < limit_ms + 600

    async def test_half_a_surrogate_pair_in_an_error_does_no_harm(self, call: Caller) -> None:
        outcome = await call.python("raise ValueError('\\ud800')")
        assert outcome.verdict is Verdict.FAILED
        outcome.error.encode("utf-8")

    async def test_a_watcher_hears_what_is_printed_while_the_tool_runs(self, call: Caller) -> None:
        watcher = Listener()
        # The fake has the directory of this process, the real one the workspace.
        go = "go" if isinstance(call.runner, ForkRunner) else str(call.workspace / "go")
        task = asyncio.create_task(
            call.python(
                "import os, sys, time\nprint('one', flush=True)\nprint('é', file=sys.stderr, flush=True)\n"
                f"while not os.path.exists({go!r}): time.sleep(0.005)\nprint('two')",
                watcher=watcher,
            )
        )
        await eventually(lambda: watcher.heard == {Stream.STDOUT: b"one\n", Stream.STDERR: "é\n".encode()}, "it hears")
        (call.workspace / "go").touch()
        outcome = await task
        assert watcher.heard[Stream.STDOUT] == outcome.stdout.encode() == b"one\ntwo\n"

    async def test_a_watcher_hears_no_more_than_the_limit(self, call: Caller) -> None:
        watcher = Listener()
        outcome = await call.python("print('x' * 5000)", Limits(10_000, 512, 1000), watcher=watcher)
        assert (outcome.verdict, watcher.heard) == (Verdict.OUTPUT, {Stream.STDOUT: b"x" * 1000})

    async def test_a_watcher_can_end_the_call(self, call: Caller) -> None:
        watcher = Listener()
        task = asyncio.create_task(
            call.python("import time\nprint('so far', flush=True)\ntime.sleep(1)", watcher=watcher)
        )
        await eventually(lambda: bool(watcher.heard), "it runs")
        watcher.stop(Verdict.DISK, "too full")
        outcome = await task
        assert (outcome.verdict, outcome.error, outcome.stdout) == (Verdict.DISK, "too full", "so far\n")


class Listener:
    """A CallWatcher that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: dict[Stream, bytes] = {}
        self.stop: Callable[[Verdict, str], None]

    def began(self, stop: Callable[[Verdict, str], None]) -> None:
        self.stop = stop

    def printed(self, stream: Stream, data: bytes) -> None:
        self.heard[stream] = self.heard.get(stream, b"") + data


class TestRealProcesses:
    async def test_waits_for_the_threads_of_the_code(self, real: Caller) -> None:
        code = "import threading\nt = threading.Timer(0.05, lambda: print('late'))\nt.start()"
        assert (await real.python(code)).stdout == "late\n"

    async def test_a_crash_keeps_what_was_printed(self, real: Caller) -> None:
        outcome = await real.python("import os\nprint('so far', flush=True)\nos.kill(os.getpid(), 11)")
        assert (outcome.verdict, outcome.stdout) == (Verdict.CRASH, "so far\n")
        assert "SIGSEGV" in outcome.error

    @pytest.mark.parametrize("status", [0, 3])
    async def test_an_end_without_an_answer_is_a_crash(self, real: Caller, status: int) -> None:
        outcome = await real.python(f"import os\nos._exit({status})")
        assert outcome.verdict is Verdict.CRASH
        assert f"status {status}" in outcome.error

    async def test_a_forged_answer_is_checked(self, real: Caller) -> None:
        code = """
import os
for descriptor in range(3, 20):
    try:
        os.write(descriptor, b'O{no json')
    except OSError:
        pass
os._exit(0)
"""
        assert (await real.python(code)).verdict is Verdict.CRASH

    async def test_a_memory_hog_is_stopped(self, real: Caller) -> None:
        began = time.monotonic()
        outcome = await real.python("held = []\nwhile True:\n    held.append(bytearray(10**7))")
        assert outcome.verdict is Verdict.MEMORY
        assert time.monotonic() - began < 5

    async def test_memory_is_limited_as_asked(self, real: Caller) -> None:
        code = "held = bytearray(150 * 2**20)"
        assert (await real.python(code, Limits(10_000, 128, 1000))).verdict is Verdict.MEMORY
        assert (await real.python(code, Limits(10_000, 256, 1000))).verdict is Verdict.OK

    async def test_a_hog_of_small_objects_ends_with_a_verdict(self, real: Caller) -> None:
        outcome = await real.python("held = []\nwhile True:\n    held.append([0] * 10)", Limits(20_000, 96, 1000))
        assert outcome.verdict is Verdict.MEMORY

    async def test_endless_output_is_stopped_at_once(self, real: Caller) -> None:
        began = time.monotonic()
        outcome = await real.python("import os\nwhile True:\n    os.write(2, b'y' * 65536)")
        assert (outcome.verdict, len(outcome.stderr), outcome.truncated) == (Verdict.OUTPUT, 100_000, True)
        assert time.monotonic() - began < 3

    async def test_a_flood_in_place_of_an_answer_is_stopped(self, real: Caller) -> None:
        code = """
import os, stat
[channel] = [fd for fd in range(3, 20) if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.stat(fd).st_mode)]
while True:
    os.write(channel, b'O' * 65536)
"""
        outcome = await real.python(code)
        assert outcome.verdict is Verdict.OUTPUT
        assert "answer" in outcome.error

    async def test_binary_output_is_readable(self, real: Caller) -> None:
        outcome = await real.python("import os\nos.write(1, bytes(range(256)))")
        assert outcome.verdict is Verdict.OK
        assert outcome.stdout.startswith("\x00\x01")
        outcome.stdout.encode("utf-8")

    async def test_a_large_request_and_a_large_answer_pass(self, real: Caller) -> None:
        text = "é" * 900_000
        assert answer(await real("write_file", path="big.txt", content=text))["size"] == 1_800_000
        assert len(answer(await real.python("open('big.txt').read()[:15000]"))["value"]) == 15_002

    async def test_the_processor_time_is_limited_beyond_the_wall_time(self, real: Caller) -> None:
        outcome = await real.python("import resource\nresource.getrlimit(resource.RLIMIT_CPU)[0] < 100")
        assert answer(outcome)["value"] == "True"

    async def test_what_the_child_has_and_has_not(self, real: Caller, tmp_path: Path) -> None:
        os.environ["PAGI_TEST_SECRET"] = "s3cret"
        code = (
            "import os, resource\n"
            "print(sorted(set(os.environ) - {'HOME', 'LANG', 'PATH', 'TMPDIR'}))\n"
            "print(os.getcwd())\n"
            "print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n"
            "print(os.getsid(0) == os.getpgid(0) == os.getpid())\n"
            "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_FSIZE)[0])\n"
            "print(os.readlink('/proc/self/fd/0'))\n"
            "try: print(b's3cret' in open('/proc/self/environ', 'rb').read())\n"
            "except PermissionError: print(False)"
        )
        try:
            lines = (await real.python(code)).stdout.splitlines()
        finally:
            del os.environ["PAGI_TEST_SECRET"]
        assert lines[0] == "[]"
        assert lines[1] in {str(tmp_path), "/workspace"}
        # stdin, stdout, stderr, the call's own socket, and the directory that is being listed.
        assert lines[2] == "[0, 1, 2] 5"
        assert lines[3] == "True"
        assert lines[4] == f"(0, 0) {64 * 2**20}"
        assert lines[5:] == ["/dev/null", "False"]

    async def test_a_file_over_the_limit_is_refused(self, real: Caller) -> None:
        outcome = await real.python("f = open('big', 'wb')\nfor _ in range(100): f.write(bytes(2**20))")
        assert outcome.verdict is Verdict.DISK
        assert "File too large" in outcome.error

    async def test_calls_share_nothing(self, real: Caller) -> None:
        assert answer(await real.python("import json\njson.x = 1\nx = 2"))["value"] is None
        assert answer(await real.python("import json\n(hasattr(json, 'x'), 'x' in dir())"))["value"] == "(False, False)"
        first, second = [await real.python("import random\nrandom.random()") for _ in range(2)]
        assert first.output_json != second.output_json

    async def test_ordinary_programs_work(self, real: Caller) -> None:
        code = """
import asyncio, concurrent.futures, multiprocessing, sqlite3, subprocess, tempfile, threading, unicodedata, helper
with concurrent.futures.ThreadPoolExecutor(8) as pool: print(sum(pool.map(lambda x: x * x, range(10))))
print(asyncio.run(asyncio.sleep(0, 'slept')))
print(sqlite3.connect('a.db').execute('select 40 + 2').fetchone())
print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())
with tempfile.TemporaryFile() as file: print(file.write(b'abc'))
def work(queue): queue.put('process')
queue = multiprocessing.get_context('fork').SimpleQueue()
process = multiprocessing.get_context('fork').Process(target=work, args=(queue,)); process.start()
print(queue.get()); process.join()
print(helper.name, __name__)
class A: pass
import pickle
print(type(pickle.loads(pickle.dumps(A()))).__name__)
"""
        (real.workspace / "helper.py").write_text("name = 'from the workspace'")
        outcome = await real.python(code)
        assert outcome.verdict is Verdict.OK, outcome
        expected = ["285", "slept", "(42,)", "child", "3", "process", "from the workspace __main__", "A"]
        assert outcome.stdout.splitlines() == expected

    async def test_the_whole_group_is_killed(self, real: Caller) -> None:
        code = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0: pass
        time.sleep(60)
subprocess.Popen(['sleep', '60'])
print(os.getpid(), flush=True)
time.sleep(60)
"""
        outcome = await real.python(code, Limits(400, 512, 10_000))
        assert outcome.verdict is Verdict.TIMEOUT
        await eventually(lambda: idle(real), "nothing of it is left")

    async def test_what_stays_behind_after_a_good_end_is_killed_while_other_calls_go_on(self, real: Caller) -> None:
        other = asyncio.create_task(real.python("import time\nopen('ready', 'w').close()\ntime.sleep(60)"))
        await eventually((real.workspace / "ready").exists, "the other call runs")
        outcome = await real.python("import subprocess\nsubprocess.Popen(['sleep', '60']).pid")
        assert outcome.verdict is Verdict.OK
        # The other call's jailer and child; the sleeping program would be one more.
        await eventually(lambda: "sleep" not in programs(real), "the background process is gone", within_s=2)
        assert not other.done()
        other.cancel()
        await asyncio.wait({other})

    async def test_a_daemon_in_a_session_of_its_own_ends_with_its_call(self, real: Caller) -> None:
        outcome = await real.python("import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True).pid")
        assert outcome.verdict is Verdict.OK
        assert "sleep" not in programs(real)

    async def test_a_caller_that_goes_away_stops_the_tool(self, real: Caller) -> None:
        task = asyncio.create_task(
            real.python("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
        )
        file = real.workspace / "pid"
        await eventually(lambda: file.exists() and file.read_text() != "", "the tool runs")
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: idle(real), "the tool is gone", within_s=1)
        assert time.monotonic() - began < 0.5

    async def test_calls_run_side_by_side(self, real: Caller) -> None:
        began = time.monotonic()
        outcomes = await asyncio.gather(*(real.python(f"import time\ntime.sleep(0.3)\n{n}") for n in range(10)))
        assert [answer(one)["value"] for one in outcomes] == [str(n) for n in range(10)]
        assert time.monotonic() - began < 2

    async def test_many_calls_leak_nothing(self, real: Caller) -> None:
        pid = real.runner.pid  # type: ignore[attr-defined]
        await eventually(lambda: idle(real), "the spares wait")
        ours, theirs = descriptors_of(os.getpid()), descriptors_of(pid)
        # Most go to a child of their own, for which bwrap starts an interpreter.
        for batch in range(5 if real.runner.isolation().backend == "bubblewrap" else 20):  # type: ignore[attr-defined]
            outcomes = await asyncio.gather(*(real("math", expression=f"{batch} * 10 + {n}") for n in range(10)))
            assert [answer(one)["result"] for one in outcomes] == [batch * 10 + n for n in range(10)]
        await eventually(lambda: idle(real), "only the spares are left")
        assert (descriptors_of(os.getpid()), descriptors_of(pid)) == (ours, theirs)
        assert real.runner.pid == pid  # type: ignore[attr-defined]

    async def test_calls_of_pure_tools_wait_their_turn(self, real: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        pid = real.runner.pid  # type: ignore[attr-defined]
        await eventually(lambda: idle(real), "the spares wait")
        there = set(below(pid))
        monkeypatch.setattr("pagi_sandbox.adapters.fork_pure_child._PATIENCE_S", 10.0)
        outcomes = await asyncio.gather(*(real("math", expression=f"{n} + 1") for n in range(30)))
        assert [answer(one)["result"] for one in outcomes] == list(range(1, 31))
        # None had a child of its own, after which its jailer would have another.
        assert set(below(pid)) == there
        monkeypatch.setattr("pagi_sandbox.adapters.fork_pure_child._PATIENCE_S", 0.0)
        outcomes = await asyncio.gather(*(real("math", expression=f"{n} + 1") for n in range(5)))
        assert [answer(one)["result"] for one in outcomes] == list(range(1, 6))

    async def test_what_a_pure_child_that_died_was_asked_is_answered_by_nobody_else_in_its_place(
        self, real: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.fork_pure_child._PATIENCE_S", 10.0)
        runner = real.runner
        assert isinstance(runner, ForkRunner)
        pure = runner._pure
        assert pure is not None
        await eventually(lambda: pure._child is not None, "a child waits")
        child = pure._child
        assert child is not None
        slow = "+".join(["comb(9000,4000)*3%7"] * 99)
        first = asyncio.create_task(real("math", expression=slow))
        await eventually(lambda: len(child._line) == 1, "the first is sent")
        # Still computing, it has not read what is sent now.
        await asyncio.sleep(0.01)
        second = asyncio.create_task(real("math", expression="40+2"))
        await eventually(lambda: len(child._line) == 2, "the second is sent")
        told = Path(f"/proc/self/fdinfo/{child._slot._jailer}").read_text()
        os.kill(last_of(int(told.partition("\nPid:")[2].split()[0])), signal.SIGKILL)
        # The service stalls, and looks at the answers before it hears of the end.
        time.sleep(0.3)
        child._look()
        outcomes = await asyncio.gather(first, second)
        assert [json.loads(one.output_json)["expression"] for one in outcomes] == [slow, "40+2"]


def last_of(pid: int) -> int:
    """Down a line of processes to the one that started none."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


class TestTheForkServerDies:
    @pytest_asyncio.fixture(loop_scope="module")
    async def real(self, backend: str, tmp_path: Path) -> AsyncIterator[Caller]:
        """One of the test's own."""
        async with started(backend) as runner:
            yield Caller(runner, tmp_path)

    async def test_killed_it_is_replaced_and_the_next_call_works(self, real: Caller) -> None:
        runner = real.runner
        assert isinstance(runner, ForkRunner)
        before = runner.pid
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: runner.pid != before, "it is noticed")
        assert answer(await real("math", expression="2 + 2"))["result"] == 4
        assert runner.pid not in {0, before}
        await runner.check()

    async def test_calls_in_flight_end_and_their_processes_too(self, real: Caller) -> None:
        runner = real.runner
        assert isinstance(runner, ForkRunner)
        code = (
            "import os, subprocess, time\np = subprocess.Popen(['sleep', '60'])\n"
            "print(os.getpid(), p.pid, flush=True)\nopen('ready', 'w').close()\ntime.sleep(60)"
        )
        task = asyncio.create_task(real.python(code))
        await eventually((real.workspace / "ready").exists, "the tool runs")
        # The kernel's list of children may lack some while others end.
        await eventually(lambda: "sleep" in programs(real), "its program is seen")
        there = below(runner.pid)
        os.kill(runner.pid, signal.SIGKILL)
        outcome = await asyncio.wait_for(task, 5)
        assert outcome.verdict is Verdict.OUTCOME_UNKNOWN
        assert "fork server" in outcome.error
        assert len(outcome.stdout.split()) == 2
        await eventually(lambda: not any(map(is_alive, there)), "the tool's processes are gone")

    async def test_hung_it_is_replaced(self, real: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.fork_runner._ANSWER_S", 0.3)
        runner = real.runner
        assert isinstance(runner, ForkRunner)
        await eventually(lambda: idle(real), "the spares wait")
        before = runner.pid
        os.kill(before, signal.SIGSTOP)
        # Spares do without it.
        assert answer(await real.python("1 + 1"))["value"] == "2"
        # Two find a spare, two wait for it to make them one.
        calls = (real.python("import time\ntime.sleep(5)") for _ in range(4))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(end, UnavailableError) for end in ends) == 2
        assert sum(isinstance(end, ToolOutcome) and end.verdict is Verdict.OUTCOME_UNKNOWN for end in ends) == 2
        assert answer(await real.python("1 + 1"))["value"] == "2"
        assert not is_alive(before)

    async def test_a_hung_jailer_does_not_keep_a_call_over_its_time(
        self, real: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.fork_runner._ANSWER_S", 0.3)
        runner = real.runner
        assert isinstance(runner, ForkRunner)
        limit_ms = 2500 if is_bubblewrap(real) else 800
        task = asyncio.create_task(
            real.python("import time\nopen('ready', 'w').close()\ntime.sleep(60)", Limits(limit_ms, 512, 1000))
        )
        await eventually((real.workspace / "ready").exists, "the tool runs")
        there = below(runner.pid)
        for jailer in children_of(runner.pid):
            os.kill(jailer, signal.SIGSTOP)
        outcome = await asyncio.wait_for(task, 5)
        assert outcome.verdict is Verdict.TIMEOUT
        await eventually(lambda: not any(map(is_alive, there)), "the tool is gone")

    async def test_it_ends_with_the_service(self, tmp_path: Path) -> None:
        runner = ForkRunner(ForkServerOptions())
        await runner.start()
        pid = runner.pid
        call = Caller(runner, tmp_path)
        task = asyncio.create_task(call.python("import time\nopen('ready', 'w').close()\ntime.sleep(60)"))
        await eventually((tmp_path / "ready").exists, "the tool runs")
        there = below(pid)
        await runner.stop()
        assert (await asyncio.wait_for(task, 5)).verdict is Verdict.OUTCOME_UNKNOWN
        assert not is_alive(pid)
        await eventually(lambda: not any(map(is_alive, there)), "the tool is gone")

    async def test_one_that_cannot_start_says_so(self) -> None:
        from pagi_chassis.lifecycle import StartError

        runner = ForkRunner(ForkServerOptions(start_timeout_s=0.000001))
        with pytest.raises(StartError, match="did not start"):
            await runner.start()


def children_of(pid: int) -> list[int]:
    """Its children, zombies included."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def below(pid: int) -> list[int]:
    """All its descendants."""
    return [one for child in children_of(pid) for one in (child, *below(child))]


def programs(caller: Caller) -> list[str]:
    """The names of the programs below the fork server."""
    assert isinstance(caller.runner, ForkRunner)
    names = []
    for pid in below(caller.runner.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return names


def idle(caller: Caller) -> bool:
    """Only jailers with a child that waits: two spares, and the child for pure tools."""
    assert isinstance(caller.runner, ForkRunner)
    # Where bwrap has started the child for pure tools, there are bwrap and a process 1 above it.
    more = 2 if caller.runner.isolation().backend == "bubblewrap" else 0
    return len(children_of(caller.runner.pid)) == 3 and len(below(caller.runner.pid)) == 6 + more


def is_bubblewrap(caller: Caller) -> bool:
    """Whether each of its calls starts an interpreter."""
    return isinstance(caller.runner, ForkRunner) and caller.runner.isolation().backend == "bubblewrap"


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors_of(pid: int) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def eventually(true: Callable[[], bool], what: str, within_s: float = 5.0) -> None:
    """Waits until it is so."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)
