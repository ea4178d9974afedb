"""What calls do to the disk: the quota of a workspace, what one call may add, and which files it leaves."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

from pagi_sandbox.domain.model import Census, Stream, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.ports import CallWatcher, ToolRunner, WorkspaceCensus

_MIB = 2**20
# How often a running call is measured. One that is over before is measured at its end only.
_EVERY_S = 0.05
# Measuring may take this part of the time at most, however much there is to measure.
_LEAST_PAUSE = 10
# Entries of all workspaces together that are remembered from one call to the next; about 4 MiB.
_REMEMBERED = 20_000
# Makes room and nothing else, so it runs where there is none left.
_FREES = frozenset({"delete_file"})
# What may be left behind by a call that was ended for something else, and what frees room, is not held against it.
_COUNTED = frozenset({Verdict.OK, Verdict.FAILED, Verdict.CRASH})


@dataclass(frozen=True, slots=True)
class DiskPolicy:
    """What a workspace may hold, in bytes as the disk counts them."""

    quota_bytes: int


class DiskGuard:
    """Runs calls that may write.

    A call begins only where its workspace has room, is measured while it runs, and ends with verdict DISK where it
    adds more than it may or fills the workspace. Measuring comes late by up to 50 ms and the time that it takes, so
    that much can be written beyond; only a file system with quotas of its own is exact.
    """

    def __init__(self, policy: DiskPolicy, census: WorkspaceCensus) -> None:
        """Measures with the census."""
        self._policy = policy
        self._census = census
        self._known: OrderedDict[Path, Census] = OrderedDict()
        self._entries = 0

    async def run(self, runner: ToolRunner, call: ToolCall, watcher: CallWatcher | None) -> ToolOutcome:
        """Runs one call to its end; its artifacts are in the outcome. See ToolRunner."""
        before = self._forget(call.workspace) or await self._census.take(call.workspace)
        left = self._policy.quota_bytes - before.used_bytes
        if call.tool in _FREES:
            outcome = await runner.run(call, watcher)
            self._remember(call.workspace, await self._census.take(call.workspace))
            return outcome
        if before.fault or left <= 0:
            return ToolOutcome(
                Verdict.DISK, error=f"{self._full(before)}; the tool was not started, delete_file makes room"
            )
        asked = call.limits.disk_mb * _MIB or left
        bound = _Bound(before.used_bytes, min(asked, left), self._policy.quota_bytes)
        limits = replace(call.limits, disk_mb=-(-bound.addition // _MIB))
        outcome = await self._measured(runner, replace(call, limits=limits), bound, watcher)
        after, artifacts = await self._census.take_after(call.workspace, before)
        self._remember(call.workspace, after)
        outcome = replace(outcome, artifacts=artifacts)
        if outcome.verdict in _COUNTED and (fault := bound.fault(after)):
            return replace(outcome, verdict=Verdict.DISK, error=fault)
        return outcome

    def forget(self, workspace: Path) -> None:
        """The workspace was removed."""
        self._forget(workspace)

    async def _measured(
        self, runner: ToolRunner, call: ToolCall, bound: _Bound, watcher: CallWatcher | None
    ) -> ToolOutcome:
        meter = _Meter(watcher, lambda stop: self._watch(call.workspace, bound, stop))
        try:
            return await runner.run(call, meter)
        finally:
            meter.end()

    async def _watch(self, workspace: Path, bound: _Bound, stop: Callable[[Verdict, str], None]) -> None:
        loop, pause = asyncio.get_running_loop(), _EVERY_S
        while True:
            await asyncio.sleep(pause)
            began = loop.time()
            if fault := bound.fault(await self._census.take(workspace)):
                stop(Verdict.DISK, f"{fault}, and was stopped")
                return
            pause = max(_EVERY_S, _LEAST_PAUSE * (loop.time() - began))

    def _full(self, census: Census) -> str:
        if census.fault:
            return f"the workspace cannot be used: {census.fault}"
        used, quota = census.used_bytes / _MIB, self._policy.quota_bytes / _MIB
        return f"the workspace is full: it holds {used:.1f} of {quota:.1f} MiB"

    def _remember(self, workspace: Path, census: Census) -> None:
        self._forget(workspace)
        self._known[workspace] = census
        self._entries += len(census.files) + 1
        while self._entries > _REMEMBERED and self._known:
            self._forget(next(iter(self._known)))

    def _forget(self, workspace: Path) -> Census | None:
        census = self._known.pop(workspace, None)
        if census is not None:
            self._entries -= len(census.files) + 1
        return census


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a call may add to what there was, and the workspace's quota, all in bytes."""

    before: int
    addition: int
    quota: int

    def fault(self, census: Census) -> str:
        """What is too much, or nothing."""
        if census.fault:
            return f"the tool left a workspace that cannot be used: {census.fault}"
        added = census.used_bytes - self.before
        if added > self.addition or census.used_bytes > self.quota:
            return (
                f"the tool added {added / _MIB:.1f} MiB to the workspace, where it may add {self.addition / _MIB:.1f}"
            )
        return ""


class _Meter:
    """A CallWatcher that measures once the tool runs, and passes on what it hears."""

    def __init__(
        self,
        watcher: CallWatcher | None,
        watch: Callable[[Callable[[Verdict, str], None]], Coroutine[None, None, None]],
    ) -> None:
        self._watcher = watcher
        self._watch = watch
        self._task: asyncio.Task[None] | None = None

    def began(self, stop: Callable[[Verdict, str], None]) -> None:
        self._task = asyncio.create_task(self._watch(stop))
        if self._watcher is not None:
            self._watcher.began(stop)

    def printed(self, stream: Stream, data: bytes) -> None:
        if self._watcher is not None:
            self._watcher.printed(stream, data)

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
