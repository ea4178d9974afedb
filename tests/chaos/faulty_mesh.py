"""Real processes that die, hang and come back: every service but the subscriber, on free ports, in one folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from real_mesh import eventually, free_ports
from redis_server import Valkey

# A run must have ended this long after its last fault.
ENDS_WITHIN_S = 20.0
# A planner that was stopped is woken then.
HANGS_S = 0.6
# A model that asks for effects and says "done": the same whatever happens on the way.
SCRIPT = [
    {
        "tool_calls": [
            {"name": "python", "arguments": {"code": "open('effects', 'a').write('one\\n')"}, "id": "call-one"},
            {"name": "math", "arguments": {"expression": "6 * 7"}, "id": "call-math"},
        ]
    },
    {
        "tool_calls": [
            {"name": "python", "arguments": {"code": "open('effects', 'a').write('two\\n')"}, "id": "call-two"}
        ]
    },
    {"text": "All three are done: 42."},
]


class Service:
    """One process that is started again as soon as it dies."""

    def __init__(self, name: str, module: str, folder: Path, environment: dict[str, str], port: int) -> None:
        self.name = name
        self.restarts = 0
        self._command = [sys.executable, "-m", module]
        self._folder = folder
        self._environment = environment
        self._port = port
        self._is_wanted = True
        self._start()
        self._watch = threading.Thread(target=self._restart, daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        """Of the process now."""
        return self._process.pid

    def is_ready(self) -> bool:
        """Whether it says so."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health/ready", timeout=2) as said,
        ):
            return bool(said.status == 200)
        return False

    def end(self) -> None:
        """For good."""
        self._is_wanted = False
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._watch.join(10)

    def _start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _restart(self) -> None:
        while True:
            self._process.wait()
            if not self._is_wanted:
                return
            self.restarts += 1
            self._start()


class Outcome:
    """What came of a case: the answer, the effects in the workspace, the model calls, the journal."""

    def __init__(self, answer: dict[str, Any], effects: list[str], played: list[str], events: list[Any]) -> None:
        self.answer = answer
        self.effects = effects
        self.played = played
        self.events = events


class FaultyMesh:
    """The services and what a case does with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "script.json").write_text("[" + ",\n".join(json.dumps(line) for line in SCRIPT) + "]")
        names = [f"{name}_PORT" for name in ("AGENT_PLANNER", "AGENT_PLANNER_GRPC", "MEMORY", "MEMORY_GRPC", "SANDBOX",
                 "SANDBOX_GRPC", "MODEL_GATEWAY_HTTP", "MODEL_GATEWAY_GRPC", "REDIS")]  # fmt: skip
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._port = ports["AGENT_PLANNER_PORT"]
        self.redis = Valkey(folder, ports.pop("REDIS_PORT"))
        self.redis.start()
        (folder / "knowledge_bases" / "Soul-KB").mkdir(parents=True)
        (folder / "knowledge_bases" / "Soul-KB" / "soul.md").write_text("You are a test.")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            **{name: str(port) for name, port in ports.items()},
            "MODEL_GATEWAY_ADDR": f"127.0.0.1:{ports['MODEL_GATEWAY_GRPC_PORT']}",
            "MEMORY_GRPC_ADDR": f"127.0.0.1:{ports['MEMORY_GRPC_PORT']}",
            "SANDBOX_GRPC_ADDR": f"127.0.0.1:{ports['SANDBOX_GRPC_PORT']}",
            "REDIS_ADDR": self.redis.address,
            "LLM_PROVIDER": "scripted",
            "SCRIPTED_RESPONSES_PATH": str(folder / "script.json"),
            "SCRIPTED_PLAYED_PATH": str(folder / "played"),
        }
        self.services = {
            name: Service(name, module, folder, self.environment, ports[variable])
            for name, module, variable in (
                ("gateway", "pagi_gateway", "MODEL_GATEWAY_HTTP_PORT"),
                ("memory", "pagi_memory", "MEMORY_PORT"),
                ("sandbox", "pagi_sandbox", "SANDBOX_PORT"),
            )
        }
        self._planners = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("faulty_planner.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        )  # fmt: skip
        self._planner = 0
        self.are_ready()

    def stop(self) -> None:
        """Ends every process."""
        self._end_planner()
        assert self._planners.stdin
        assert self._planners.stdout
        self._planners.stdin.close()
        self._planners.wait(10)
        self._planners.stdout.close()
        for service in self.services.values():
            service.end()
        self.redis.kill()

    def are_ready(self) -> None:
        """Waits for the services."""
        for service in self.services.values():
            eventually(service.is_ready, 30, service.name)

    def case(self, name: str, *, point: int = 0, fault: str = "kill", victim: str = "planner") -> Outcome:
        """One run with one fault; asked for again under its key until it has ended."""
        (self.folder / "played").write_text("")
        pid = 0 if victim == "planner" else self.redis_pid if victim == "redis" else self.services[victim].pid
        self._fork_planner({"point": point, "fault": fault, "victim": pid})
        body = {"prompt": f"Do three things, {name}.", "session_id": name}
        ends, over = time.monotonic() + ENDS_WITHIN_S, threading.Event()
        if fault == "stop" and victim == "planner":
            threading.Thread(target=self._wake_when_stopped, args=(over,), daemon=True).start()
        while (answer := self._ask(body, name)) is None:
            assert time.monotonic() < ends, f"{name}: the run has not ended {ENDS_WITHIN_S} s after its fault"
            if not self._is_alive():
                self._fork_planner({"point": 0, "fault": fault, "victim": 0})
            if victim == "redis" and not self._redis_answers():
                self.redis.kill()
                self.redis.start()
            time.sleep(0.02)
        over.set()
        if victim == "redis" and not self._redis_answers():
            self.redis.kill()
            self.redis.start()
        self.are_ready()
        outcome = Outcome(answer, self._effects(name), self._played(), self._events(answer["run_id"]))
        self._end_planner()
        return outcome

    @property
    def redis_pid(self) -> int:
        """Of the server."""
        assert self.redis._process
        return self.redis._process.pid

    def notified(self, run_id: str) -> list[str]:
        """The statuses that were published of a run, from the stream."""
        host, port = self.redis.address.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection, connection.makefile("rwb") as stream:
            stream.write(b"XRANGE pagi:notifications - +\r\nPING\r\n")
            stream.flush()
            lines = []
            while (line := stream.readline()) not in (b"+PONG\r\n", b""):
                lines.append(line)
        told = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [each["status"] for each in told if each["run_id"] == run_id]

    def points(self) -> list[str]:
        """What a planner passes in an undisturbed run."""
        (self.folder / "points").unlink(missing_ok=True)
        self.case("undisturbed-points")
        return (self.folder / "points").read_text().splitlines()

    def _redis_answers(self) -> bool:
        with suppress(OSError):
            return self.redis._answers()
        return False

    def _ask(self, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        """The run's answer; None where the planner could not give one."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/plan",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Idempotency-Key": key},
        )
        try:
            with urllib.request.urlopen(request, timeout=ENDS_WITHIN_S) as said:
                return dict(json.load(said))
        except urllib.error.HTTPError as error:
            with error:
                told = json.load(error)
            # A run that failed has ended, too.
            run = self._run(told["run_id"]) if told.get("run_id") else None
            return run if run and run["status"] != "running" else None
        except OSError:
            return None

    def _run(self, run_id: str) -> dict[str, Any] | None:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/runs/{run_id}", timeout=5) as said,
        ):
            return dict(json.load(said))
        return None

    def _effects(self, session_id: str) -> list[str]:
        """The lines of the file that the tools add to; asked for until the planner has found the sandbox again."""
        address = f"http://127.0.0.1:{self._port}/sessions/{session_id}/files/effects"

        def read() -> tuple[list[str]]:
            try:
                with urllib.request.urlopen(address, timeout=10) as said:
                    return (str(said.read().decode()).split(),)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 404:
                    raise
                return ([],)

        return list(eventually(read, what="the effects")[0])

    def _played(self) -> list[str]:
        return [line.rpartition("line ")[2] for line in (self.folder / "played").read_text().splitlines()]

    def _events(self, run_id: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "data" / "pagi_audit.db")) as database:
            rows = database.execute(
                "SELECT seq, event_type, data FROM audit_log WHERE run_id = ? ORDER BY seq", (run_id,)
            ).fetchall()
        return [(seq, kind, json.loads(data)) for seq, kind, data in rows]

    def _fork_planner(self, plan: dict[str, Any]) -> None:
        self._end_planner()
        plan = {
            **plan,
            "environment": self.environment,
            "log": str(self.folder / "points"),
            "output": str(self.folder / "planner.log"),
        }
        assert self._planners.stdin
        assert self._planners.stdout
        self._planners.stdin.write(json.dumps(plan) + "\n")
        self._planners.stdin.flush()
        self._planner = int(self._planners.stdout.readline())
        eventually(lambda: not self._is_alive() or self._answers(), 20, "the planner")

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health/live", timeout=2) as said:
            return bool(said.status == 200)
        return False

    def _is_alive(self) -> bool:
        try:
            os.kill(self._planner, 0)
        except ProcessLookupError:
            return False
        return self._planner != 0

    def _wake_when_stopped(self, over: threading.Event) -> None:
        """However long the planner takes to its point on a busy machine."""
        stat = Path(f"/proc/{self._planner}/stat")
        with suppress(FileNotFoundError, ProcessLookupError):
            while not over.wait(0.02):
                if stat.read_text().rpartition(")")[2].split()[0] == "T":
                    over.wait(HANGS_S)
                    os.kill(self._planner, signal.SIGCONT)
                    return

    def _end_planner(self) -> None:
        if self._planner and self._is_alive():
            os.kill(self._planner, signal.SIGKILL)
            eventually(lambda: not self._is_alive(), 10, "the end of the planner")
        self._planner = 0
