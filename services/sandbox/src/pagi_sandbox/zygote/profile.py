"""Finds the highest profile that this system grants, by doing: each is tried with the canary in a real jail."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pagi_sandbox.zygote import canary, cgroups, landlock, scratch, wire
from pagi_sandbox.zygote.jail import Plan
from pagi_sandbox.zygote.seccomp import FilterOptions, build
from pagi_sandbox.zygote.slots import Slots

# A machine may be busy, and what is slow is not what does not hold.
_PATIENCE_S = 12.0
GET_NAMESPACES = (
    "they need root with CAP_SYS_ADMIN, or user namespaces in which a mount works: Docker's default profile and "
    "Ubuntu's kernel.apparmor_restrict_unprivileged_userns=1 forbid those"
)


@dataclass(slots=True)
class Found:
    """What was found.

    Attributes:
        plan: the layers that every call gets.
        slots: made, with the control groups that the plan needs.
        layers: name, active, detail for each.
        observations: attempt, held, detail of the canary in the plan that was taken.
    """

    plan: Plan
    slots: Slots
    layers: list[tuple[str, bool, str]] = field(default_factory=list)
    observations: list[tuple[str, bool, str]] = field(default_factory=list)


def find(tools: Mapping[str, Any], options: Mapping[str, Any]) -> Found:
    """The highest profile up to `options["profile"]` in which the canary is held and a tool can work.

    Args:
        tools: by name.
        options: "profile" (L0 to L3, or auto), "users" (first and last, or none), "cgroup" (a delegated folder, or
            empty).
    """
    folder = scratch.make()
    highest = 3 if options["profile"] == "auto" else int(options["profile"][1:])
    groups, no_groups = find_groups(options["cgroup"]) if highest >= 3 else (None, "not asked for (SANDBOX_PROFILE)")
    slots = Slots(tools, groups)
    version = landlock.abi()
    filtered = bool(build(FilterOptions()))
    own_user, no_user = find_users(options["users"])
    base = Plan("L1", version, filtered, own_user=own_user, scratch=folder)
    why: dict[str, str] = {}
    taken = Plan("L0", version, filtered, own_user=own_user, scratch=folder)
    seen: list[Any] = []
    if highest and not version:
        why["landlock"] = "the kernel has no Landlock, or it is not in its lsm= list; Linux 6.12 or newer has ABI 6"
    elif highest and version < landlock.SCOPED and not own_user:
        why["landlock"] = f"ABI {version}; an ordinary user needs ABI 6 (Linux 6.12), root any"
    elif highest and not filtered:
        why["seccomp"] = f"there is no table of system calls for {platform.machine()}"
    elif highest:
        candidates = [replace(base, profile="L3", namespaces=True, groups=True)] if groups is not None else []
        candidates += [replace(base, profile="L2", namespaces=True)] if highest >= 2 else []
        candidates += [replace(base, groups=True)] if groups is not None else []
        candidates += [base]
        # An interpreter below a folder like /root, mode 0700, is out of reach for other users.
        candidates += [replace(one, own_user=False) for one in candidates[-2:] if own_user and not one.namespaces]
        for number, plan in enumerate(candidates):
            fault, seen = try_out(slots, plan, number, options)
            if not fault:
                taken = plan
                break
            why["namespaces" if plan.namespaces else "own_user" if plan.own_user else "landlock"] = fault
    layers = _layers(taken, {"own_user": no_user, "groups": no_groups, **why}, groups, highest)
    return Found(taken, slots, layers, [(name, held, detail) for name, held, detail in seen])


def find_groups(delegated: str) -> tuple[cgroups.Groups | None, str]:
    """Where control groups can be made; or why nowhere, and how to get them."""
    try:
        return cgroups.find(delegated), ""
    except OSError as error:
        how = "run as root, or name a delegated cgroup v2 folder in SANDBOX_CGROUP"
        return None, f"{error.strerror or error}; {how}"


def find_users(users: list[int]) -> tuple[bool, str]:
    """Whether each session's tools can have a user of their own; or why not."""
    if os.geteuid() != 0:
        return False, "the service is not root, so every tool runs as the service's user"
    if not users:
        return False, "SANDBOX_UIDS is empty"
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = map(int, line.split())
        if inside <= users[0] and users[1] < inside + count:
            break
    else:
        return False, f"the users {users[0]} to {users[1]} do not exist in this user namespace; see SANDBOX_UIDS"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            # CAP_CHOWN 0, CAP_SETGID 6, CAP_SETUID 7.
            if int(line.split()[1], 16) & 0b11000001 == 0b11000001:
                return True, ""
            return False, "root without CAP_SETUID, CAP_SETGID and CAP_CHOWN"
    return False, "/proc/self/status does not tell the capabilities"


def try_out(slots: Slots, plan: Plan, number: int, options: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """What is wrong with the plan, empty where nothing is; and what the canary saw."""
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    work, their_work = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outside = Path(plan.scratch, "outside")
    outside.mkdir()
    with control, their_control, work, their_work, _Listeners() as listeners:
        pid = 0
        try:
            pid = slots.open(plan, 1_000_000 + number, wire.JAIL, their_control.fileno(), their_work.fileno())
            their_control.close()
            their_work.close()
            return _sing(plan, control, work, outside, listeners, options)
        except (OSError, EOFError, ValueError) as error:
            return f"{type(error).__name__}: {error}", []
        finally:
            control.close()
            work.close()
            if pid:
                os.waitpid(pid, 0)
                slots.reaped(pid)
            scratch.remove(str(outside))


class _Listeners:
    """Somebody to connect to."""

    def __enter__(self) -> dict[str, Any]:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        name = f"pagi-sandbox-canary-{os.getpid()}"
        self._unix.bind("\0" + name)
        self._unix.listen()
        return {"port": self._tcp.getsockname()[1], "abstract": name}

    def __exit__(self, *_: object) -> None:
        self._tcp.close()
        self._unix.close()


def _sing(
    plan: Plan,
    control: socket.socket,
    work: socket.socket,
    outside: Path,
    listeners: dict[str, Any],
    options: Mapping[str, Any],
) -> tuple[str, list[Any]]:
    secret, workspace = outside / "secret", outside / "workspace"
    secret.write_text("secret")
    # Readable for all, so that it is the jail that holds and not the file's mode.
    outside.chmod(0o777)
    workspace.mkdir(mode=0o700)
    call, their_call = socket.socketpair()
    orders = {
        "workspace": str(workspace),
        "user": options["users"][0] if plan.own_user else 0,
        "memory_bytes": 512 * 2**20,
        "cpu_seconds": 5,
        "disk_bytes": 2**20,
        "processes": 16,
        "writes": True,
    }
    targets = {"file": str(secret), "folder": str(outside), "process": os.getpid(), **listeners}
    request = {"tool": canary.NAME, "arguments": targets, "configuration": {}}
    request |= dict.fromkeys(("session_id", "effect_id", "tenant", "trace_id"), "")
    data = json.dumps(request).encode()
    with call, their_call, Path(os.devnull).open("wb") as nowhere:
        # The first child of its slot.
        packet = wire.HEADER.pack(wire.RUN, 1) + json.dumps(orders).encode()
        socket.send_fds(work, [packet], [their_call.fileno(), nowhere.fileno(), nowhere.fileno()])
        their_call.close()
        call.settimeout(_PATIENCE_S)
        call.sendall(wire.LENGTH.pack(len(data)) + data)
        answer = b"".join(iter(lambda: call.recv(65536), b""))
    if not answer.startswith(wire.OK):
        return f"the canary does not sing: {answer[1:200].decode(errors='replace') or 'no answer'}", []
    sung = json.loads(answer[1:])
    through = [name for name, held, _ in sung["seen"] if not held]
    fault = sung["works"] or (f"not held: {', '.join(through)}" if through else "")
    return fault, sung["seen"]


def _layers(
    plan: Plan, why: dict[str, str], groups: cgroups.Groups | None, highest: int
) -> list[tuple[str, bool, str]]:
    asked = "" if highest >= 2 else "not asked for (SANDBOX_PROFILE)"
    tried = f"{why['namespaces']}; {GET_NAMESPACES}" if "namespaces" in why else ""
    no_namespaces = asked or tried or "not tried: the layers below it are missing"
    landlocked = f"ABI {plan.landlock}: files, TCP ports, signals and abstract sockets"
    kinds = "mount, pid, net, ipc, uts, cgroup" + ("" if os.geteuid() == 0 else ", user")
    where = f"totals for memory and processes, in {groups.where}" if groups else ""
    exact = plan.profile != "L0" and (plan.namespaces or plan.landlock >= landlock.SCOPED)
    found = (
        ("process", True, "own session, closed descriptors, clean environment, resource limits", ""),
        ("no_new_privs", True, "and no capabilities", ""),
        ("landlock", plan.landlock > 0, landlocked, why.get("landlock", "")),
        ("seccomp", plan.seccomp, "system calls by name; sockets are denied", why.get("seccomp", "")),
        ("scoped kill", exact, "one kill reaches a call's whole tree, and nothing else", "the tree is ended by turns"),
        ("user per session", plan.own_user, "tools of two sessions are different users", why.get("own_user", "")),
        ("namespaces", plan.namespaces, kinds, no_namespaces),
        ("cgroups", plan.groups, where, why.get("groups", "")),
    )
    return [(name, active, detail if active else missing) for name, active, detail, missing in found]
