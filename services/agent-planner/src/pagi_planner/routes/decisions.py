"""`POST /runs/{run_id}/cancel` and `POST /runs/{run_id}/approvals/{call_id}`: what people decide on a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.keeping.word import decision_of
from pagi_planner.domain.model import Decision
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.strict_json import StrictJsonRoute
from pagi_planner.schemas import RunBody

Reason = Annotated[str, StringConstraints(max_length=2_000)]


class CancelBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[Reason, StringConstraints(min_length=1)] | None = Field(
        default=None, description="For whoever reads the run later."
    )


class DecisionBody(BaseModel):
    """A person's word."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision: Literal["approve", "deny"]
    reason: Reason | None = Field(default=None, description="For the model to read where it is a denial.")
    arguments: dict[str, Any] | None = Field(
        default=None, description="What the tool is called with in place of the model's; only where it is approved."
    )

    def to_domain(self) -> Decision:
        """The decision.

        Raises:
            InvalidArgumentError: It denies a call and has arguments for it, or some that no tool can be given.
        """
        return decision_of(self.decision == "approve", self.reason or "", self.arguments, field="arguments")


def router(runs: Runs) -> APIRouter:
    """The routes that change what a run does."""
    routes = APIRouter(prefix="/runs/{run_id}", tags=["runs"], route_class=StrictJsonRoute)

    @routes.post(
        "/cancel",
        operation_id="cancel_run",
        summary="Stop a run",
        responses=problems(401, 404, 413, 415, 422, 500, 503),
    )
    async def cancel(run_id: str, body: CancelBody | None = None) -> RunBody:
        """Stops the run with its model call and its tools; nothing of it starts after the answer.

        The answer is the run as it ended, with what it had reached. A run that has ended already stays as it is, and
        is answered in the same way: `status` tells.
        """
        reason = (body.reason if body else None) or "it was cancelled"
        return RunBody.from_domain(await runs.cancel(run_id, reason))

    @routes.post(
        "/approvals/{call_id}",
        operation_id="decide",
        summary="Allow or deny a tool call",
        responses=problems(401, 404, 409, 412, 413, 415, 422, 500, 503),
    )
    async def decide(run_id: str, call_id: str, body: DecisionBody) -> RunBody:
        """Gives a person's word on a call that waits for it; the run goes on when none of its calls waits any more.

        The answer is the run as it stands then, `approvals` included; `GET /runs/{run_id}/events` shows what follows.
        The same word twice is answered like the first one; another word is refused with 409.
        """
        return RunBody.from_domain(await runs.decide(run_id, call_id, body.to_domain()))

    return routes
