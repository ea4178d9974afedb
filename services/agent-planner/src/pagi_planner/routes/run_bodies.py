"""Bodies of the list of runs."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from pagi_planner.domain.model import RunStatus, RunSummary

# A list of runs shows how each prompt begins.
PROMPT_SHOWN = 500


class RunSummaryBody(BaseModel):
    """One line of the list of runs."""

    run_id: str
    session_id: str
    trace_id: str
    status: RunStatus
    prompt: str = Field(description=f"How it begins: at most {PROMPT_SHOWN} characters.")
    started_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_domain(cls, run: RunSummary) -> RunSummaryBody:
        """The line as JSON."""
        return cls(
            run_id=run.run_id,
            session_id=run.session_id,
            trace_id=run.trace_id,
            status=run.status,
            prompt=run.prompt if len(run.prompt) <= PROMPT_SHOWN else f"{run.prompt[: PROMPT_SHOWN - 1]}…",
            started_at=run.started_at,
            ended_at=run.ended_at,
        )


class RunListBody(BaseModel):
    """The newest runs, newest first."""

    runs: list[RunSummaryBody]
    next: str | None = Field(description="Give it as `before` for the next page; null at the end.")
