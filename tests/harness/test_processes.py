from __future__ import annotations

import os
import subprocess
import sys

import pytest
from dev_mesh.processes import ProcessId, descendants, end, identify, is_alive, kill, memory_mib

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
# Has a child in a session of its own, which outlives its parent unless it is looked for.
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start():
    started = []

    def run(code):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        kill(descendants([process.pid]))
        process.communicate()


def test_a_process_is_known_by_its_start_too():
    me = identify(os.getpid())
    assert me
    assert is_alive(me)
    assert not is_alive(ProcessId(me.pid, me.start + 1)), "a later process of the same number"


def test_one_that_waits_to_be_reaped_is_dead(start, wait_until):
    process = start("pass")
    wait_until(lambda: identify(process.pid) is None)
    assert process.poll() is not None


def test_the_family_holds_children_that_left_the_session(start):
    process = start(PARENT)
    child = int(process.stdout.readline())
    assert {one.pid for one in descendants([process.pid])} == {process.pid, child}


def test_ending_takes_the_descendants_along(start):
    process = start(PARENT)
    child = int(process.stdout.readline())
    killed = end([identify(process.pid)], grace_s=5)
    assert {one.pid for one in killed} == {child}, "the parent obeyed SIGTERM, the child had to be killed"
    assert identify(child) is None


def test_a_deaf_process_is_killed_after_the_grace_time(start):
    process = start(DEAF)
    process.stdout.readline()
    assert {one.pid for one in end([identify(process.pid)], grace_s=0.1)} == {process.pid}
    assert identify(process.pid) is None


def test_a_process_that_is_gone_is_no_reason_to_wait(start):
    process = start(SLEEP)
    known = identify(process.pid)
    process.kill()
    process.wait()
    assert end([known], grace_s=60) == set()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_that_of_the_family(start):
    process = start(PARENT)
    process.stdout.readline()
    assert 2 < memory_mib(process.pid) < 100
