"""What the tests of the sandbox share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.limits import LimitPolicy
from pagi_sandbox.domain.model import Limits
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.testing import RecordingMeter

POLICY = LimitPolicy(
    default=Limits(10_000, 512, 100_000, cpu_ms=10_000, disk_mb=100, processes=64),
    maximum=Limits(20_000, 1024, 1_000_000, cpu_ms=40_000, disk_mb=200, processes=128),
)


@pytest.fixture
async def fork_runner() -> AsyncIterator[ForkRunner]:
    """A fork server of its own."""
    runner = ForkRunner(ForkServerOptions())
    await runner.start()
    yield runner
    await runner.stop()


@pytest.fixture
def sandbox(fork_runner: ForkRunner, tmp_path: Path) -> Sandbox:
    """A sandbox with the built-in tools on a real fork server."""
    sandbox = Sandbox(
        runners=[fork_runner],
        schemas=JsonSchemaArguments(),
        limits=POLICY,
        workspaces=DirectoryWorkspaces(tmp_path / "workspaces"),
        admission=Admission(running=4, waiting=100),
        meter=RecordingMeter(),
        registry=ToolRegistry(),
    )
    sandbox.register()
    return sandbox
