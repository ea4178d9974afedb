"""What a child is told about its call: the orders, which the service decides, and the request, which a model wrote."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass

from pagi_sandbox.domain.model import ToolCall, ToolSpec
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.zygote import wire

_PROCESSES = 512


@dataclass(frozen=True, slots=True)
class Users:
    """User numbers that no account has, for the sessions' tools.

    Attributes:
        first: of them.
        last: of them too.
        place: whose sessions these are: two sandboxes of a machine give sessions of one name different users.
    """

    first: int
    last: int
    place: str = ""

    def of_session(self, tenant: str, session_id: str) -> int:
        """The same for a session at all times, so that its files stay its own.

        Two sessions may meet in one number (the default range has 200 million): then the other layers still part them.
        """
        name = f"{tenant}\0{session_id}".encode("utf-8", "backslashreplace")
        digest = hashlib.blake2b(name, digest_size=8, key=self.place.encode()[:64]).digest()
        return self.first + int.from_bytes(digest, "big") % (self.last - self.first + 1)


def orders_of(call: ToolCall, spec: ToolSpec, users: Users | None, max_file_bytes: int) -> bytes:
    """Where and with how much the call runs; read by the child before it is jailed, so nothing of a model is in it."""
    limits = call.limits
    # Without a bound of its own: every processor may be busy for the whole of the wall time.
    cpu_ms = limits.cpu_ms or limits.timeout_ms * (os.cpu_count() or 1) + 1000
    orders = {
        # Resolved here: in a file system of its own the child could not follow the links of ours.
        "workspace": None if spec.pure else os.path.realpath(call.workspace),
        "user": users.of_session(call.tenant, call.session_id) if users is not None else 0,
        "memory_bytes": limits.memory_mb * 2**20,
        # For each process, as a bound that the kernel keeps; one more, so that the total is what ends a call.
        "cpu_seconds": math.ceil(cpu_ms / 1000) + 1,
        "disk_bytes": limits.disk_mb * 2**20 or max_file_bytes,
        "processes": limits.processes or _PROCESSES,
        "writes": spec.effects is not Effects.READ_ONLY,
    }
    return json.dumps(orders).encode("ascii")


def budget_of(call: ToolCall, max_file_bytes: int) -> bytes:
    """What all processes of the call may use together."""
    limits = call.limits
    disk_bytes = limits.disk_mb * 2**20 or max_file_bytes
    return wire.BUDGET.pack(limits.cpu_ms, limits.memory_mb * 2**20, disk_bytes, limits.processes or _PROCESSES)


def request_of(call: ToolCall) -> bytes:
    """Which tool, with which arguments."""
    request = {
        "tool": call.tool,
        "arguments": call.arguments,
        "session_id": call.session_id,
        "effect_id": call.effect_id,
        "tenant": call.tenant,
        "trace_id": call.trace_id,
        "configuration": dict(call.configuration),
    }
    data = json.dumps(request).encode("ascii")
    return wire.LENGTH.pack(len(data)) + data
