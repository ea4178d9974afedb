"""What becomes of a run whose client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request

from pagi_planner.domain.keeping.begun_run import BegunRun
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import RunResult

Departure = Callable[[], Awaitable[object]]


def if_client_leaves(runs: Runs, run_id: str, on_disconnect: str) -> Departure | None:
    """What to do where the client of a run leaves before its end; None: nothing."""
    return partial(runs.cancel, run_id, "its client left") if on_disconnect == "cancel" else None


async def result_or_departure(begun: BegunRun, request: Request, left: Departure | None) -> RunResult:
    """The run's result; where its client leaves first and this matters, what it then comes to.

    Raises:
        PagiError: See `BegunRun.result`.
    """
    if left is None:
        return await begun.result()
    ending = asyncio.create_task(begun.result())
    leaving = asyncio.create_task(_departure_of(request))
    try:
        await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await left()
        return await ending
    finally:
        ending.cancel()
        leaving.cancel()


async def _departure_of(request: Request) -> None:
    # The body has been read: what comes now is the end of the connection.
    while (await request.receive())["type"] != "http.disconnect":
        pass
