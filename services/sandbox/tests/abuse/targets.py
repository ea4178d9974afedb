"""What the programs may attack: all of it is ours, and all of it is looked at again afterwards."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def new_secret() -> str:
    """A canary: text that appears nowhere but where it was put."""
    return f"PAGI-CANARY-{secrets.token_hex(16)}"


@dataclass
class Outside:
    """One program's files outside of every workspace, open to all by their permissions."""

    folder: Path
    secret: str
    before: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, uid: int) -> Outside:
        """`uid` owns it, so that nothing but the sandbox keeps the service's user from it."""
        folder.mkdir(parents=True)
        secret = new_secret()
        (folder / "secret.txt").write_text(secret)
        (folder / "writable.txt").write_text("unchanged")
        for path, mode in ((folder / "secret.txt", 0o644), (folder / "writable.txt", 0o666), (folder, 0o777)):
            path.chmod(mode)
            if os.geteuid() == 0:
                os.chown(path, uid, uid)
        outside = cls(folder, secret)
        outside.before = outside._look()
        return outside

    def changes(self) -> list[str]:
        """What is not as it was: names, content, owner, mode, links, attributes, times of change."""
        now = self._look()
        names = sorted(self.before.keys() | now.keys())
        return [f"{name} outside was changed" for name in names if self.before.get(name) != now.get(name)]

    def _look(self) -> dict[str, Any]:
        found = {".": _look_at(self.folder)}
        for path in self.folder.iterdir():
            found[path.name] = (_look_at(path), path.read_bytes() if path.is_file() else None)
        return found


def _look_at(path: Path) -> tuple[Any, ...]:
    seen = path.lstat()
    return (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


class Bystander:
    """A process of the service's user that has done nobody any harm."""

    def __init__(self, command: list[str]) -> None:
        """Starts it; `command` goes before its own, to make it another user's."""
        # Not an interpreter: there is one for each program.
        self.process = subprocess.Popen(
            [*command, "/bin/sleep", "300"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.pid = self.process.pid
        self._before: tuple[Any, ...] | None = None

    def look(self) -> tuple[Any, ...]:
        """Its limits, priority, processors and tracer."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":\t") for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        limits = Path(f"/proc/{self.pid}/limits").read_text()
        return limits, stat[15:17], stat[38:40], status["Cpus_allowed"], status["TracerPid"]

    def remember(self) -> None:
        """From now on, what changes is harm."""
        self._before = self.look()

    def harm(self) -> list[str]:
        """What was done to it."""
        if self.process.poll() is not None:
            return [f"a bystander was ended: {self.process.returncode}"]
        return [] if self._before is None or self.look() == self._before else ["a bystander's limits were changed"]

    def end(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


class CanaryServers:
    """Listens on every way out, and keeps what comes in."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the sockets with a path go."""
        self._folder = folder
        self.received: list[tuple[str, bytes]] = []
        self._servers: list[asyncio.Server] = []
        self._transports: list[asyncio.DatagramTransport] = []
        self._datagrams: socket.socket | None = None
        self.tcp = self.udp = 0
        self.unix = str(folder / "stream.socket")
        self.unix_datagrams = str(folder / "datagram.socket")
        self.abstract = f"\0pagi-abuse-{secrets.token_hex(8)}"

    async def start(self) -> None:
        """Binds them all."""
        loop = asyncio.get_running_loop()
        tcp = await asyncio.start_server(lambda *pair: self._serve("tcp", *pair), "127.0.0.1", 0)
        unix = await asyncio.start_unix_server(lambda *pair: self._serve("unix", *pair), self.unix)
        abstract = await asyncio.start_unix_server(lambda *pair: self._serve("abstract", *pair), self.abstract)
        self._servers = [tcp, unix, abstract]
        self.tcp = tcp.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda: _Echo(self.received), ("127.0.0.1", 0))
        self._transports.append(transport)
        self.udp = transport.get_extra_info("sockname")[1]
        self._datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._datagrams.bind(self.unix_datagrams)
        for path in (self.unix, self.unix_datagrams):
            os.chmod(path, 0o777)
        loop.add_reader(self._datagrams.fileno(), self._take_datagram)

    async def stop(self) -> None:
        """Closes them all."""
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.close()
        if self._datagrams is not None:
            asyncio.get_running_loop().remove_reader(self._datagrams.fileno())
            self._datagrams.close()
        await asyncio.sleep(0)

    def reached_by(self, name: str) -> list[str]:
        """On which ways a program's name came in."""
        return sorted(
            {f"the canary server was reached by {way}" for way, data in self.received if name.encode() in data}
        )

    async def _serve(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2):
                self.received.append((way, data := await reader.read(4096)))
                writer.write(b"echo " + data[:50])
        except (OSError, TimeoutError):
            self.received.append((way, b""))
        finally:
            writer.close()

    def _take_datagram(self) -> None:
        assert self._datagrams is not None
        self.received.append(("unix datagram", self._datagrams.recv(4096)))


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, received: list[tuple[str, bytes]]) -> None:
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._received.append(("udp", data))
        self._transport.sendto(b"echo " + data[:50], address)


def descendants(pid: int) -> Iterator[int]:
    """Every process below this one."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield child
        yield from descendants(child)


def processes_in(folder: Path) -> list[int]:
    """The processes whose current directory is at or below a folder."""
    found, top = [], str(folder)
    for name in os.listdir("/proc"):  # once for each program: paths as objects would take ten times as long
        if name.isdigit():
            try:
                place = os.readlink(f"/proc/{name}/cwd")
            except OSError:
                continue
            if place == top or place.startswith(f"{top}/"):
                found.append(int(name))
    return found
