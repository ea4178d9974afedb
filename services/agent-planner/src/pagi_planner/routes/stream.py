"""`GET /runs/{run_id}/events`: what happens in a run, from any place on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.watching.stream import Position
from pagi_planner.routes import event_stream
from pagi_planner.routes.event_stream import EventStream, Patience
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.run_view import END, EVENTS, RunView

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": event_stream.described(EVENTS),
        "description": "What happens, until the run ends",
    },
    204: {"description": "All of it was seen: do not come again"},
    **problems(401, 404, 422, 500, 503),
}
LastEventId = Annotated[
    str, Header(alias="Last-Event-ID", max_length=100, description="The id of the last event that was seen.")
]
LastEventIdAsQuery = Annotated[
    str, Query(alias="last_event_id", max_length=100, description="The same, for clients that cannot set headers.")
]

ShowThinking = Annotated[
    bool, Query(description="Whether `thinking` events bring the thoughts of a model that thinks.")
]


def router(runs: Runs, patience: Patience) -> APIRouter:
    """The route that lets a run be watched."""
    routes = APIRouter(tags=["runs"])

    @routes.get(
        "/runs/{run_id}/events",
        operation_id="watch_run",
        summary="What happens in a run, as it happens",
        response_class=Response,
        responses=_ANSWERS,
    )
    async def watch(
        run_id: str, header: LastEventId = "", query: LastEventIdAsQuery = "", show_thinking: ShowThinking = False
    ) -> Response:
        """Server-sent events, from the run's beginning or behind the last one that was seen.

        Each row of the journal is an event named by its `event_type`, with {run_id, seq, type, phase, timestamp,
        trace_id, session_id, data}. Between the rows `text` {step, text} brings what the model says, as it says it;
        `reset` {step} takes it back where the model is asked again and says something else; `thinking` {step, text},
        where `show_thinking` asks for it, brings what a model thinks before it answers, which is kept nowhere. `end`
        has the run as `GET /runs/{run_id}` shows it. `cut` {reason, last_event_id} ends the stream of a client that
        reads too slowly, or when the planner stops. Every event but `cut` has an id; whoever comes with the last one
        misses nothing and gets nothing twice. A comment every few seconds keeps the connection alive. Leaving does
        nothing to the run.
        """
        seen = header or query
        position = Position.parse(seen.removesuffix(END)) if seen else Position()
        watcher = await runs.watch(run_id, position, thoughts=show_thinking)
        if seen.endswith(END) and watcher.is_done:
            return Response(status_code=204)
        return EventStream(watcher, RunView(position, lambda: runs.settled(run_id)), patience)

    return routes
