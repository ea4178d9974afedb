"""A service with hostile MCP servers and a shell, and what is theirs to attack."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from abuse.campaign import free_port
from abuse.readable_python import as_user
from abuse.targets import Bystander, CanaryServers, Outside, descendants, new_secret
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc

HERE = Path(__file__).parent
_VICTIM = (
    "import time; kept = open('private.txt', 'w'); kept.write({secret!r}); kept.flush(); "
    "open('ready', 'w').close(); time.sleep(100)"
)


class HostileService:
    """Runs calls in it, and tells what was done to others."""

    def __init__(self, top: Path, uid: int, python: Path) -> None:
        """Everything is below `top`, which every user may enter; `python` is one that the service's user can run."""
        self.top, self.uid, self.python = top, uid, python
        self.secrets = [new_secret() for _ in range(3)]
        self.canaries = CanaryServers(top)
        self.bystander = Bystander(as_user(uid))
        self._outside = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HostileService]:
        """While the service does."""
        self._write()
        await self.canaries.start()
        self.port = free_port()
        environment = {
            "PATH": os.defpath,
            "SANDBOX_PORT": "0",
            "SANDBOX_GRPC_PORT": str(self.port),
            "SANDBOX_WORKSPACES_DIR": str(self.top / "workspaces"),
            "SANDBOX_ENABLE_SHELL": "true",
            "SANDBOX_MCP_CONFIG": str(self.top / "mcp.json"),
            "PAGI_TEST_SECRET": self.secrets[0],
        }
        log = self.top / "service.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*as_user(self.uid), str(self.python), "-m", "pagi_sandbox"],
                cwd=self.top / "service",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                self.stub = sandbox_pb2_grpc.ToolServiceStub(channel)
                await self._ready()
                yield self
        except BaseException as error:
            error.add_note(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            self.process.terminate()
            self.process.wait(10)
            self.bystander.end()
            await self.canaries.stop()

    def _write(self) -> None:
        for name in ("service", "workspaces", "homes"):
            (self.top / name).mkdir(mode=0o755)
            if os.geteuid() == 0:
                os.chown(self.top / name, self.uid, self.uid)
        programs = self.top / "programs"
        shutil.copytree(HERE / "programs", programs)
        shutil.copytree(HERE / "server_programs", programs / "server")
        for file in ("probe.py", "hostile_server.py"):
            shutil.copy(HERE / file, programs / file)
        servers = {
            name: {
                "command": str(self.python),
                "args": ["-I", str(programs / "hostile_server.py"), str(programs)],
                "env": {"TOKEN": secret},
                "jail": {"network": False, "memory_mb": 256, "read": [str(self.python.parent.parent)]},
            }
            for name, secret in (("hostile", "its own"), ("victim", self.secrets[1]))
        }
        (self.top / "mcp.json").write_text(json.dumps({"mcpServers": servers}))

    async def _ready(self) -> None:
        async with asyncio.timeout(40):
            while not {"hostile.attack", "victim.attack", "shell"} <= await self._tools():
                assert self.process.poll() is None
                await asyncio.sleep(0.05)
        told = await self.stub.GetIsolation(pb.GetIsolationRequest(), timeout=5)
        self.layers = frozenset(layer.name for layer in told.layers if layer.active)
        [hostile, _] = sorted(told.mcp_servers, key=lambda one: one.server)
        self.server_layers = frozenset(layer.name for layer in hostile.layers if layer.active)
        code = {"code": _VICTIM.format(secret=self.secrets[2])}
        self.victim = asyncio.create_task(self.call("python", code, "victim", timeout_ms=110_000))
        self.workspaces = self.top / "workspaces" / "t-"
        async with asyncio.timeout(10):
            while not (self.workspaces / "s-victim" / "ready").exists():
                await asyncio.sleep(0.02)

    async def _tools(self) -> set[str]:
        try:
            return {tool.name for tool in (await self.stub.ListTools(pb.ListToolsRequest(), timeout=1)).tools}
        except grpc.aio.AioRpcError:
            return set()

    async def call(
        self, tool: str, arguments: Mapping[str, Any], session: str = "s", **limits: int
    ) -> pb.ExecuteToolResponse:
        """One call to its end."""
        given = {"timeout_ms": 10_000, **limits}
        request = pb.ExecuteToolRequest(
            tool=tool, arguments_json=json.dumps(arguments), session_id=session, limits=pb.Limits(**given)
        )
        return await self.stub.ExecuteTool(request, timeout=given["timeout_ms"] / 1000 + 10)

    def outside(self) -> Outside:
        """Files of the next program's own."""
        self._outside += 1
        return Outside.make(self.top / "outside" / str(self._outside), self.uid)

    def targets(self, name: str, outside: Outside, workspace: Path) -> dict[str, Any]:
        """What a program may know of the machine."""
        fork_server, *others = descendants(self.process.pid)
        return {
            "name": name,
            "mark": f"{self.top.name}-{name.replace('/', '-')}",
            "secret": str(outside.folder / "secret.txt"),
            "writable": str(outside.folder / "writable.txt"),
            "outside": str(outside.folder),
            "workspaces": str(self.top / "workspaces"),
            "workspace": str(workspace),
            "other_workspace": str(self.workspaces / "s-victim"),
            "database": str(self.top / "service" / "data" / "sandbox.db"),
            "configuration": str(self.top / "mcp.json"),
            "other_home": str(self.top / "service" / "data" / "mcp" / "victim"),
            "beat": "beat",
            "service": self.process.pid,
            "fork_server": fork_server,
            "others": others,
            "bystander": self.bystander.pid,
            "tcp": self.canaries.tcp,
            "udp": self.canaries.udp,
            "unix": self.canaries.unix,
            "unix_datagrams": self.canaries.unix_datagrams,
            "abstract": self.canaries.abstract,
            "service_port": self.port,
        }

    def harm(self, name: str, outside: Outside, text: str) -> list[str]:
        """What it did to others, by a look from outside and at what came back."""
        secrets = [*self.secrets, outside.secret]
        found = [f"secret {number} came back" for number, one in enumerate(secrets) if one in text]
        found += outside.changes() + self.bystander.harm() + self.canaries.reached_by(name)
        found += ["the call of another session was ended"] if self.victim.done() else []
        found += [f"the service was ended: {self.process.returncode}"] if self.process.poll() is not None else []
        if self.bystander.process.poll() is not None:
            # The next one has to find one, too.
            self.bystander = Bystander(as_user(self.uid))
        self.bystander.remember()
        return found


def told(text: str) -> list[tuple[str, str, str]]:
    """The lines of the probe: kind, what and detail."""
    lines = (line.removeprefix("ABUSE ") for line in text.splitlines() if line.startswith("ABUSE ["))
    return [tuple(json.loads(line)) for line in lines]


@asynccontextmanager
async def hostile_service(uid: int, python: Path) -> AsyncIterator[HostileService]:
    """One of its own, with nothing left of it afterwards."""
    top = Path(tempfile.mkdtemp(prefix="pagi-abuse-"))
    top.chmod(0o755)
    try:
        async with HostileService(top, uid, python).running() as service:
            yield service
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(top)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(top)], check=False)
        for left in (*Path("/tmp").glob(f"{top.name}-*"), *Path("/dev/shm").glob(f"{top.name}*")):
            left.unlink()
