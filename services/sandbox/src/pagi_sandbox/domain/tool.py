"""What a tool is. Imports nothing heavy: the fork server loads it, and packages with tools do."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Effects(enum.Enum):
    """What a repeat of a call means."""

    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    EFFECTFUL = "effectful"


class Permission(enum.Enum):
    """What a tool may need beside a process of its own."""

    WORKSPACE_READ = "workspace-read"
    WORKSPACE_WRITE = "workspace-write"
    NETWORK = "network"
    SUBPROCESS = "subprocess"
    # It runs in the service, or in a server of its own that the operator has configured.
    SERVICE = "service"


PROFILES = ("L0", "L1", "L2", "L3")


class ToolFailedError(Exception):
    """A tool could not do what was asked. The caller gets a result with verdict FAILED, not an error.

    The message is read by people and by the model: what is wrong, and what to do instead.
    """


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know about its call.

    Attributes:
        workspace: the session's directory; inside the child process it is the current one.
        session_id: whose workspace that is.
        effect_id: names the effect, "<run_id>/<step>/<call>"; may be empty.
        tenant: whose call it is; empty where there is one tenant only.
        trace_id: joins what the tool stores with the run.
        configuration: what the operator has set for this tool alone.
    """

    workspace: Path
    session_id: str = ""
    effect_id: str = ""
    tenant: str = ""
    trace_id: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)


class Describes(Protocol):
    """What every tool says of itself; ListTools shows exactly this.

    A tool may also say, as attributes: `permissions`, a tuple of Permission; `requires_approval`, where a person has
    to allow each call; `minimum_profile`, one of PROFILES, "L1" where it says nothing; `version`, a text.
    Of the built-in tools also `pure`: it is a function of its arguments, runs no code of others and touches neither
    files nor network, so that one child may serve many calls.
    """

    @property
    def name(self) -> str:
        """Lower case letters, digits, "_" and ".", at most 64."""

    @property
    def description(self) -> str:
        """For the model: what the tool does and when to use it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the arguments object."""

    @property
    def effects(self) -> Effects:
        """What a repeat of a call means."""


class Tool(Describes, Protocol):
    """A tool that runs in a child process of its own."""

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Does the work, in the child.

        Args:
            arguments: they fit `parameters`.
            context: what the call is about.

        Returns:
            The answer; json.dumps must accept it.

        Raises:
            ToolFailedError: what was asked cannot be done.
        """


class ServiceTool(Describes, Protocol):
    """A tool that runs in the service.

    Only for tools that need something which no tool process may hold: the service's database, or the
    address (one day the key) of a provider. Its code is ours, never a package's and never a model's; what
    it does with arguments is a query or a request, not a computation. Everything else is a Tool.
    """

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Does the work; cancelled when the call is cancelled or out of time.

        Raises:
            ToolFailedError: what was asked cannot be done.
        """
