"""A whole mesh of real processes, started by the harness in a folder of its own, on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("memory", "sandbox", "model-gateway", "agent-planner", "notification-subscriber")
_HTTP_VARIABLES = {
    "memory": "MEMORY_PORT",
    "sandbox": "SANDBOX_PORT",
    "model-gateway": "MODEL_GATEWAY_HTTP_PORT",
    "agent-planner": "AGENT_PLANNER_PORT",
    "notification-subscriber": "NOTIFICATION_SUBSCRIBER_PORT",
}
_GRPC_VARIABLES = ("MEMORY_GRPC_PORT", "SANDBOX_GRPC_PORT", "MODEL_GATEWAY_GRPC_PORT", "AGENT_PLANNER_GRPC_PORT")


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds now."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def eventually(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "it") -> Any:
    """What the condition gives, as soon as that is something; an error in it counts as nothing yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if result := condition():
                return result
            error: Exception | None = None
        except (OSError, KeyError, AssertionError, sqlite3.Error) as raised:
            error = raised
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s: {error}"
        time.sleep(0.02)


class Answer:
    """An HTTP answer: status, headers, body."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.text = body.decode()

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.text)


class Mesh:
    """The processes and what one may ask of them."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.root = folder / "checkout"
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        for shared in (".venv", "knowledge_bases"):
            (self.root / shared).symlink_to(ROOT / shared)
        ports = free_ports(len(SERVICES) + len(_GRPC_VARIABLES))
        self.http = dict(zip(SERVICES, ports[: len(SERVICES)], strict=True))
        self.grpc = dict(
            zip(("memory", "sandbox", "model-gateway", "agent-planner"), ports[len(SERVICES) :], strict=True)
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LOG_FORMAT": "json",
            **{_HTTP_VARIABLES[name]: str(port) for name, port in self.http.items()},
            **{name: str(port) for name, port in zip(_GRPC_VARIABLES, ports[len(SERVICES) :], strict=True)},
            **variables,
        }
        self.output = self.harness("--detach", *arguments, timeout_s=120)

    def harness(self, *arguments: str, timeout_s: float = 60) -> str:
        """Runs `run_all_dev.py` and returns what it printed; fails where it does."""
        done = subprocess.run(
            [sys.executable, "scripts/run_all_dev.py", "--profile", "core", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def stop(self) -> None:
        """Stops every process."""
        self.harness("--stop")

    def ask(self, service: str, path: str, body: Any = None, timeout_s: float = 30, **headers: str) -> Answer:
        """GET, or POST where there is a body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http[service]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def plan(self, prompt: str, timeout_s: float = 30, **fields: Any) -> Any:
        """Asks the agent; fails where the answer is not 200."""
        answer = self.ask("agent-planner", "/plan", {"prompt": prompt, **fields}, timeout_s)
        assert answer.status == 200, answer.text
        return answer.json

    def state(self) -> dict[str, dict[str, Any]]:
        """What the harness knows of each process, by service."""
        path = self.root / "data" / "run" / "mesh.json"
        return {service["name"]: service for service in json.loads(path.read_text())["services"]}

    def pid(self, service: str) -> int:
        """The process of a service."""
        return int(self.state()[service]["process"][0])

    def signal(self, service: str, number: signal.Signals) -> None:
        """Sends a signal to a service."""
        os.kill(self.pid(service), number)

    def audit(self, trace_id: str) -> list[str]:
        """The types of the audit rows of a trace, in order."""
        path = self.root / "data" / "pagi_audit.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT event_type FROM audit_log WHERE trace_id = ? ORDER BY id", (trace_id,))
            return [row[0] for row in rows]
        finally:
            connection.close()

    def log(self, service: str) -> str:
        """What a service has written."""
        return (self.root / "data" / "logs" / f"{service}.log").read_text()
