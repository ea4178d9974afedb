"""What the tests of the sandbox share."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.directory_census import DirectoryCensus
from pagi_sandbox.adapters.directory_files import DirectoryFiles
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.sqlite_effects import SqliteEffectLedger
from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.disk import DiskGuard, DiskPolicy
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.limits import LimitPolicy
from pagi_sandbox.domain.model import Limits
from pagi_sandbox.domain.once import OnceByEffect
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.testing import RecordingMeter

POLICY = LimitPolicy(
    default=Limits(10_000, 512, 100_000, cpu_ms=10_000, disk_mb=100, processes=64),
    maximum=Limits(20_000, 1024, 1_000_000, cpu_ms=40_000, disk_mb=200, processes=128),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a module share its event loop, so that they can share a fork server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fork_runner() -> AsyncIterator[ForkRunner]:
    """A fork server, one for all tests of a module."""
    runner = ForkRunner(ForkServerOptions())
    await runner.start()
    yield runner
    await runner.stop()


@functools.cache
def why_no_bubblewrap() -> str:
    """Empty where bwrap can be used, seen without any code of ours."""
    if shutil.which("bwrap") is None:
        return "there is no program bwrap here: install the package bubblewrap"
    trial = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--proc", "/proc", "true"]
    seen = subprocess.run(trial, capture_output=True, text=True, check=False)
    return f"bwrap cannot work here: {seen.stderr.strip()}" if seen.returncode else ""


@pytest.fixture(scope="module", params=["native", "bubblewrap"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each that this system has."""
    if request.param == "bubblewrap" and why_no_bubblewrap():
        pytest.skip(why_no_bubblewrap())
    found: str = request.param
    return found


@asynccontextmanager
async def started(backend: str) -> AsyncIterator[ForkRunner]:
    """A fork server whose jailers go as soon as they are not needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pagi_sandbox.adapters.fork_slots._LINGER_S", 0.02)
        runner = ForkRunner(ForkServerOptions(backend=backend))
        await runner.start()
        assert runner.isolation().backend == backend
        yield runner
        await runner.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def every_runner(backend: str) -> AsyncIterator[ForkRunner]:
    """A fork server with each backend, for all tests of a module."""
    async with started(backend) as runner:
        yield runner


DISK = DiskPolicy(quota_bytes=64 * 2**20)


@pytest.fixture
def workspaces(tmp_path: Path) -> DirectoryWorkspaces:
    """Below the test's directory."""
    return DirectoryWorkspaces(tmp_path / "workspaces")


@pytest_asyncio.fixture(loop_scope="module")
async def census() -> AsyncIterator[DirectoryCensus]:
    """Of at most 500 files."""
    census = DirectoryCensus(500)
    await census.start()
    yield census
    await census.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteEffectLedger]:
    """In a file of its own."""
    ledger = SqliteEffectLedger(tmp_path / "effects.db", max_age_s=3600, max_bytes=10 * 2**20)
    await ledger.start()
    yield ledger
    await ledger.stop()


@pytest.fixture
def sandbox(
    fork_runner: ForkRunner, workspaces: DirectoryWorkspaces, census: DirectoryCensus, ledger: SqliteEffectLedger
) -> Sandbox:
    """A sandbox with the built-in tools on a real fork server."""
    sandbox = Sandbox(
        runners=[fork_runner],
        schemas=JsonSchemaArguments(),
        limits=POLICY,
        workspaces=workspaces,
        admission=Admission(running=4, waiting=100),
        meter=RecordingMeter(),
        registry=ToolRegistry(),
        once=OnceByEffect(ledger),
        disk=DiskGuard(DISK, census),
        isolates=fork_runner,
    )
    sandbox.register()
    return sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def files(workspaces: DirectoryWorkspaces, census: DirectoryCensus) -> AsyncIterator[SessionFiles]:
    """Hands out what is in them."""
    reader = DirectoryFiles()
    await reader.start()
    yield SessionFiles(workspaces, reader, census, DISK)
    await reader.stop()
