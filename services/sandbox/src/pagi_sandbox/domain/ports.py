"""What the domain needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from pagi_sandbox.domain.model import (
    Artifact,
    Census,
    EffectName,
    Isolation,
    KnownEffect,
    Note,
    Stream,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Verdict,
)


class CallWatcher(Protocol):
    """Follows one call while it runs. What it is told comes in the event loop, so it must be quick."""

    def began(self, stop: Callable[[Verdict, str], None]) -> None:
        """The tool is about to run; `stop` ends it with a verdict and a reason, with everything that it started."""

    def printed(self, stream: Stream, data: bytes) -> None:
        """What the tool printed, up to the limit on output."""


class ToolRunner(Protocol):
    """Runs the tools that it names."""

    def tools(self) -> Sequence[ToolSpec]:
        """The tools that it can run; known once it has started."""

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs one call to its end within its limits.

        A cancelled run stops the tool at once, with everything it started. A tool that prints nothing and cannot be
        stopped from outside leaves the watcher alone.

        Raises:
            UnavailableError: the runner is not there; the tool was not started.
        """


class Isolates(Protocol):
    """Says what stands between a tool and the machine."""

    def isolation(self) -> Isolation:
        """What is active now, and what is not."""

    def check_isolation(self, spec: ToolSpec) -> None:
        """Lets a tool pass that has the isolation it needs.

        Raises:
            IsolationError: it has not; names the missing layer and how to get it.
        """


class ArgumentCheck(Protocol):
    """One tool's compiled schema."""

    def parse(self, arguments_json: str) -> Mapping[str, Any]:
        """Reads the arguments.

        Raises:
            ArgumentsError: they are no JSON object or do not fit; names the path of the fault.
        """


class ArgumentSchemas(Protocol):
    """Compiles schemas."""

    def compile(self, spec: ToolSpec) -> ArgumentCheck:
        """The check of a tool's arguments.

        Raises:
            SchemaError: the tool's parameters are no JSON Schema.
        """


class Workspaces(Protocol):
    """One directory for each tenant and session."""

    def directory(self, tenant: str, session_id: str) -> Path:
        """The session's directory, absolute; made where it is missing. It counts as used now."""

    def find(self, tenant: str, session_id: str) -> Path | None:
        """The session's directory; None where there is none."""


class WorkspaceReader(Protocol):
    """Opens what is in workspaces. Paths come as their parts: none is empty, "." or "..", or holds "/" or NUL."""

    async def files(self, workspace: Path, parts: Sequence[str]) -> tuple[Sequence[Artifact], bool]:
        """The regular files below a folder, by path, and whether there are more than these.

        Raises:
            FilePathError: it is no folder, or the path passes a link.
            NoSuchFileError: it is not there.
        """

    def open(
        self, workspace: Path, parts: Sequence[str]
    ) -> AbstractAsyncContextManager[tuple[Artifact, AsyncIterator[bytes]]]:
        """A regular file and its pieces, as long as the context is held.

        Raises:
            FilePathError: it is no regular file, or the path passes a link.
            NoSuchFileError: it is not there.
        """


class WorkspaceCensus(Protocol):
    """Counts what workspaces hold, in bounded time, whatever is in them."""

    async def take(self, workspace: Path) -> Census:
        """What is there now."""

    async def take_after(self, workspace: Path, before: Census) -> tuple[Census, tuple[Artifact, ...]]:
        """What is there now, and the files that are new or changed since then, by path; at most 100 of them."""


class EffectLedger(Protocol):
    """Remembers which effects began and how they ended, for a bounded time and up to a bounded size.

    Every method raises LedgerError where it cannot do its work, unless it says otherwise.
    """

    async def find(self, name: EffectName) -> KnownEffect | None:
        """What is known of an effect. For one that never was, it answers without waiting for anything."""

    async def begin(self, name: EffectName, fingerprint: str) -> None:
        """Notes that it begins. Once this returns, the death of this process does not lose it."""

    async def finish(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """Notes how it ended, as durably. A failure is logged, not raised: the outcome is still to reach its caller."""

    def finish_soon(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """Notes how it ended, without waiting: the death of this process may lose it. Raises nothing."""

    def forget(self, name: EffectName) -> None:
        """It did not begin after all. Raises nothing."""


class CallMeter(Protocol):
    """Counts calls."""

    def started(self) -> None:
        """A call begins to run."""

    def ended(self, tool: str, verdict: str, seconds: float) -> None:
        """A call that had begun is over."""


class NoteStore(Protocol):
    """Keeps governance notes."""

    async def add(self, tenant: str, note: Note) -> tuple[Note, bool]:
        """Stores a note; the same text for the same proposal is kept once.

        Args:
            tenant: whose note it is.
            note: its id is ignored, the store gives it one.

        Returns:
            The note as it is stored, and whether it is new.
        """

    async def of_proposal(self, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
        """The newest `limit` notes on a proposal, oldest first."""
