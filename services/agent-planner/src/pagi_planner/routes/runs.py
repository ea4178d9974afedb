"""`GET /runs` and `GET /runs/{run_id}`: what the agent did."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import RunStatus
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.run_bodies import RunListBody, RunSummaryBody
from pagi_planner.schemas import RunBody


def router(runs: Runs) -> APIRouter:
    """The routes that read runs."""
    routes = APIRouter(prefix="/runs", tags=["runs"])

    @routes.get("", operation_id="list_runs", summary="The newest runs", responses=problems(401, 422, 500, 503))
    async def find(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
        session_id: Annotated[str, Query(max_length=200, description="Only runs of this session")] = "",
        status: Annotated[RunStatus | None, Query(description="Only runs that stand there")] = None,
    ) -> RunListBody:
        """Lists the runs, newest first; `next` goes on where a page ends."""
        page = await runs.find(limit=limit, before=before, session_id=session_id, status=status)
        return RunListBody(runs=[RunSummaryBody.from_domain(each) for each in page.runs], next=page.next or None)

    @routes.get(
        "/{run_id}",
        operation_id="get_run",
        summary="One run, finished or not",
        responses=problems(401, 404, 422, 500, 503),
    )
    async def get(run_id: str) -> RunBody:
        """Shows a run as `POST /plan` answers it, with what it has reached so far where it has not ended."""
        return RunBody.from_domain(await runs.get(run_id))

    return routes
