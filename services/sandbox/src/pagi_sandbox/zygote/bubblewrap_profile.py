"""Finds what bubblewrap gives here: by starting it, and then with the canary in it, as for the native jail."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pagi_sandbox.zygote import landlock, scratch
from pagi_sandbox.zygote.jail import Bubblewrap, Plan
from pagi_sandbox.zygote.loading import LoadedTools
from pagi_sandbox.zygote.profile import Found, find_groups, find_users, try_out
from pagi_sandbox.zygote.seccomp import FilterOptions, build
from pagi_sandbox.zygote.slots import Slots

NAME = "bubblewrap"
# Every option that is not as old as bubblewrap itself.
_TRIAL = (
    "--unshare-all --die-with-parent --as-pid-1 --hostname sandbox --ro-bind / / --size 65536 --tmpfs /tmp "
    "--remount-ro /tmp --proc /proc /bin/true"
)
_HOW = (
    "it needs user namespaces in which a mount works (kernel.unprivileged_userns_clone=1, user.max_user_namespaces "
    "over 0, an AppArmor profile that allows bwrap userns, or a container that permits them); or leave SANDBOX_BACKEND "
    "at native"
)


class CannotWorkError(Exception):
    """bubblewrap isolates nothing here; the message says why, and how to get it."""


def find(tools: LoadedTools, options: Mapping[str, Any]) -> Found:
    """What every call gets: L3 where control groups are to be had and not capped, else L2.

    Args:
        tools: which are loaded again inside.
        options: "users", "cgroup", "profile" as for the native jail; "path", "shell", "preload", "monty" of the tools;
            "programs", where bwrap is looked for.

    Raises:
        CannotWorkError: it is not installed, not allowed, or does not hold the canary.
    """
    # Not where it is not needed: with the libraries for archives that it loads, each fork is a tenth slower.
    import shutil

    program = shutil.which("bwrap", path=options["programs"])
    if program is None:
        raise CannotWorkError(
            f"SANDBOX_BACKEND=bubblewrap needs the program bwrap, which is not on {options['programs']}; install the "
            "package bubblewrap, or leave SANDBOX_BACKEND at native"
        )
    own_user, no_user = find_users(options["users"])
    if os.geteuid() == 0 and not own_user:
        raise CannotWorkError(f"SANDBOX_BACKEND=bubblewrap never runs as root, and {no_user}; see SANDBOX_UIDS")
    if not build(FilterOptions()):
        raise CannotWorkError("SANDBOX_BACKEND=bubblewrap: there is no table of system calls for this processor")
    status, said = _started([program, *_TRIAL.split()], options["users"][0] if own_user else 0)
    if status:
        raise CannotWorkError(f"SANDBOX_BACKEND=bubblewrap: {said or f'{program} ended with {status}'}; {_HOW}")
    return _in_it(program, tools, options, own_user=own_user, no_user=no_user)


def _in_it(program: str, tools: LoadedTools, options: Mapping[str, Any], *, own_user: bool, no_user: str) -> Found:
    _, version = _started([program, "--version"], 0)
    source = {key: options[key] for key in ("path", "shell", "preload", "monty")} | {"references": tools.references}
    capped = options["profile"] not in {"auto", "L3"}
    groups, no_groups = (None, "not asked for (SANDBOX_PROFILE)") if capped else find_groups(options["cgroup"])
    slots = Slots(tools.by_name, groups)
    plan = Plan(
        "L2",
        landlock.abi(),
        seccomp=True,
        own_user=own_user,
        scratch=scratch.make(),
        bubblewrap=Bubblewrap(program, json.dumps(source)),
    )
    candidates = [replace(plan, profile="L3", groups=True)] if groups is not None else []
    fault = ""
    for number, one in enumerate([*candidates, plan]):
        fault, seen = try_out(slots, one, number, options)
        if not fault:
            layers = _layers(one, version, no_user, fault or no_groups, groups.where if groups else "")
            return Found(one, slots, layers, [(name, held, detail) for name, held, detail in seen])
    slots.end()
    scratch.remove(plan.scratch)
    raise CannotWorkError(f"SANDBOX_BACKEND=bubblewrap: no tool can be run in it: {fault}")


def _layers(plan: Plan, version: str, no_user: str, no_groups: str, where: str) -> list[tuple[str, bool, str]]:
    no_landlock = "the kernel has no Landlock; bubblewrap's file system holds without it"
    return [
        ("process", True, "own session, closed descriptors, clean environment, resource limits"),
        ("no_new_privs", True, "and no capabilities"),
        ("landlock", plan.landlock > 0, f"ABI {plan.landlock}, inside" if plan.landlock else no_landlock),
        ("seccomp", plan.seccomp, "system calls by name; sockets are denied"),
        ("scoped kill", True, "with bwrap ends its process 1, and with that the call's whole tree"),
        ("user per session", plan.own_user, "tools of two sessions are different users" if plan.own_user else no_user),
        ("namespaces", True, f"{version}: user, mount, pid, net, ipc, uts, cgroup"),
        ("cgroups", plan.groups, f"totals for memory and processes, in {where}" if plan.groups else no_groups),
    ]


def _started(command: list[str], user: int) -> tuple[int, str]:
    """Runs a program as a user (0: as we are), for its status and what it says."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            os.execve(command[0], command, {})  # noqa: S606 the program that was asked for
        except OSError:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(127)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        said = " ".join(pipe.read(2000).split())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said
