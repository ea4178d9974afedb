"""The real planner with one fault at a chosen point of its run. Started by `faulty_mesh.py`, never by hand.

Every port that a run uses is wrapped: before and after each journal write, each sync and each call stands a *point*,
counted from 1. At the point that the plan names, the fault happens: a process is killed or stopped with a real signal,
the disk is full, the clock jumps. Reads one JSON object a line from standard input and forks a planner for each, so
that a case does not pay for the imports.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pagi_chassis.lifecycle import run
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.memory_client import MemoryClient
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.bootstrap import build
from pagi_planner.domain.standalone import SystemClock
from pagi_planner.settings import PlannerSettings

# How long a full disk stays full, and a stopped process stopped.
LASTS_S = 0.6


class Points:
    """Counts the points and makes the fault happen at one of them.

    Args:
        plan: `point` (0: none), `fault` (`kill`, `stop`, `full_disk`, `clock`), `victim` (a process id; 0: this one),
            `log`: where each point is written.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._passed = 0
        self._log = Path(plan["log"]).open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process

    def pass_by(self, name: str) -> None:
        """One more point."""
        self._passed += 1
        self._log.write(f"{name}\n")
        self._log.flush()
        if self._passed == self._plan["point"]:
            _FAULTS[self._plan["fault"]](self._plan["victim"] or os.getpid())

    def around(self, owner: type, method: str) -> None:
        """Puts a point before and one after each call of an asynchronous method."""
        original: Callable[..., Any] = getattr(owner, method)
        name = f"{owner.__name__}.{method}"

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(f"before {name}")
            result = await original(*args, **kwargs)
            self.pass_by(f"after {name}")
            return result

        setattr(owner, method, wrapped)

    def around_append(self) -> None:
        """The same for the journal's appends, which are not awaited."""
        original = SqliteJournal.append

        def wrapped(journal: SqliteJournal, event: Any, *epoch: int) -> None:
            self.pass_by(f"before append {event.type}")
            original(journal, event, *epoch)
            self.pass_by(f"after append {event.type}")

        SqliteJournal.append = wrapped  # type: ignore[method-assign]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _stop(pid: int) -> None:
    """A hang. Who stops itself is woken by the mesh."""
    if pid != os.getpid():
        threading.Timer(LASTS_S, os.kill, (pid, signal.SIGCONT)).start()
    os.kill(pid, signal.SIGSTOP)


def _fill_disk(_: int) -> None:
    """From now on no file of this process may grow."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    lift = (resource.RLIMIT_FSIZE, (hard, hard))
    threading.Timer(LASTS_S, resource.setrlimit, lift).start()


def _jump(_: int) -> None:
    """The machine's clock is set back by a day, and forward by two when it is looked at again."""
    original, looks = SystemClock.now, iter(range(1_000_000))

    def now(clock: SystemClock) -> Any:
        return original(clock) + timedelta(days=-1 if next(looks) == 0 else 1)

    SystemClock.now = now  # type: ignore[method-assign]


_FAULTS = {"kill": _kill, "stop": _stop, "full_disk": _fill_disk, "clock": _jump}


def main() -> None:
    """Forks a planner for each line and says its process id; ends with standard input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be_planner(json.loads(line))
        print(pid, flush=True)


def _be_planner(plan: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(plan["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(plan["environment"])
    points = Points(plan)
    points.around_append()
    for owner, method in (
        (SqliteJournal, "sync"),
        (GatewayModel, "answer"),
        (SandboxTools, "execute"),
        (MemoryClient, "recall"),
        (MemoryClient, "remember"),
    ):
        points.around(owner, method)
    status = 0
    try:
        run("agent-planner", PlannerSettings, build)
    except SystemExit as ended:
        status = int(ended.code or 0)
    os._exit(status)


if __name__ == "__main__":
    main()
