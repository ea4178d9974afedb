"""`POST /plan` and its alias `POST /run`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pagi_chassis import correlation

from pagi_planner.domain.runs import Runs
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.strict_json import StrictJsonRoute
from pagi_planner.schemas import Bounds, PlanRequest, RunBody

# The header belongs to the whole type: inside of a union FastAPI would not see it.
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, description="Names the request: see above."),
]


def router(runs: Runs, bounds: Bounds) -> APIRouter:
    """The routes that start runs."""
    routes = APIRouter(tags=["runs"], route_class=StrictJsonRoute)

    async def plan(body: PlanRequest, idempotency_key: Key = None) -> RunBody:
        """Works on a prompt to its end and returns the answer with its steps and sources.

        The run goes on where the client leaves; `GET /runs/{run_id}` has it. With an `Idempotency-Key` the same
        request is the same run, however often it is sent, and ends for each of its callers in the same way.
        """
        begun = await runs.begin(body.to_domain(bounds), idempotency_key=idempotency_key or "")
        # From here on a problem document names the run, too.
        correlation.adopt(correlation.current()._replace(run_id=begun.run_id))
        return RunBody.from_domain(await begun.result())

    responses = problems(401, 412, 413, 415, 422, 429, 499, 500, 503, 504)
    for name, summary in (("plan", "Ask the agent"), ("run", "Alias of /plan")):
        routes.add_api_route(
            f"/{name}",
            plan,
            methods=["POST"],
            operation_id=name,
            summary=summary,
            response_model=RunBody,
            response_description="The run has ended; `status` says how",
            responses=responses,
        )
    return routes
