"""What a call's processes use together, and what they hold on a disk that no walk of a workspace finds."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pagi_sandbox.zygote import held_files, wire
from pagi_sandbox.zygote.usage import Budget, Excess, Usage, Watch

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


@pytest.fixture
def child() -> Iterator[int]:
    """A process below us, and two below it, which share 48 MiB."""
    with subprocess.Popen([sys.executable, "-c", HOARD], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"xxx"
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


class TestTotals:
    def test_nothing_is_too_much_within_its_bounds(self, child: int) -> None:
        assert Usage(None, "", 0).excess(ANYTHING) is None

    def test_tasks_are_counted_no_further_than_needed(self, child: int) -> None:
        assert Usage(None, "", 0).excess(ANYTHING._replace(tasks=2)) == Excess(wire.PROCESSES, 3)
        assert Usage(None, "", 0).excess(ANYTHING._replace(tasks=1)) == Excess(wire.PROCESSES, 2)
        assert Usage(None, "", 2).excess(ANYTHING._replace(tasks=1)) is None

    def test_memory_that_is_shared_counts_once(self, child: int) -> None:
        # Three have the 48 MiB. Besides the limit, 24 MiB are allowed for what a call begins with.
        excess = Usage(None, "", 0).excess(ANYTHING._replace(memory_bytes=16 * MIB))
        assert excess is not None
        assert excess.kind == wire.MEMORY
        assert 40 * MIB < excess.amount < 100 * MIB
        assert Usage(None, "", 0).excess(ANYTHING._replace(memory_bytes=100 * MIB)) is None

    def test_an_excess_is_told_once(self, child: int) -> None:
        watch = Watch(Usage(None, "", 0))
        assert (watch.pause_ms, watch.look()) == (None, None)
        watch.begin(ANYTHING._replace(tasks=2))
        assert watch.pause_ms == 50
        assert watch.look() == Excess(wire.PROCESSES, 3)
        assert (watch.pause_ms, watch.look()) == (None, None)


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
