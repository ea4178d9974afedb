"""`POST /plan` and its alias `POST /run`: the answer at the end, or all that happens until then."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pagi_chassis import correlation

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import RunStatus
from pagi_planner.routes import event_stream
from pagi_planner.routes.departure import if_client_leaves, result_or_departure
from pagi_planner.routes.event_stream import EventStream, Patience
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.run_view import EVENTS, RunView
from pagi_planner.routes.strict_json import StrictJsonRoute
from pagi_planner.schemas import Bounds, PlanRequest, RunBody

# The header belongs to the whole type: inside of a union FastAPI would not see it.
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, description="Names the request: see above."),
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": event_stream.described(EVENTS)},
    202: {"model": RunBody, "description": "A tool call waits for a person's word, see `approvals`"},
    **problems(401, 412, 413, 415, 422, 429, 499, 500, 503, 504),
}


def router(runs: Runs, bounds: Bounds, patience: Patience) -> APIRouter:
    """The routes that start runs."""
    routes = APIRouter(tags=["runs"], route_class=StrictJsonRoute)

    async def plan(request: Request, response: Response, body: PlanRequest, idempotency_key: Key = None) -> Any:
        """Works on a prompt to its end and returns the answer with its steps and sources.

        With `Accept: text/event-stream` the answer is a stream of what happens, as `GET /runs/{run_id}/events` has it;
        its header `X-Run-ID` names the run. `on_disconnect` says what becomes of the run where the client leaves; after
        `continue`, which is the default, `GET /runs/{run_id}` has it. With an `Idempotency-Key` the same request is the
        same run, however often it is sent, and ends for each of its callers in the same way.
        """
        begun = await runs.begin(body.to_domain(bounds), idempotency_key=idempotency_key or "")
        run_id = begun.run_id
        # From here on a problem document names the run, too.
        correlation.adopt(correlation.current()._replace(run_id=run_id))
        left = if_client_leaves(runs, run_id, body.on_disconnect)
        if event_stream.MEDIA_TYPE in request.headers.get("accept", ""):
            watcher = runs.follow(begun, thoughts=body.show_thinking)
            view = RunView(watcher.position, lambda: runs.settled(run_id))
            return EventStream(watcher, view, patience, left=left, headers={"X-Run-ID": run_id})
        result = await result_or_departure(begun, request, left)
        if result.status is RunStatus.WAITING_APPROVAL:
            response.status_code = 202
        return RunBody.from_domain(result)

    for name, summary in (("plan", "Ask the agent"), ("run", "Alias of /plan")):
        routes.add_api_route(
            f"/{name}",
            plan,
            methods=["POST"],
            operation_id=name,
            summary=summary,
            response_model=RunBody,
            response_description="The run has ended; `status` says how",
            responses=_ANSWERS,
        )
    return routes
