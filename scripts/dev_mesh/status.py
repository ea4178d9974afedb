"""`--status` and `--stop`: what runs, and the end of it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from dev_mesh.console import Console
from dev_mesh.probes import HttpProbe, Probe, RedisProbe
from dev_mesh.processes import end, kill, memory_mib
from dev_mesh.state import MeshLock, StateFile, harness_of, leftovers_of, living

NOTHING_RUNS = 3  # as service managers say it (LSB: program is not running)
_STOP_S = 30.0


def show(state_file: StateFile, console: Console) -> int:
    """Prints a table; 0 where all are ready, 1 where some are not, 3 where nothing runs."""
    state = state_file.read()
    harness = harness_of(state)
    if harness is None:
        left = leftovers_of(state)
        console.say("The mesh does not run." + (" Some of its processes are left: make stop-dev" if left else ""))
        return NOTHING_RUNS
    rows = [_row(service) for service in state["services"]]
    console.say(f"The mesh has been running for {_span(time.time() - state['started'])} (harness: pid {harness.pid}).")
    header = ("service", "pid", "ready", "restarts", "memory", "ports")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        console.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if all(row[2] == "yes" for row in rows) else 1


def stop(state_file: StateFile, lock: MeshLock, console: Console) -> int:
    """Stops the running harness and waits for it; also ends what a killed one left. 0 when nothing is left."""
    state = state_file.read()
    harness = harness_of(state)
    left = leftovers_of(state)
    if harness is None and not left:
        console.say("The mesh does not run.")
        return 0
    if harness:
        os.kill(harness.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while not lock.acquire():  # free when the harness and its guard are gone
        if time.monotonic() > deadline and harness:
            console.warn(f"the harness (pid {harness.pid}) did not stop within {_STOP_S:g} s and is killed")
            kill({harness})
            deadline = time.monotonic() + _STOP_S
        time.sleep(0.05)
    end(left, grace_s=5.0)
    state_file.remove()
    lock.release()
    console.say("The mesh is stopped.")
    return 0


def _row(service: dict[str, Any]) -> tuple[str, ...]:
    process = living(service["process"])
    ready = process is not None and _probe(service["probe"])()
    memory = memory_mib(process.pid) if process else None
    return (
        service["name"],
        str(process.pid) if process else "-",
        "yes" if ready else service["phase"] if service["phase"] != "ready" else "no",
        str(service["restarts"]),
        f"{memory:.0f} MiB" if memory else "-",
        ", ".join(f"{purpose} {number}" for purpose, number in service["ports"]),
    )


def _probe(written: list[Any]) -> Probe:
    kind, host, port = written
    return HttpProbe(host, port) if kind == "http" else RedisProbe(host, port)


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
