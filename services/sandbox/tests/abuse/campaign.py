"""Runs the programs through a sandbox service of their own, and looks from outside at what they did."""

from __future__ import annotations

import asyncio
import ctypes
import json
import marshal
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from abuse import expected
from abuse.expected import LIMITS, Case
from abuse.readable_python import as_user
from abuse.targets import Bystander, CanaryServers, Outside, descendants, new_secret, processes_in
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc

# No account has them, as a rule, so that nothing else of the machine runs as one; another run of the tests has others.
_FIRST_UID = 60_000 + os.getpid() % 512 * 8
ORDINARY_UIDS = range(_FIRST_UID, _FIRST_UID + 8)
_CAMPAIGNS_AT_ONCE = 2
_AT_ONCE = 6
# A busy machine may be late; a call that is this much later than its limit is one that the limit does not hold.
_LATE_S = 2.5
# Compiled once: there are hundreds of programs.
_PROBE = marshal.dumps(compile((Path(__file__).parent / "probe.py").read_text(encoding="utf-8"), "probe.py", "exec"))
_PRELUDE = """
import marshal, sys, types
_probe = types.ModuleType("probe")
exec(marshal.loads({probe!r}), _probe.__dict__)
_probe.TARGET.update({target!r})
sys.modules["probe"] = _probe
del marshal, sys, types, _probe
"""
_VICTIM = """
import time
held_in_memory = open("private.txt", "w")
held_in_memory.write({secret!r})
held_in_memory.flush()
open("ready", "w").close()
time.sleep(100)
"""
_DRAW = "import random; print(random.getrandbits(64))"
_LONG = {"timeout_ms": 120_000}
_PLANTED = f"pagi-abuse-planted-{os.getpid()}"
_PLANT = f"import tempfile; open(tempfile.gettempdir() + '/{_PLANTED}', 'w').write('x')"
_FIND = "import os, tempfile; print(os.listdir(tempfile.gettempdir()), os.listdir())"
_MARK = "pagi-abuse"
# Lines for the end of the run.
SUMMARY = pytest.StashKey[list[str]]()


@dataclass
class Result:
    """What became of one program."""

    case: Case
    verdict: str = ""
    error: str = ""
    text: str = ""
    told: list[tuple[str, str, str]] = field(default_factory=list)
    harm: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    milliseconds: float = 0.0

    def achieved(self) -> list[str]:
        """All harm, by the program's own word or by a look from outside."""
        return [f"{what}: {detail}" for kind, what, detail in self.told if kind == "got"] + self.harm

    def faults(self) -> list[str]:
        """Why a case that has to hold does not."""
        faults = [*self.achieved(), *self.wrong]
        if self.verdict not in self.case.verdicts:
            faults.append(f"ended with {self.verdict}, not {' or '.join(sorted(self.case.verdicts))}: {self.error}")
        if self.case.ordinary and not any(kind == "ok" for kind, _, _ in self.told):
            faults.append(f"an ordinary program does not work: {self.text[-800:]}")
        return faults


@dataclass
class Campaign:
    """All results of one service, and what was found when all was over."""

    uid: int
    asked: str
    profile: str
    layers: frozenset[str]
    results: dict[str, Result]
    aftermath: list[str]
    seconds: float
    log: str

    def is_open(self, case: Case) -> bool:
        """No layer that could hold it is active."""
        return bool(case.closed_by) and not self.layers.intersection(case.closed_by)

    def cannot_work(self, case: Case) -> bool:
        """An ordinary program lacks a layer that gives it what it needs."""
        return bool(case.needs) and not self.layers.intersection(case.needs)


async def run_campaigns(
    wanted: Iterable[tuple[str, dict[str, str]]], python: Path, cases: Iterable[Case]
) -> list[Campaign]:
    """For each, starts a service, runs the programs, and ends it; some at once, for most of it is waiting.

    Args:
        wanted: pairs of "root" or "user", which is an ordinary one, and further settings of the service.
        python: an interpreter that every user can read.
        cases: the programs.
    """
    # Whatever leaves a service's tree comes to us, and is seen.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    places = asyncio.Semaphore(_CAMPAIGNS_AT_ONCE)

    async def one(uid: int, environment: dict[str, str]) -> Campaign:
        async with places:
            return await _run_campaign(uid, python, cases, environment)

    users = (
        (uid if user == "user" and os.geteuid() == 0 else os.geteuid(), environment)
        for uid, (user, environment) in zip(ORDINARY_UIDS, wanted, strict=False)
    )
    try:
        return await asyncio.gather(*(one(*each) for each in users))
    finally:
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


async def _run_campaign(uid: int, python: Path, cases: Iterable[Case], environment: dict[str, str]) -> Campaign:
    top = Path(tempfile.mkdtemp(prefix=f"{_MARK}-"))
    top.chmod(0o755)
    try:
        return await _Runner(top, uid, python, environment).run(list(cases))
    finally:
        # Not shutil.rmtree, which recurses: a program leaves folders 2,000 deep.
        # Another program leaves folders that even their owner may not enter.
        subprocess.run(["chmod", "-R", "u+rwX", str(top)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(top)], check=False)
        places = (
            Path("/tmp").glob(f"{top.name}-*"),
            Path("/tmp").glob(_PLANTED),
            Path("/dev/shm").glob(f"{top.name}*"),
        )
        for left in chain.from_iterable(places):
            left.unlink()


class _Runner:
    def __init__(self, top: Path, uid: int, python: Path, environment: dict[str, str]) -> None:
        self._top, self._uid, self._python, self._environment = top, uid, python, environment
        self._secrets = {"the service's environment": new_secret(), "another session": new_secret()}
        self._workspaces = top / "workspaces"
        self._servers = CanaryServers(top)
        self._bystanders: list[Bystander] = []
        self._outside: dict[str, Outside] = {}
        self._others: list[int] = []

    async def run(self, cases: list[Case]) -> Campaign:
        began = time.monotonic()
        await self._servers.start()
        try:
            async with self._service() as service:
                profile, layers = await self._isolation()
                victim = asyncio.create_task(self._call("python", {"code": self._victim()}, "victim", _LONG))
                await self._find_others(service.pid)
                results = await self._run_all(service, cases)
                aftermath = await self._aftermath(service, victim, list(results.values()))
                log = (self._top / "service" / "log").read_text(errors="replace")
        finally:
            await self._servers.stop()
            for bystander in self._bystanders:
                bystander.end()
        return Campaign(
            self._uid,
            self._environment.get("SANDBOX_PROFILE", "auto"),
            profile,
            layers,
            results,
            aftermath,
            time.monotonic() - began,
            log,
        )

    # The service.

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[subprocess.Popen[bytes]]:
        home = self._top / "service"
        for folder in (home, self._workspaces):
            folder.mkdir(mode=0o755)
            if os.geteuid() == 0:
                os.chown(folder, self._uid, self._uid)
        self._database = home / "sandbox.db"
        self._http, self._port = free_port(), free_port()
        (home / "log").touch()
        environment = {
            "PATH": os.defpath,
            "SANDBOX_PORT": str(self._http),
            "SANDBOX_GRPC_PORT": str(self._port),
            "SANDBOX_WORKSPACES_DIR": str(self._workspaces),
            "SANDBOX_DB_PATH": str(self._database),
            "SANDBOX_WORKSPACE_MAX_FILES": "300",
            "PAGI_TEST_SECRET": self._secrets["the service's environment"],
            **self._environment,
        }
        forgotten = self._top / "forgotten.txt"
        forgotten.write_text(self._secrets["the service's environment"])
        forgotten.chmod(0o644)
        with open(home / "log", "wb") as log, open(forgotten, "rb") as descriptor:
            service = subprocess.Popen(
                [*as_user(self._uid), str(self._python), "-m", "pagi_sandbox"],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Forgotten in the service, as by a library that opens files without O_CLOEXEC.
                pass_fds=(descriptor.fileno(),),
            )
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
                self._stub = sandbox_pb2_grpc.ToolServiceStub(channel)
                async with asyncio.timeout(20):
                    while not await self._answers():
                        assert service.poll() is None, (home / "log").read_text()[-3000:]
                        await asyncio.sleep(0.05)
                # Its own processes, when no call runs.
                self._own = len(list(descendants(service.pid)))
                [self._fork_server, *_] = descendants(service.pid)
                yield service
        except Exception as error:
            error.add_note((home / "log").read_text(errors="replace")[-3000:])
            raise
        finally:
            service.terminate()
            try:
                service.wait(10)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()

    async def _answers(self) -> bool:
        try:
            await self._stub.ListTools(pb.ListToolsRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def _isolation(self) -> tuple[str, frozenset[str]]:
        """The profile, and the layers: those that the service names, and what a look at a call's user adds."""
        told = await self._stub.GetIsolation(pb.GetIsolationRequest(), timeout=5)
        layers = {layer.name for layer in told.layers if layer.active}
        response, _ = await self._call("python", {"code": "import os; print(os.getuid())"}, "user", {})
        uid = int(response.stdout)
        layers |= {expected.UNPRIVILEGED} if uid != 0 else set()
        layers |= {expected.SESSION_USER} if uid != self._uid else set()
        self._jailed = bool(layers.intersection(expected.FILES))
        return told.profile, frozenset(layers)

    # The calls.

    async def _call(
        self, tool: str, arguments: dict[str, Any], session: str, limits: dict[str, int]
    ) -> tuple[pb.ExecuteToolResponse, float]:
        request = pb.ExecuteToolRequest(
            tool=tool, arguments_json=json.dumps(arguments), session_id=session, limits=pb.Limits(**limits)
        )
        began = time.monotonic()
        # What does not end by itself is not ended by us within this time, so that it is seen to be late.
        deadline = (limits.get("timeout_ms", 0) or LIMITS["timeout_ms"]) / 1000 + 10
        response = await self._stub.ExecuteTool(request, timeout=deadline)
        return response, time.monotonic() - began

    def _victim(self) -> str:
        return _VICTIM.format(secret=self._secrets["another session"])

    async def _find_others(self, service: int) -> None:
        ready = self._workspaces / "t-" / "s-victim" / "ready"
        async with asyncio.timeout(10):
            while not ready.exists():
                await asyncio.sleep(0.02)
        self._others = [pid for pid in descendants(service) if pid != self._fork_server]

    async def _run_all(self, service: subprocess.Popen[bytes], cases: list[Case]) -> dict[str, Result]:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(case: Case) -> Result:
            async with slots:
                return await self._run_one(service, case)

        # Those that last longest first, so that none is left over at the end.
        together = sorted((case for case in cases if not case.alone), key=lambda case: "TIMEOUT" not in case.verdicts)
        results = await asyncio.gather(*(one(case) for case in together))
        results += [await self._run_one(service, case) for case in cases if case.alone]
        return {result.case.name: result for result in results}

    async def _run_one(self, service: subprocess.Popen[bytes], case: Case) -> Result:
        session = case.name.replace("/", "-").replace("_", "-")
        workspace = self._workspaces / "t-" / f"s-{session}"
        outside = Outside.make(self._top / "outside" / session, self._uid)
        self._outside[case.name] = outside
        bystander = Bystander(as_user(self._uid))
        self._bystanders.append(bystander)
        target = {
            "name": case.name,
            "mark": f"{self._top.name}-{session}",
            "secret": str(outside.folder / "secret.txt"),
            "writable": str(outside.folder / "writable.txt"),
            "outside": str(outside.folder),
            "workspaces": str(self._workspaces),
            "workspace": str(workspace),
            "other_workspace": str(self._workspaces / "t-" / "s-victim"),
            "database": str(self._database),
            "beat": "beat",
            "service": service.pid,
            "fork_server": self._fork_server,
            "bystander": bystander.pid,
            "others": self._others,
            "tcp": self._servers.tcp,
            "udp": self._servers.udp,
            "unix": self._servers.unix,
            "unix_datagrams": self._servers.unix_datagrams,
            "abstract": self._servers.abstract,
            "service_port": self._port,
        }
        result = Result(case)
        code = _PRELUDE.format(probe=_PROBE, target=target) + case.text
        bystander.remember()
        meanwhile = asyncio.create_task(self._meanwhile(case, session, result))
        try:
            limits = case.all_limits
            response, seconds = await self._call("python", {"code": code}, session, limits)
            self._take(result, response)
            if seconds > limits["timeout_ms"] / 1000 + _LATE_S:
                result.harm.append(f"it lasted {seconds:.1f} s")
            result.milliseconds = seconds * 1000
        except grpc.aio.AioRpcError as error:
            # FAILED_PRECONDITION: a tool is not run with less isolation than it needs.
            result.verdict, result.error = error.code().name, error.details() or ""
        finally:
            meanwhile.cancel()
            await asyncio.wait({meanwhile})
        await self._look(result, workspace, bystander)
        for tool, arguments in case.then:
            await self._follow(tool, dict(arguments), session, result)
        result.harm += outside.changes()
        return result

    def _take(self, result: Result, response: pb.ExecuteToolResponse) -> None:
        result.verdict = pb.Verdict.Name(response.verdict).removeprefix("VERDICT_")
        result.error = response.error
        result.text = f"{response.stdout}\n{response.stderr}\n{response.output_json}\n{response.error}"
        for line in response.stdout.splitlines():
            if line.startswith("ABUSE ["):
                kind, what, detail = json.loads(line.removeprefix("ABUSE "))
                result.told.append((kind, what, detail))
        self._search(result, result.text)
        if len(response.stdout.encode()) + len(response.stderr.encode()) > 4 * LIMITS["output_bytes"]:
            result.harm.append("more output came back than was allowed")
        if response.profile and "L9" in response.profile:
            result.harm.append("the profile was forged")

    def _search(self, result: Result, text: str) -> None:
        secrets = {**self._secrets, "a file outside": self._outside[result.case.name].secret}
        result.harm += [f"a secret of {whose} came back" for whose, secret in secrets.items() if secret in text]

    async def _look(self, result: Result, workspace: Path, bystander: Bystander) -> None:
        """What it left behind and did to others."""
        deadline = time.monotonic() + 1.0
        while (left := processes_in(workspace)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if left:
            result.harm.append(f"{len(left)} processes live on")
        beat = workspace / "beat"
        if beat.exists():
            size = beat.stat().st_size
            await asyncio.sleep(0.2)
            if beat.stat().st_size != size:
                result.harm.append("a daemon goes on writing")
        if Path("/dev/shm", f"{self._top.name}-{workspace.name.removeprefix('s-')}").exists():
            result.harm.append("memory of the machine outlives the call")
        result.harm += bystander.harm()
        result.harm += self._servers.reached_by(result.case.name)

    async def _meanwhile(self, case: Case, session: str, result: Result) -> None:
        while case.during:
            for tool, arguments in case.during:
                await self._follow(tool, dict(arguments), session, result)

    async def _follow(self, tool: str, arguments: dict[str, Any], session: str, result: Result) -> None:
        """A file tool on what the program left, and the same by the service's own calls for files."""
        if tool == "read_file":
            await self._typed(result, f"DownloadFile {arguments}", self._download(session, arguments["path"], result))
        if tool == "list_files":
            await self._typed(result, "ListFiles", self._list(session, result))
        await self._typed(result, f"{tool} {arguments}", self._use(tool, arguments, session, result))

    async def _typed(self, result: Result, what: str, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            if error.code().name not in {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"}:
                result.wrong.append(f"{what[:80]}: {error.code().name} {error.details()}")

    async def _download(self, session: str, path: str, result: Result) -> None:
        size = 0
        async for part in self._stub.DownloadFile(pb.DownloadFileRequest(session_id=session, path=path), timeout=10):
            self._search(result, part.data.decode(errors="replace"))
            size += len(part.data)
            if size > 64 << 20:
                break

    async def _list(self, session: str, result: Result) -> None:
        listed = await self._stub.ListFiles(pb.ListFilesRequest(session_id=session), timeout=10)
        self._search(result, str(listed)[:1_000_000])

    async def _use(self, tool: str, arguments: dict[str, Any], session: str, result: Result) -> None:
        response, seconds = await self._call(tool, arguments, session, {"timeout_ms": 3000})
        verdict = pb.Verdict.Name(response.verdict).removeprefix("VERDICT_")
        if verdict not in {"OK", "FAILED", "DISK"}:
            result.wrong.append(
                f"{tool} {str(arguments)[:60]} ended with {verdict} {response.error[:200]}, {seconds:.1f} s"
            )
        self._search(result, response.output_json + response.stdout + response.error)

    # Afterwards.

    async def _aftermath(
        self, service: subprocess.Popen[bytes], victim: asyncio.Task[Any], results: list[Result]
    ) -> list[str]:
        found = []
        if victim.done():
            found.append(f"the call of another session was ended: {victim}")
        victim.cancel()
        await asyncio.wait({victim})
        if service.poll() is not None:
            return [*found, f"the service was ended: {service.returncode}"]
        response, _ = await self._call("math", {"expression": "6 * 7"}, "after", {})
        if '"result": 42' not in response.output_json:
            found.append(f"the service does not work any more: {response.error}")
        drawn = [(await self._call("python", {"code": _DRAW}, "draw", {}))[0].stdout for _ in range(4)]
        if len(set(drawn)) < len(drawn):
            found.append(f"calls draw the same random numbers: {drawn}")
        found += await self._residues()
        if next(descendants(service.pid), 0) != self._fork_server:
            found.append("the fork server was replaced")
        deadline = time.monotonic() + 3.0
        while len(left := list(descendants(service.pid))) > self._own and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if len(left) > self._own:
            found.append(f"{len(left)} processes where there were {self._own}: {[_shown(pid) for pid in left]}")
        known = {service.pid, *(one.pid for one in self._bystanders)}
        strays = [pid for pid in _children_of(os.getpid()) if pid not in known and _came_from(pid, self._top)]
        if strays:
            found.append(f"processes that left the service: {[_shown(pid) for pid in strays]}")
        for result in results:
            late = [one for one in self._outside[result.case.name].changes() if one not in result.harm]
            result.harm += late
        return found

    async def _residues(self) -> list[str]:
        """What calls of one session find of another's: the folder for temporary files is everybody's first thought."""
        for number in range(4):
            await self._call("python", {"code": _PLANT}, f"planter-{number}", {})
        # At once, so that every place where a call can run has one.
        calls = [self._call("python", {"code": _FIND}, f"finder-{number}", {}) for number in range(8)]
        seen = [response.stdout for response, _ in await asyncio.gather(*calls)]
        found = [f"a call found what another session had left: {one[:200]}" for one in seen if _PLANTED in one]
        return found if self._jailed else []


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children_of(pid: int) -> list[int]:
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def _came_from(pid: int, top: Path) -> bool:
    return str(top) in _shown(pid) or "pagi_sandbox.zygote" in _shown(pid)


def _shown(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "?"
