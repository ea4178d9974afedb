"""The harness as people meet it: what it says, what it restarts, and that it leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from dev_mesh import launch, status
from dev_mesh.console import Console
from dev_mesh.processes import children, command_line
from dev_mesh.state import harness_of


def state_of(harness):
    return launch.lock_and_state(harness.root)[1].read()


def pid_of(harness, name):
    return next(one["process"][0] for one in state_of(harness)["services"] if one["name"] == name)


def guards_of(harness):
    return [pid for pid in children(harness.process.pid) if "dev_mesh.guard" in command_line(pid)]


def test_it_shows_progress_then_the_addresses_and_prefixes_what_services_say(harness):
    mesh = harness(alpha="", beta="")
    mesh.says("The mesh is ready")
    mesh.says(f"alpha                   | hello from {mesh.ports['alpha']}")
    assert "beta is ready after" in mesh.text
    assert f"http://127.0.0.1:{mesh.ports['alpha']}" in mesh.text
    assert f"curl -X POST localhost:{mesh.ports['beta']}/plan" in mesh.text
    assert "\x1b" not in mesh.text, "colours belong on a terminal only"
    assert (mesh.root / "data/logs/alpha.log").read_text() == f"hello from {mesh.ports['alpha']}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(harness, number):
    mesh = harness(alpha="child", beta="escaped-child")
    mesh.says("The mesh is ready")
    assert len(mesh.alive()) == 4
    mesh.process.send_signal(number)
    assert mesh.wait() == 0
    assert mesh.alive() == []
    assert state_of(mesh) == {}


def test_a_signal_during_the_start_stops_everything(harness):
    mesh = harness(alpha="", beta="never-ready")
    mesh.says("alpha is ready")
    mesh.process.send_signal(signal.SIGINT)
    assert mesh.wait() == 0
    assert mesh.alive() == []


def test_a_second_signal_does_not_wait_for_a_deaf_service(harness):
    mesh = harness(alpha="deaf")
    mesh.says("The mesh is ready")
    mesh.process.send_signal(signal.SIGINT)
    mesh.says("Stopping")
    began = time.monotonic()
    mesh.process.send_signal(signal.SIGINT)
    assert mesh.wait() == 0
    assert time.monotonic() - began < 5
    assert mesh.alive() == []


def test_a_killed_service_is_back_within_two_seconds_and_its_children_are_gone(harness, wait_until):
    mesh = harness(alpha="child", beta="")
    mesh.says("The mesh is ready")
    before = pid_of(mesh, "alpha"), pid_of(mesh, "beta")
    began = time.monotonic()
    os.kill(before[0], signal.SIGKILL)
    mesh.says("alpha is ready again")
    assert time.monotonic() - began < 2
    assert "alpha was ended by SIGKILL; starting it again" in mesh.text
    assert pid_of(mesh, "alpha") != before[0]
    assert pid_of(mesh, "beta") == before[1], "the others are left alone"
    wait_until(lambda: len(mesh.alive()) == 3)
    assert state_of(mesh)["services"][0]["restarts"] == 1


def test_what_a_killed_service_left_in_another_session_is_ended_at_the_stop(harness):
    mesh = harness(alpha="escaped-child")
    mesh.says("The mesh is ready")
    os.kill(pid_of(mesh, "alpha"), signal.SIGKILL)
    mesh.says("alpha is ready again")
    mesh.process.send_signal(signal.SIGTERM)
    assert mesh.wait() == 0
    assert mesh.alive() == []


def test_one_that_cannot_start_is_given_up_with_its_last_words(harness):
    mesh = harness(alpha="", beta="fail")
    assert mesh.wait() == 1
    assert "beta ended with status 1 before it was ready" in mesh.text
    assert "the reason why it cannot start" in mesh.text.partition("It said last")[2]
    assert mesh.alive() == []


def test_one_that_is_never_ready_is_named(harness):
    mesh = harness(alpha="", beta="never-ready", ready_timeout_s=2)
    assert mesh.wait() == 1
    assert "beta is not ready after 2 s" in mesh.text
    assert "alpha is not ready" not in mesh.text
    assert mesh.alive() == []


def test_nothing_survives_a_killed_harness(harness, wait_until):
    mesh = harness(alpha="child", beta="escaped-child")
    mesh.says("The mesh is ready")
    assert len(mesh.alive()) == 4
    mesh.process.kill()
    mesh.wait()
    wait_until(lambda: mesh.alive() == [])


def test_what_a_killed_harness_and_a_killed_guard_leave_is_ended_by_stop(harness):
    mesh = harness(alpha="child")
    mesh.says("The mesh is ready")
    guards = guards_of(mesh)
    assert len(guards) == 1
    mesh.process.send_signal(signal.SIGSTOP)  # or it would start another guard
    os.kill(guards[0], signal.SIGKILL)
    mesh.process.kill()
    mesh.process.wait()
    assert len(mesh.alive()) == 2
    said = io.StringIO()
    lock, state = launch.lock_and_state(mesh.root)
    assert status.show(state, Console(said)) == status.NOTHING_RUNS
    assert "make stop-dev" in said.getvalue()
    assert status.stop(state, lock, Console(said)) == 0
    assert mesh.alive() == []


def test_a_killed_guard_is_replaced(harness, wait_until):
    mesh = harness(alpha="")
    mesh.says("The mesh is ready")

    first = guards_of(mesh)
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: (now := guards_of(mesh)) and now != first)
    mesh.process.kill()
    wait_until(lambda: mesh.alive() == [])


def test_a_second_harness_is_refused_and_told_how_to_stop_the_first(harness):
    first = harness(alpha="")
    first.says("The mesh is ready")
    second = harness(beta="")
    assert second.wait() == 1
    assert f"runs already in this checkout (pid {first.process.pid})" in second.text
    assert "make stop-dev" in second.text


def test_a_harness_after_a_killed_one_waits_until_that_is_cleaned_up(harness):
    first = harness(alpha="child")
    first.says("The mesh is ready")
    first.process.kill()
    second = harness(beta="")
    second.says("The mesh is ready")
    assert pid_of(second, "beta") in second.alive()
    assert len(second.alive()) == 1


def test_status_and_stop_from_another_process(harness):
    mesh = harness(alpha="", beta="")
    mesh.says("The mesh is ready")
    said = io.StringIO()
    lock, state = launch.lock_and_state(mesh.root)
    assert status.show(state, Console(said)) == 0
    row = next(line for line in said.getvalue().splitlines() if line.startswith("alpha"))
    assert row.split()[1:4] == [str(pid_of(mesh, "alpha")), "yes", "0"]
    assert "MiB" in row
    assert f"HTTP {mesh.ports['alpha']}" in row
    assert status.stop(state, lock, Console(said)) == 0
    assert mesh.wait() == 0
    assert mesh.alive() == []
    assert harness_of(state.read()) is None
    assert status.show(state, Console(said)) == status.NOTHING_RUNS


def test_status_shows_a_service_that_hangs(harness):
    mesh = harness(alpha="", beta="")
    mesh.says("The mesh is ready")
    os.kill(pid_of(mesh, "beta"), signal.SIGSTOP)
    said = io.StringIO()
    _, state = launch.lock_and_state(mesh.root)
    assert status.show(state, Console(said)) == 1
    row = next(line for line in said.getvalue().splitlines() if line.startswith("beta"))
    assert row.split()[2] == "no"
    os.kill(pid_of(mesh, "beta"), signal.SIGCONT)
