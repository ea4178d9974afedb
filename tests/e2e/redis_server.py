"""A Valkey that a test starts and kills."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from real_mesh import ROOT, eventually

sys.path.insert(0, str(ROOT / "scripts"))

from dev_mesh.valkey import RedisAddress, valkey_binary, valkey_command


class Valkey:
    """One server with its data in a folder, so that a restart finds them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._port = port
        self._command = valkey_command(valkey_binary(ROOT / ".venv"), RedisAddress("127.0.0.1", port), folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        eventually(self._answers, what="Valkey")

    def kill(self) -> None:
        """kill -9."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
