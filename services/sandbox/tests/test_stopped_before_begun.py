"""A call that is stopped before its child has read it must not run in the next child."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest_asyncio
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict

LIMITS = Limits(timeout_ms=10_000, memory_mb=512, output_bytes=100_000)


@pytest_asyncio.fixture(loop_scope="module")
async def runner() -> AsyncIterator[ForkRunner]:
    """One slot, so that each child takes over from the last."""
    runner = ForkRunner(ForkServerOptions(spares=1))
    await runner.start()
    yield runner
    await runner.stop()


async def test_what_was_cancelled_at_once_never_runs_and_what_follows_is_itself(
    runner: ForkRunner, tmp_path: Path
) -> None:
    async def python(code: str, **_: Any) -> ToolOutcome:
        return await runner.run(ToolCall("python", {"code": code}, LIMITS, tmp_path, "s-1"))

    for number in range(30):
        # It does its work late enough for the order to end it to be there, should it have begun.
        late = f"import time\ntime.sleep(0.2)\nopen('cancelled-{number}', 'w')"
        cancelled = asyncio.create_task(python(late))
        # Just so long that the slot has its order, which its child has not read yet.
        for _ in range(number % 4 + 1):
            await asyncio.sleep(0)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        outcome = await python(f"print({number})")
        assert (outcome.verdict, outcome.stdout) == (Verdict.OK, f"{number}\n")
    assert list(tmp_path.glob("cancelled-*")) == []
