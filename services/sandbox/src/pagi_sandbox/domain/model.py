"""The data that passes between the floors."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pagi_sandbox.domain.tool import Effects


class Verdict(enum.Enum):
    """What ended a call."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    CRASH = "crash"
    DISK = "disk"
    PROCESSES = "processes"
    DENIED = "denied"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Stream(enum.Enum):
    """Where a tool prints."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call; 0 in a request stands for the default.

    Attributes:
        timeout_ms: wall time in milliseconds.
        memory_mb: address space of the tool's process in MiB.
        output_bytes: stdout and stderr together.
        cpu_ms: processor time of the tool's processes together, in milliseconds.
        disk_mb: what the call may add to its workspace and its private /tmp, in MiB.
        processes: processes and threads at once.

    The last three may be 0 in a checked call too: then nothing but the sandbox's own bounds holds.
    """

    timeout_ms: int = 0
    memory_mb: int = 0
    output_bytes: int = 0
    cpu_ms: int = 0
    disk_mb: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as ListTools shows it, and where it comes from.

    Attributes:
        permissions: what it needs beside a process, see Permission.
        requires_approval: a person has to allow each call; asking is the caller's part.
        minimum_profile: the least isolation under which it is run, "L0" to "L3".
        version: changes when the tool's behaviour does.
        pure: it computes on its arguments and touches nothing else, see Tool.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    effects: Effects
    origin: str = "built in"
    permissions: tuple[str, ...] = ()
    requires_approval: bool = False
    minimum_profile: str = "L0"
    version: str = "1"
    pure: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A package's tool that was not taken, and why."""

    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """What a caller asks for, as it came."""

    tool: str
    arguments_json: str
    session_id: str
    limits: Limits = field(default_factory=Limits)
    effect_id: str = ""
    tenant: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A request that was checked: the arguments fit the schema, the limits the operator's maxima.

    `workspace` is made for every tool but the pure ones. `configuration` is what the operator has set for the tool. It
    travels with the call, so that no other tool's process ever holds it.
    """

    tool: str
    arguments: Mapping[str, Any]
    limits: Limits
    workspace: Path
    session_id: str = ""
    effect_id: str = ""
    tenant: str = ""
    trace_id: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in a workspace: its path below it with "/", its IANA media type, its bytes."""

    path: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FileList:
    """Files of a workspace.

    Attributes:
        files: by path.
        used_bytes: of the whole workspace, as the disk counts them.
        quota_bytes: what it may hold.
        truncated: there are more files than are listed.
    """

    files: tuple[Artifact, ...]
    used_bytes: int
    quota_bytes: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended.

    Attributes:
        verdict: what ended it.
        output_json: the tool's answer, a JSON object in ASCII; empty where there is none.
        stdout: what the tool printed, at most the limit; bytes that are not UTF-8 are replaced.
        stderr: the same for errors.
        error: for people and the model; empty where verdict is OK.
        duration_ms: wall time.
        truncated: stdout or stderr was cut at the limit.
        profile: the isolation that the call ran under, e.g. "L2"; empty where it is not known.
        backend: what isolated it, "native" or "bubblewrap"; empty where it had no jail of its own.
        layers: the names of those that were active.
        artifacts: files that the call made or changed in its workspace.
        replayed: this is the result of an earlier call with the same effect id.
    """

    verdict: Verdict
    output_json: str = ""
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    duration_ms: float = 0.0
    truncated: bool = False
    profile: str = ""
    artifacts: tuple[Artifact, ...] = ()
    replayed: bool = False
    backend: str = ""
    layers: tuple[str, ...] = ()


# What tells one state of a file from another: inode, bytes, time of the last change to its content and to itself.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Census:
    """What a workspace holds.

    Attributes:
        used_bytes: as the disk counts them.
        files: the regular files, by path below the workspace.
        fault: why it was not counted whole, for people; empty where it was.
    """

    used_bytes: int
    files: Mapping[str, Stamp]
    fault: str = ""


class EffectName(NamedTuple):
    """Whose effect it is, and which."""

    tenant: str
    effect_id: str


@dataclass(frozen=True, slots=True)
class KnownEffect:
    """What is known of an effect.

    Attributes:
        fingerprint: of the call that it was first used for.
        outcome: how that ended; None where it began and nothing more is known.
    """

    fingerprint: str
    outcome: ToolOutcome | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """Something that stands between a tool and the machine; the detail says what, or why not and how to get it."""

    name: str
    active: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What the canary tried in a jail at the start, and whether the jail held."""

    attempt: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ServerIsolation:
    """What an MCP server runs under that is started here; `running` is false while it is away."""

    server: str
    running: bool
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Isolation:
    """What stands between a tool and the machine at this moment: L0 to L3, see docs/sandbox.md.

    The backend is what isolates: "native" or "bubblewrap".
    """

    profile: str
    layers: tuple[Layer, ...]
    observations: tuple[Observation, ...]
    backend: str = "native"
    servers: tuple[ServerIsolation, ...] = ()

    def active(self) -> tuple[str, ...]:
        """The names of the layers that are active."""
        return tuple(one.name for one in self.layers if one.active)


@dataclass(frozen=True, slots=True)
class Note:
    """A governance note as it is stored; created_at is ISO 8601 in UTC."""

    id: int
    proposal_id: str
    note: str
    created_at: str
    session_id: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One result of a web search."""

    title: str
    url: str
    snippet: str
