"""Fakes of the ports, for tests of the sandbox and of packages that bring tools."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.describing import describe
from pagi_sandbox.domain.isolation import check_isolation
from pagi_sandbox.domain.model import (
    Artifact,
    Census,
    EffectName,
    Isolation,
    KnownEffect,
    Layer,
    Note,
    Observation,
    Stream,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Verdict,
)
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.domain.todo_list import TodoItem, TodoListKey
from pagi_sandbox.domain.tool import Effects, Tool, ToolContext, ToolFailedError


class InProcessRunner:
    """A ToolRunner that runs tools in a thread of this process: verdicts without any isolation.

    A tool that does not end keeps its thread, and a crash is a crash of the test: only the real runner shows those.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        """Runs exactly these."""
        self._tools = {tool.name: tool for tool in tools}
        self.calls: list[ToolCall] = []

    def tools(self) -> Sequence[ToolSpec]:
        """What it was given."""
        return [describe(tool, "test") for tool in self._tools.values()]

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """Runs one call."""
        self.calls.append(call)
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        stopped: asyncio.Future[tuple[Verdict, str, str]] = loop.create_future()

        def stop(verdict: Verdict, why: str) -> None:
            if not stopped.done():
                stopped.set_result((verdict, "", why))

        if watcher is not None:
            watcher.began(stop)
        room = _Room(call.limits.output_bytes)
        stdout, stderr = (_Printed(stream, room, loop, watcher) for stream in (Stream.STDOUT, Stream.STDERR))
        clock = loop.call_later(
            call.limits.timeout_ms / 1000, stop, Verdict.TIMEOUT, f"it did not end within {call.limits.timeout_ms} ms"
        )
        thread = asyncio.ensure_future(asyncio.to_thread(self._run, call, stdout, stderr))
        try:
            done, _ = await asyncio.wait({thread, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            clock.cancel()
        verdict, output, error = thread.result() if thread in done else stopped.result()
        await asyncio.sleep(0)  # what was printed last is told before the end
        outcome = ToolOutcome(verdict, output, stdout.getvalue(), stderr.getvalue(), error)
        outcome = _cut(outcome, call.limits.output_bytes)
        return replace(outcome, duration_ms=(time.perf_counter() - began) * 1000)

    def _run(self, call: ToolCall, stdout: io.StringIO, stderr: io.StringIO) -> tuple[Verdict, str, str]:
        context = ToolContext(call.workspace, call.session_id, call.effect_id, call.tenant, call.trace_id)
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                output = self._tools[call.tool].run(call.arguments, context)
                return Verdict.OK, json.dumps(dict(output), allow_nan=False), ""
            except ToolFailedError as error:
                return Verdict.FAILED, "", _sendable(str(error))
            except MemoryError:
                return Verdict.MEMORY, "", f"the tool needed more than its {call.limits.memory_mb} MiB of memory"
            except Exception as error:  # noqa: BLE001 as in the real runner, whatever a tool raises is its failure
                return Verdict.FAILED, "", _sendable(f"{type(error).__name__}: {error}")


class _Room:
    """What may still be printed, in bytes; both streams share it."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, data: bytes) -> bytes:
        kept = data[: self._left]
        self._left -= len(kept)
        return kept


class _Printed(io.StringIO):
    """Keeps what is printed, and tells the watcher in the event loop."""

    def __init__(
        self, stream: Stream, room: _Room, loop: asyncio.AbstractEventLoop, watcher: CallWatcher | None
    ) -> None:
        super().__init__()
        self._stream, self._room, self._loop, self._watcher = stream, room, loop, watcher

    def write(self, text: str) -> int:
        kept = self._room.take(text.encode("utf-8", "backslashreplace"))
        if self._watcher is not None and kept:
            self._loop.call_soon_threadsafe(self._watcher.printed, self._stream, kept)
        return super().write(text)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(outcome: ToolOutcome, limit: int) -> ToolOutcome:
    if len(outcome.stdout) + len(outcome.stderr) <= limit:
        return outcome
    stdout = outcome.stdout[:limit]
    return replace(
        outcome,
        verdict=Verdict.OUTPUT,
        output_json="",
        stdout=stdout,
        stderr=outcome.stderr[: limit - len(stdout)],
        error=f"the tool printed more than {limit} bytes and was stopped",
        truncated=True,
    )


class ScriptedRunner:
    """A ToolRunner with one tool that ends as it is told."""

    def __init__(self, name: str, ends: Sequence[ToolOutcome | Exception]) -> None:
        """One end for each call, in order."""
        self._name = name
        self._ends = list(ends)
        self.calls: list[ToolCall] = []

    def tools(self) -> Sequence[ToolSpec]:
        """One tool that takes anything."""
        return [ToolSpec(self._name, "ends as it is told", {"type": "object"}, Effects.READ_ONLY, "test")]

    async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
        """The next end."""
        self.calls.append(call)
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


class InMemoryNotes:
    """A NoteStore."""

    def __init__(self) -> None:
        """Starts empty."""
        self._notes: dict[tuple[str, str, str], Note] = {}

    async def start(self) -> None:
        """Has nothing to open."""

    async def stop(self) -> None:
        """Has nothing to close."""

    async def add(self, tenant: str, note: Note) -> tuple[Note, bool]:
        """Keeps a note; see NoteStore."""
        key = tenant, note.proposal_id, note.note
        new = key not in self._notes
        if new:
            self._notes[key] = replace(note, id=len(self._notes) + 1)
        return self._notes[key], new

    async def of_proposal(self, tenant: str, proposal_id: str, limit: int) -> Sequence[Note]:
        """Lists notes; see NoteStore."""
        return [note for (whose, which, _), note in self._notes.items() if (whose, which) == (tenant, proposal_id)][
            -limit:
        ]


class InMemoryLedger:
    """An EffectLedger."""

    def __init__(self) -> None:
        """Starts empty."""
        self.effects: dict[EffectName, KnownEffect] = {}

    async def start(self) -> None:
        """Has nothing to open."""

    async def stop(self) -> None:
        """Has nothing to close."""

    async def find(self, name: EffectName) -> KnownEffect | None:
        """See EffectLedger."""
        return self.effects.get(name)

    async def begin(self, name: EffectName, fingerprint: str) -> None:
        """See EffectLedger."""
        self.effects[name] = KnownEffect(fingerprint)
        await asyncio.sleep(0)

    async def finish(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """See EffectLedger."""
        self.finish_soon(name, fingerprint, outcome)
        await asyncio.sleep(0)

    def finish_soon(self, name: EffectName, fingerprint: str, outcome: ToolOutcome) -> None:
        """See EffectLedger."""
        self.effects[name] = KnownEffect(fingerprint, outcome)

    def forget(self, name: EffectName) -> None:
        """See EffectLedger."""
        self.effects.pop(name, None)


class InMemoryTodos:
    """A TodoStore."""

    def __init__(self) -> None:
        """Starts empty."""
        self._lists: dict[TodoListKey, list[tuple[TodoItem, bool]]] = {}

    async def start(self) -> None:
        """Has nothing to open."""

    async def stop(self) -> None:
        """Has nothing to close."""

    async def items(self, key: TodoListKey) -> Sequence[TodoItem]:
        """The list; see TodoStore."""
        return [item for item, removed in self._lists.get(key, []) if not removed]

    async def add(self, key: TodoListKey, texts: Sequence[str], most: int) -> bool:
        """Adds items; see TodoStore."""
        there = await self.items(key)
        is_open = {item.text for item in there if not item.done}
        new = [text for text in dict.fromkeys(texts) if text not in is_open]
        if len(there) + len(new) > most:
            return False
        kept = self._lists.setdefault(key, [])
        kept.extend((TodoItem(number, text, False), False) for number, text in enumerate(new, len(kept) + 1))
        return True

    async def set_state(self, key: TodoListKey, number: int, state: str) -> bool:
        """Changes an item; see TodoStore."""
        kept = self._lists.get(key, [])
        if not 0 < number <= len(kept) or (kept[number - 1][1] and state != "removed"):
            return False
        kept[number - 1] = replace(kept[number - 1][0], done=state == "done"), state == "removed"
        return True


class ScriptedCensus:
    """A WorkspaceCensus that counts what it is told; the last count stands for all that follow."""

    def __init__(self, counts: Sequence[Census] = (Census(0, {}),), artifacts: Sequence[Artifact] = ()) -> None:
        """One count for each time that a workspace is measured, in order."""
        self._counts = list(counts)
        self._artifacts = tuple(artifacts)
        self.taken = 0

    async def take(self, workspace: Path) -> Census:
        """The next count."""
        self.taken += 1
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]

    async def take_after(self, workspace: Path, before: Census) -> tuple[Census, tuple[Artifact, ...]]:
        """The next count, and the artifacts."""
        return await self.take(workspace), self._artifacts


class OneWorkspace:
    """Workspaces below a directory of the test."""

    def __init__(self, top: Path) -> None:
        """`top` exists."""
        self._top = top

    def directory(self, tenant: str, session_id: str) -> Path:
        """See Workspaces."""
        path = self._top / f"{tenant}-{session_id}"
        path.mkdir(exist_ok=True)
        return path

    def find(self, tenant: str, session_id: str) -> Path | None:
        """See Workspaces."""
        path = self._top / f"{tenant}-{session_id}"
        return path if path.is_dir() else None


class RecordingMeter:
    """A CallMeter that keeps what it is told."""

    def __init__(self) -> None:
        """Starts empty."""
        self.running = 0
        self.verdicts: list[tuple[str, str]] = []

    def started(self) -> None:
        """A call begins to run."""
        self.running += 1

    def ended(self, tool: str, verdict: str, seconds: float) -> None:
        """A call that had begun is over."""
        self.running -= 1
        self.verdicts.append((tool, verdict))


class AnyArguments:
    """ArgumentSchemas, and a check that takes any JSON object."""

    def compile(self, spec: ToolSpec) -> AnyArguments:
        """Itself."""
        return self

    def parse(self, arguments_json: str) -> Mapping[str, Any]:
        """Reads the arguments without a check."""
        parsed: dict[str, Any] = json.loads(arguments_json or "{}")
        return parsed


class StatedIsolation:
    """An Isolates that says what it is told to."""

    def __init__(self, profile: str = "L1", minimum: str = "L0") -> None:
        """`minimum` is what an operator asks for."""
        self.profile = profile
        self.minimum = minimum

    def isolation(self) -> Isolation:
        """One layer, which is missing below L1, and one observation."""
        active = self.profile >= "L1"
        layer = Layer("landlock", active, "as stated" if active else "needs Linux 6.12")
        return Isolation(self.profile, (layer,), (Observation("read a file", active, "PermissionError"),))

    def check_isolation(self, spec: ToolSpec) -> None:
        """As the real one."""
        check_isolation(spec, self.isolation(), self.minimum)
