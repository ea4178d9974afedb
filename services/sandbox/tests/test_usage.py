"""What a call's processes use together, and what they hold on a disk that no walk of a workspace finds."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pagi_sandbox.zygote import held_files, wire
from pagi_sandbox.zygote.usage import Budget

MIB = 2**20
ANYTHING = Budget(cpu_ms=10**9, memory_bytes=2**40, disk_bytes=2**40, tasks=10**6)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    if held_files._is_tmpfs(str(tmp_path)):
        pytest.skip("the folder for tests lies in memory, where files are counted as such")
    return tmp_path


HOARD = f"""
import os, time
hoard = bytearray(os.urandom(4096)) * {48 * MIB // 4096}
if os.fork() != 0:
    os.fork()
os.write(1, b"x")
time.sleep(60)
"""


# A jailer has no other children than its call's; this process, with whatever other tests have started, has.
LOOK = f"""
import json, os, signal, subprocess, sys
from pagi_sandbox.zygote.usage import Budget, Usage, Watch
with subprocess.Popen([sys.executable, "-c", {HOARD!r}], stdout=subprocess.PIPE, start_new_session=True) as process:
    assert process.stdout.read(3) == b"xxx"
    try:
        asked = json.loads(sys.argv[1])
        if sys.argv[2] == "watch":
            watch = Watch(Usage(None, "", 0))
            seen = [watch.pause_ms, watch.look()]
            watch.begin(Budget(*asked[0][0]))
            seen += [watch.pause_ms, watch.look(), watch.pause_ms, watch.look()]
        else:
            seen = [Usage(None, "", own).excess(Budget(*budget)) for budget, own in asked]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
print(json.dumps([[each.kind.decode(), each.amount] if hasattr(each, "kind") else each for each in seen]))
"""


def looks(*asked: tuple[Budget, int], how: str = "look") -> list[Any]:
    """What is seen of a process below, and two below it, which share 48 MiB."""
    given = json.dumps([(list(budget), own) for budget, own in asked])
    done = subprocess.run(
        [sys.executable, "-c", LOOK, given, how], capture_output=True, text=True, timeout=60, check=True
    )
    return list(json.loads(done.stdout))


class TestTotals:
    def test_nothing_is_too_much_within_its_bounds(self) -> None:
        assert looks((ANYTHING, 0)) == [None]

    def test_tasks_are_counted_no_further_than_needed(self) -> None:
        two, one = ANYTHING._replace(tasks=2), ANYTHING._replace(tasks=1)
        processes = wire.PROCESSES.decode()
        assert looks((two, 0), (one, 0), (one, 2)) == [[processes, 3], [processes, 2], None]

    def test_memory_that_is_shared_counts_once(self) -> None:
        # Three have the 48 MiB. Besides the limit, 24 MiB are allowed for what a call begins with.
        little, much = (ANYTHING._replace(memory_bytes=size * MIB) for size in (16, 100))
        [(kind, amount), nothing] = looks((little, 0), (much, 0))
        assert (kind, nothing) == (wire.MEMORY.decode(), None)
        assert 40 * MIB < amount < 100 * MIB

    def test_an_excess_is_told_once(self) -> None:
        excess = [wire.PROCESSES.decode(), 3]
        assert looks((ANYTHING._replace(tasks=2), 0), how="watch") == [None, None, 50, excess, None, None]


class TestFolder:
    def test_names_of_one_file_count_once_and_links_lead_nowhere(self, disk: Path) -> None:
        (disk / "a" / "b").mkdir(parents=True)
        (disk / "a" / "b" / "file").write_bytes(bytes(MIB))
        os.link(disk / "a" / "b" / "file", disk / "again")
        (disk / "up").symlink_to("/usr")
        assert MIB <= held_files.folder_bytes(str(disk), 2**40) < 2 * MIB

    def test_more_names_than_the_room_is_good_for_are_all_of_it(self, disk: Path) -> None:
        for number in range(1100):
            (disk / str(number)).touch()
        assert held_files.folder_bytes(str(disk), 4 * MIB) > 4 * MIB
        assert held_files.folder_bytes(str(disk), 16 * MIB) < 16 * MIB

    def test_one_that_is_gone_is_empty(self, disk: Path) -> None:
        assert held_files.folder_bytes(str(disk / "missing"), MIB) == 0


class TestDeletedFiles:
    def test_what_is_open_counts_once_however_often(self, disk: Path) -> None:
        before = held_files.unnamed_bytes([os.getpid()], 2**40)
        with (disk / "file").open("wb") as file, (disk / "file").open("rb"):
            file.write(bytes(MIB))
            file.flush()
            assert held_files.unnamed_bytes([os.getpid()], 2**40) == before
            (disk / "file").unlink()
            assert MIB <= held_files.unnamed_bytes([os.getpid()], 2**40) - before < 2 * MIB
        assert held_files.unnamed_bytes([os.getpid()], 2**40) == before

    def test_so_many_that_only_the_number_is_seen_are_taken_for_full(self, disk: Path) -> None:
        mapped = []
        for number in range(12):
            with (disk / f"file-{number}").open("w+b") as file:
                file.write(bytes(8192))
                file.flush()
                mapped.append(mmap.mmap(file.fileno(), 4096))
            (disk / f"file-{number}").unlink()
        # The module keeps a descriptor of each: it is by them that they are seen.
        assert 12 * 8192 <= held_files.unnamed_bytes([os.getpid()], MIB) < MIB
        for one in mapped:
            one.close()
        here, there = socket.socketpair()
        with here, there:
            for number in range(12):
                with (disk / f"sent-{number}").open("wb") as file:
                    socket.send_fds(here, [b"x"], [file.fileno()])
                (disk / f"sent-{number}").unlink()
            assert held_files.unnamed_bytes([os.getpid()], MIB) >= 4 * MIB

    def test_a_process_that_is_gone_holds_nothing(self) -> None:
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert held_files.unnamed_bytes([process.pid], MIB) == 0
        assert held_files.unnamed_bytes([process.pid], MIB) == 0
