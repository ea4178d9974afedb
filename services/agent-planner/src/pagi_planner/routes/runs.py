"""`GET /runs` and `GET /runs/{run_id}`: what the agent did."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from pagi_planner.domain.runs import Runs
from pagi_planner.routes.plan import PROBLEMS
from pagi_planner.schemas import RunBody, RunListBody, RunSummaryBody

_READ_PROBLEMS: dict[int | str, dict[str, Any]] = {status: PROBLEMS[status] for status in (401, 422, 500, 503)}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {**PROBLEMS[422], "description": "There is no such run"}}


def router(runs: Runs) -> APIRouter:
    """The routes that read runs."""
    routes = APIRouter(prefix="/runs", tags=["runs"])

    @routes.get("", summary="The newest runs", responses=_READ_PROBLEMS)
    async def find(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
        session_id: Annotated[str, Query(max_length=200)] = "",
    ) -> RunListBody:
        found = await runs.find(limit=limit, before=before, session_id=session_id)
        following = found[-1].run_id if len(found) == limit else None
        return RunListBody(runs=[RunSummaryBody.from_domain(each) for each in found], next=following)

    @routes.get("/{run_id}", summary="One run, finished or not", responses={**_READ_PROBLEMS, **_NOT_FOUND})
    async def get(run_id: str) -> RunBody:
        return RunBody.from_domain(await runs.get(run_id))

    return routes
