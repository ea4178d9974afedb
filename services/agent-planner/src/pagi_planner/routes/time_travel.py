"""`POST /runs/{run_id}/fork` and `GET /runs/{run_id}/timeline`: a run as it might have gone, and as it went."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pagi_chassis import correlation
from pydantic import BaseModel, ConfigDict, Field

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.time_travel.fork import Change
from pagi_planner.domain.time_travel.timeline import Span
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.strict_json import StrictJsonRoute
from pagi_planner.schemas import Bounds, Name, Prompt, RunBody, too_much


class ForkBody(BaseModel):
    """What shall be different in the new run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Prompt | None = Field(default=None, description="In place of the request's; absent: as it was.")
    model: Name | None = Field(default=None, description="For the calls that come; absent: as it was.")


class SpanBody(BaseModel):
    """Something that took time, or a moment where both times are the same."""

    kind: str = Field(description="context, model, tool, approval, end, or another event's type in small letters.")
    name: str = Field(description="Of the model or tool; empty where there is none.")
    step: int = Field(description="The model call that it belongs to, from 1; 0 before the first.")
    seq: int = Field(description="Of the event that began it.")
    started_at: datetime
    ended_at: datetime | None = Field(description="Null: it is not over, or was cut off.")
    detail: dict[str, Any] = Field(description="What is worth showing of its events, as docs/runs.md names it.")

    @classmethod
    def from_domain(cls, span: Span) -> SpanBody:
        """The span as JSON."""
        return cls(
            kind=span.kind,
            name=span.name,
            step=span.step,
            seq=span.seq,
            started_at=span.started_at,
            ended_at=span.ended_at,
            detail=span.detail,
        )


class TimelineBody(BaseModel):
    """A run as spans of time."""

    run_id: str
    spans: list[SpanBody] = Field(description="In the order in which they began.")


def router(runs: Runs, bounds: Bounds) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/runs", tags=["runs"], route_class=StrictJsonRoute)

    @routes.post(
        "/{run_id}/fork",
        operation_id="fork_run",
        summary="A new run from a step of this one",
        response_description="The new run has ended; `status` says how",
        responses=problems(401, 404, 412, 413, 415, 422, 429, 499, 500, 503, 504),
    )
    async def fork(
        run_id: str,
        step: Annotated[int, Query(ge=0, le=10_000, description="Kept up to and with this model call; 0: none")],
        body: ForkBody | None = None,
    ) -> RunBody:
        """Takes over the journal of the run up to a step and goes on from there, in the same session.

        What is taken over is not done again, and what its tools did is not undone.
        """
        body = body or ForkBody()
        if body.prompt is not None and len(body.prompt) > bounds.prompt_characters:
            raise too_much("prompt", f"{bounds.prompt_characters} characters long (AGENT_MAX_PROMPT_CHARACTERS)")
        begun = await runs.fork(run_id, step, Change(body.prompt, body.model))
        correlation.adopt(correlation.current()._replace(run_id=begun.run_id))
        return RunBody.from_domain(await begun.result())

    @routes.get(
        "/{run_id}/timeline",
        operation_id="run_timeline",
        summary="What the run did, when and for how long",
        responses=problems(401, 404, 422, 500, 503),
    )
    async def show(run_id: str) -> TimelineBody:
        """Shows the run as spans of time; one that is not over has no end yet."""
        spans = await runs.timeline(run_id)
        return TimelineBody(run_id=run_id, spans=[SpanBody.from_domain(span) for span in spans])

    return routes
