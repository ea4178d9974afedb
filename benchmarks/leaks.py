"""Whether calls leave something behind (`make bench-leaks`): what a sandbox holds before, amid and after many of them.

Ends with status 1 where it holds more processes, descriptors, files or control groups than before, or where the second
half of the calls has added memory: what allocators and caches keep grows ever less, what leaks grows with each call.
The calls print, compute, write, fail, leave processes that outlive them, and take too long.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from dev_mesh.processes import ProcessId, descendants
from pagi.sandbox.v1 import sandbox_pb2

from benchmarks.children import BenchError, Children
from benchmarks.isolated import CONCURRENCY
from benchmarks.rows import met
from benchmarks.sandbox import Sandbox, start_sandbox
from benchmarks.usage import own_pss_mib, tree_pss_mib

_SESSIONS = 50
# As many as there are of each kind in each session, and some more for what Python and SQLite keep from then on.
_WARM_UP = 1_000
_LATE_EVERY = 200
_LATE_MS = 100
# Two looks at the same sandbox differ by that much: a spare more or less shares its pages, an allocator takes an arena.
_NOISE_MIB = 1.0
_REST_S = 0.5
_LONGEST_REST_S = 20.0
# Spares that a burst called for are kept for a while.
_STEADY_S = 4.0

_WRITES = "from pathlib import Path; Path('kept.txt').write_text('x'); Path('/tmp/left.txt').write_text('y'); print(1)"
_OUTLIVES = "import os, time; os.fork() or time.sleep(60); print(1)"
_LATE = {"code": "import time; time.sleep(60)"}
# The tool, its arguments and the verdict, in turns.
_KINDS = (
    *[("python", {"code": "print(1)"}, sandbox_pb2.VERDICT_OK)] * 5,
    ("math", {"expression": "(100 + 50) * 2"}, sandbox_pb2.VERDICT_OK),
    ("math", {"expression": "1 / 0"}, sandbox_pb2.VERDICT_FAILED),
    ("python", {"code": _WRITES}, sandbox_pb2.VERDICT_OK),
    ("python", {"code": "raise ValueError(1)"}, sandbox_pb2.VERDICT_FAILED),
    ("python", {"code": _OUTLIVES}, sandbox_pb2.VERDICT_OK),
)


@dataclass(frozen=True)
class Holdings:
    """What a sandbox holds: of the service, of the fork server, and of what this one has forked ahead of calls."""

    processes: int
    service_descriptors: int
    fork_server_descriptors: int
    other_descriptors: int
    files: int
    control_groups: int
    fork_server_pss_mib: float
    pss_mib: float
    # The two above change where others that run the same programs come and go; those below do not, for no file backs
    # what they count. The first two are of one process, with what it shares with those that it has forked.
    service_anonymous_mib: float
    fork_server_anonymous_mib: float
    anonymous_mib: float


def holdings(sandbox: Sandbox, folder: Path) -> Holdings:
    """What it holds now.

    Args:
        sandbox: A running one.
        folder: Where its data are; its scratch folder in /tmp is looked at too.
    """
    service, server = sandbox.child.pid, sandbox.fork_server
    family = {process.pid for process in descendants([service])}
    return Holdings(
        len(family),
        _descriptors([service]),
        _descriptors([server]),
        _descriptors(family - {service, server}),
        sum(_entries(top) for top in (folder, *scratch_of(server))),
        len(groups_of(server)),
        own_pss_mib(server),
        tree_pss_mib(service),
        own_pss_mib(service, "Anonymous"),
        own_pss_mib(server, "Anonymous"),
        sum(own_pss_mib(pid, "Pss_Anon") for pid in family),
    )


def scratch_of(server: int) -> list[Path]:
    """The fork server's folder for what its calls have as /tmp; none once it is gone."""
    return list(Path("/tmp").glob(f"pagi-sandbox-{server}-*"))


def groups_of(server: int) -> list[Path]:
    """The control groups that a fork server has made."""
    tops = Path("/sys/fs/cgroup").rglob(f"pagi-sandbox-{server}-*")
    return [group for top in tops for group in (top, *top.glob("*/"))]


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


def _descriptors(pids: Iterable[int]) -> int:
    count = 0
    for pid in pids:
        try:
            count += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue  # it ended just now
    return count


async def _calls(sandbox: Sandbox, count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            session = f"session-{number // len(_KINDS) % _SESSIONS}"
            if number % _LATE_EVERY == 0:
                late = sandbox_pb2.VERDICT_TIMEOUT
                await sandbox.call("python", _LATE, session=session, expected=late, timeout_ms=_LATE_MS)
                continue
            tool, arguments, verdict = _KINDS[number % len(_KINDS)]
            await sandbox.call(tool, arguments, session=session, expected=verdict)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def _at_rest(sandbox: Sandbox, folder: Path) -> Holdings:
    """What it holds once what is taken away behind an answer is gone."""
    deadline = time.monotonic() + _LONGEST_REST_S
    seen, since = holdings(sandbox, folder), time.monotonic()
    while time.monotonic() < min(deadline, since + _STEADY_S):
        await asyncio.sleep(_REST_S)
        now = holdings(sandbox, folder)
        if _counts(now) != _counts(seen):
            since = time.monotonic()
        seen = now
    return seen


def _counts(held: Holdings) -> dict[str, int]:
    return {name: value for name, value in asdict(held).items() if isinstance(value, int)}


async def _measure(children: Children, folder: Path, calls: int, profile: str) -> bool:
    sandbox = await start_sandbox(children, folder, "sandbox", profile=profile)
    server, data = sandbox.fork_server, folder / "sandbox"
    await _calls(sandbox, min(_WARM_UP, calls))
    before = await _at_rest(sandbox, data)
    first_s, amid = await _half(sandbox, data, calls // 2)
    second_s, after = await _half(sandbox, data, calls - calls // 2)
    family = descendants([sandbox.child.pid])
    children.end([sandbox.child.process])
    rate = calls / (first_s + second_s)
    sys.stdout.write(f"{calls} calls in {sandbox.profile}, {rate:.0f} a second\n\n")
    return all([_tell(before, amid, after), _tell_end(server, family)])


async def _half(sandbox: Sandbox, folder: Path, calls: int) -> tuple[float, Holdings]:
    """How many seconds so many calls took, and what the sandbox holds then."""
    began = time.perf_counter()
    await _calls(sandbox, calls)
    seconds = time.perf_counter() - began
    return seconds, await _at_rest(sandbox, folder)


def _tell(before: Holdings, amid: Holdings, after: Holdings) -> bool:
    """Prints the table; whether nothing was left."""
    sys.stdout.write("| held | before | after half | after all | more by the second half | |\n")
    sys.stdout.write("|---|---:|---:|---:|---:|---|\n")
    is_well = True
    for name, first in asdict(before).items():
        second, last = getattr(amid, name), getattr(after, name)
        is_count = isinstance(first, int)
        is_judged = is_count or name.endswith("anonymous_mib")
        is_kept = last <= first if is_count else last - second <= _NOISE_MIB
        is_well = is_well and (is_kept or not is_judged)
        cells = [f"{value:d}" if is_count else f"{value:.1f}" for value in (first, second, last)]
        cells.append(f"{last - second:+d}" if is_count else f"{last - second:+.1f}")
        sys.stdout.write(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {met(is_kept) if is_judged else ''} |\n")
    return is_well


def _tell_end(server: int, family: set[ProcessId]) -> bool:
    """Prints what is there although the service has ended; whether nothing is."""
    left = {
        "processes": len(family & descendants(process.pid for process in family)),
        "folders": len(scratch_of(server)),
        "control groups": len(groups_of(server)),
    }
    sys.stdout.write("\nAfter its end: " + ", ".join(f"{count} {name}" for name, count in left.items()) + "\n")
    return not any(left.values())


def main() -> int:
    """Runs the calls and prints the table; 1 where something was left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("calls", nargs="?", type=int, default=10_000)
    parser.add_argument("--profile", choices=("auto", "L0", "L1", "L2", "L3"), default="auto")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="pagi-bench-") as folder, Children(Path(folder)) as children:
            return 0 if uvloop.run(_measure(children, Path(folder), asked.calls, asked.profile)) else 1
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
