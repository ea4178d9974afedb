"""Hostile MCP servers and hostile command lines, as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from abuse.campaign import ORDINARY_UIDS, SUMMARY
from abuse.expected import CASES, CGROUPS, FILES, LANDLOCK, NAMESPACES, SCOPE, SECCOMP, SESSION_USER, Case
from abuse.hostile_service import HERE, HostileService, hostile_service, told
from abuse.test_abuse import can_be
from pagi.sandbox.v1 import sandbox_pb2 as pb

SERVER_USER = "user per server"
OTHERS = (LANDLOCK, NAMESPACES, SERVER_USER)
# Whose programs a server runs too: what they try has nothing to do with who asked for it.
_KINDS = ("secrets", "network", "kernel", "privilege", "metadata")
_NOT_FOR_SERVERS = {
    # Their parent is the server, whose variables and descriptors are its own; server/environments leaves it out.
    "secrets/environment_of_everyone",
    "secrets/environment_of_service",
    "secrets/reopened_descriptors",
    # They look for what only a call has: its channel, its jailer, calls beside it.
    "secrets/jailer",
    "secrets/spare_descriptors",
    "secrets/shared_input_of_next",
    "network/descriptors_over_channel",
    "privilege/signal_by_other_calls",
    "privilege/signal_other_calls",
    # Nobody has to look into a server while it runs.
    "privilege/closes_itself",
}
SERVER_CASES = (
    *(case for case in CASES if case.name.split("/")[0] in _KINDS and case.name not in _NOT_FOR_SERVERS),
    Case("server/configuration", FILES),
    Case("server/descriptors"),
    Case("server/other_server", FILES),
    Case("server/environments", OTHERS),
    Case("server/keeper", (NAMESPACES, SCOPE)),
    Case("server/service_files", FILES),
    Case("server/fork_bomb", (CGROUPS, NAMESPACES, SERVER_USER)),
    Case("server/memory", (CGROUPS,)),
    Case("server/large_file"),
    Case("server/links_for_the_service"),
    Case("server/left_behind", (NAMESPACES, SCOPE)),
)


@dataclass
class Line:
    """A command line: what may end it and which layers, any of which holds it."""

    name: str
    closed_by: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ("OK",)
    limits: dict[str, int] = field(default_factory=dict)


_SHORT = {"timeout_ms": 700}
SHELL_CASES = (
    Line("read_outside", FILES),
    Line("write_outside", FILES),
    # It ends its own call too, where nothing but that is in reach.
    Line("other_processes", (SCOPE, NAMESPACES), ("OK", "CRASH")),
    Line("network", (SECCOMP,)),
    Line("become_root", (SECCOMP,)),
    Line("fork_bomb", (CGROUPS, NAMESPACES, SESSION_USER), ("OK", "TIMEOUT", "PROCESSES"), {"timeout_ms": 1500}),
    Line("background", (SCOPE, NAMESPACES)),
    Line("ignores_signals", (), ("TIMEOUT",), _SHORT),
    Line("flood", (), ("OUTPUT",)),
    Line("fill_disk", (), ("OK", "DISK")),
    Line("raise_limits", ("unprivileged",)),
    Line("ordinary"),
)


@pytest.fixture(scope="module")
def attacked(python: Path) -> dict[str, tuple[dict[str, list[str]], list[str]]]:
    """What was done as each user: faults by program, and what a missing layer let through."""
    ordinary = ORDINARY_UIDS[-1] if os.geteuid() == 0 else os.geteuid()
    users = {"root": 0, "user": ordinary} if can_be("root") else {"user": ordinary}

    async def all_of_them() -> list[tuple[dict[str, list[str]], list[str]]]:
        return await asyncio.gather(*(_attack(uid, python) for uid in users.values()))

    return dict(zip(users, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("user", ["root", "user"])
def test_hostile_servers_and_command_lines_are_held(
    attacked: dict[str, tuple[dict[str, list[str]], list[str]]], user: str, request: pytest.FixtureRequest
) -> None:
    if user not in attacked:
        pytest.skip("only root can start the sandbox as root; the tests do not run as root")
    faults, let_through = attacked[user]
    lines = [f"as {user}: {len(SERVER_CASES)} programs in an MCP server and {len(SHELL_CASES)} command lines"]
    lines += [f"  let through: {one}" for one in let_through]
    request.config.stash.setdefault(SUMMARY, []).extend(lines)
    assert faults == {}


def test_every_program_is_in_a_table() -> None:
    assert {f"server/{path.stem}" for path in (HERE / "server_programs").glob("*.py")} == {
        case.name for case in SERVER_CASES if case.name.startswith("server/")
    }
    lines = {path.stem for path in (HERE / "shell_programs").glob("*.sh")}
    assert lines - {"prelude"} == {line.name for line in SHELL_CASES}
    assert {case.name for case in CASES} >= _NOT_FOR_SERVERS


async def _attack(uid: int, python: Path) -> tuple[dict[str, list[str]], list[str]]:
    faults: dict[str, list[str]] = {}
    let_through: list[str] = []

    def judge(name: str, closed_by: tuple[str, ...], layers: frozenset[str], found: list[str]) -> None:
        if found and closed_by and not layers.intersection(closed_by):
            let_through.append(f"{name} (needs {' or '.join(closed_by)})")
        elif found:
            faults[name] = found

    async with hostile_service(uid, python) as service:
        unprivileged = {"unprivileged"} if uid != 0 else set()
        servers = service.server_layers | ({"unprivileged"} if SERVER_USER in service.server_layers else unprivileged)
        sessions = service.layers | ({"unprivileged"} if SESSION_USER in service.layers else unprivileged)
        for case in SERVER_CASES:
            found = await _by_server(service, case.name)
            # Of a server, its user is what a session's is of a call.
            closed_by = tuple(SERVER_USER if one == SESSION_USER else one for one in case.closed_by)
            judge(case.name, closed_by, frozenset(servers), found)
        for line in SHELL_CASES:
            judge(f"shell/{line.name}", line.closed_by, frozenset(sessions), await _by_shell(service, line))
        faults |= {"afterwards": after} if (after := await _aftermath(service)) else {}
    return faults, let_through


async def _by_server(service: HostileService, name: str) -> list[str]:
    outside = service.outside()
    home = service.top / "service" / "data" / "mcp" / "hostile"
    target = service.targets(name, outside, home)
    response = await service.call(
        "hostile.attack", {"program": name, "target": target, "seconds": 8}, timeout_ms=15_000
    )
    text = response.output_json + response.error
    printed = json.loads(json.loads(response.output_json)["text"])["printed"] if response.output_json else ""
    found = [f"{what}: {detail}" for kind, what, detail in told(printed) if kind == "got"]
    if not response.output_json:
        # It ended the server, which is started anew.
        await _until_back(service)
        found += await _still_beats(home)
    return found + service.harm(name, outside, text)


async def _until_back(service: HostileService) -> None:
    for _ in range(10):
        response = await service.call("hostile.attack", {"program": "nothing", "target": {}, "seconds": 1})
        if response.output_json:
            return
        await asyncio.sleep(0.2)


async def _still_beats(place: Path) -> list[str]:
    """Whether a daemon writes on."""
    beat = place / "beat"
    if not beat.exists():
        return []
    size = beat.stat().st_size
    await asyncio.sleep(0.3)
    return ["a daemon goes on writing"] if beat.stat().st_size != size else []


async def _by_shell(service: HostileService, line: Line) -> list[str]:
    outside = service.outside()
    session = line.name.replace("_", "-")
    workspace = service.workspaces / f"s-{session}"
    target: dict[str, Any] = service.targets(f"shell-{line.name}", outside, workspace)
    known = "".join(
        f"{name}={shlex.quote(str(value))}\n" for name, value in target.items() if name not in {"others", "abstract"}
    )
    texts = ((HERE / "shell_programs" / f"{one}.sh").read_text() for one in ("prelude", line.name))
    limits = {"memory_mb": 256, "output_bytes": 65_536, "disk_mb": 16, "processes": 32, "timeout_ms": 8000}
    command = known + "".join(texts)
    response = await service.call("shell", {"command": command}, session, **(limits | line.limits))
    text = response.stdout + response.stderr + response.error
    verdict = pb.Verdict.Name(response.verdict).removeprefix("VERDICT_")
    found = [f"{what}" for kind, what, _ in told(response.stdout) if kind == "got"]
    if verdict not in line.verdicts:
        found.append(f"ended with {verdict}: {response.error[-300:]} {response.stderr[-300:]}")
    if line.name == "ordinary" and not any(kind == "ok" for kind, _, _ in told(response.stdout)):
        found.append(f"does not work: {text[-500:]}")
    return found + await _still_beats(workspace) + service.harm(target["name"], outside, text)


async def _aftermath(service: HostileService) -> list[str]:
    """All is well, and the other server was never disturbed."""
    response = await service.call("math", {"expression": "6 * 7"})
    found = [] if '"result": 42' in response.output_json else [f"the service does not work any more: {response.error}"]
    response = await service.call("victim.attack", {"program": "nothing", "target": {}, "seconds": 1})
    found += [] if response.output_json else [f"another server does not work any more: {response.error}"]
    log = (service.top / "service.log").read_text(errors="replace")
    found += ["another server was started anew"] if "MCP server 'victim' failed" in log else []
    return found
