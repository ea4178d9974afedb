"""The real Valkey of the wheel, started as the harness starts it."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading

import pytest
from dev_mesh import launch
from dev_mesh.console import Console
from dev_mesh.environment import Environment
from dev_mesh.errors import MeshError
from dev_mesh.probes import RedisProbe
from dev_mesh.valkey import valkey_binary

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".venv").symlink_to(os.path.join(ROOT, ".venv"))
    return tmp_path


@pytest.fixture
def valkey(folder, harness):
    """A mesh of Valkey alone; its port and its state file."""
    mesh = harness(valkey="")
    mesh.says("The mesh is ready")
    return mesh.ports["valkey"], launch.lock_and_state(folder)[1]


def ask(port, *words):
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(request.encode())
        return connection.recv(4096).decode()


def test_it_keeps_what_was_written_when_it_is_killed(valkey, folder, wait_until):
    port, state = valkey
    assert ask(port, "XADD", "stream", "1-1", "field", "value") == "$3\r\n1-1\r\n"
    first = state.read()["services"][0]["process"]
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: state.read()["services"][0]["process"] != first and RedisProbe("127.0.0.1", port)())
    assert ask(port, "XLEN", "stream") == ":1\r\n"
    assert (folder / "data/valkey/appendonlydir").is_dir()


def test_it_listens_on_this_machine_only(valkey):
    port, _ = valkey
    assert "127.0.0.1" in ask(port, "CONFIG", "GET", "bind")
    assert "everysec" in ask(port, "CONFIG", "GET", "appendfsync")


def test_a_running_server_is_used_instead(valkey, folder):
    port, _ = valkey
    said = io.StringIO()
    specs = launch.plan_core(folder, Environment({"REDIS_ADDR": f"127.0.0.1:{port}"}), Console(said))
    assert "valkey" not in [spec.name for spec in specs]
    assert f"Using the Redis that runs at 127.0.0.1:{port}" in said.getvalue()


def test_without_one_valkey_is_planned_first(folder, port):
    specs = launch.plan_core(folder, Environment({"REDIS_ADDR": f"localhost:{port}"}), Console(io.StringIO()))
    assert specs[0].name == "valkey"
    assert specs[0].tier < min(spec.tier for spec in specs[1:])


def test_a_server_that_wants_a_password_counts_as_running():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"-NOAUTH Authentication required.\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert RedisProbe("127.0.0.1", server.getsockname()[1])()
        thread.join()


def test_a_machine_without_a_wheel_is_told_what_to_do(tmp_path):
    with pytest.raises(MeshError, match="start any Redis or Valkey and set REDIS_ADDR"):
        valkey_binary(tmp_path)
