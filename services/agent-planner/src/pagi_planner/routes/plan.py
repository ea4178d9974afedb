"""`POST /plan` and its alias `POST /run`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain.agent import new_run_id
from pagi_planner.domain.model import Limits
from pagi_planner.domain.runs import Runs, run_id_of, session_id_of
from pagi_planner.schemas import PlanRequest, Problem, RunBody

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=255)]

_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The API key is absent or wrong", **_PROBLEM},
    413: {"model": Problem, "description": "The body is too large", **_PROBLEM},
    422: {"model": Problem, "description": "Something in the request cannot be used", **_PROBLEM},
    429: {"model": Problem, "description": "A limit of the model provider is reached", **_PROBLEM},
    500: {"model": Problem, "description": "A fault of ours", **_PROBLEM},
    503: {"model": Problem, "description": "Overloaded, or a service that is needed is away", **_PROBLEM},
    504: {"model": Problem, "description": "The model did not answer in time", **_PROBLEM},
}


def router(runs: Runs, most: Limits, max_prompt_characters: int) -> APIRouter:
    """The routes that start runs."""
    routes = APIRouter(tags=["runs"])

    async def plan(body: PlanRequest, idempotency_key: Key | None = None) -> RunBody:
        """Works on a prompt to its end and returns the answer with its steps and sources.

        The run goes on where the client leaves; `GET /runs/{run_id}` has it. With an `Idempotency-Key` the same
        request is the same run, however often it is sent.
        """
        if len(body.prompt) > max_prompt_characters:
            raise InvalidArgumentError(
                f"must be at most {max_prompt_characters} characters long (AGENT_MAX_PROMPT_CHARACTERS)", field="prompt"
            )
        session_id = session_id_of(run_id_of(idempotency_key) if idempotency_key else new_run_id())
        request = body.to_domain(session_id=session_id, most=most)
        return RunBody.from_domain(await runs.run(request, idempotency_key=idempotency_key or ""))

    routes.add_api_route(
        "/plan", plan, methods=["POST"], summary="Ask the agent", response_model=RunBody, responses=PROBLEMS
    )
    routes.add_api_route(
        "/run", plan, methods=["POST"], summary="Alias of /plan", response_model=RunBody, responses=PROBLEMS
    )
    return routes
