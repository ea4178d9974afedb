"""`POST /api/chat/stream`: the agent as a chat, in the events of the founding documents."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pagi_chassis import correlation
from pydantic import Field
from starlette.responses import Response

from pagi_planner.domain.agent import session_id_of
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.routes import event_stream
from pagi_planner.routes.chat_view import EVENTS, Chat, ChatView
from pagi_planner.routes.departure import if_client_leaves
from pagi_planner.routes.event_stream import EventStream, Patience
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.strict_json import StrictJsonRoute
from pagi_planner.schemas import Bounds, Prompt, WorkBody

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": event_stream.described(EVENTS), "description": "The chat"},
    **problems(401, 413, 415, 422, 500, 503),
}


class ChatRequest(WorkBody):
    """What to say to the agent."""

    message: Prompt = Field(description="The message in words.")


def router(runs: Runs, bounds: Bounds, patience: Patience) -> APIRouter:
    """The route of the chat."""
    routes = APIRouter(tags=["runs"], route_class=StrictJsonRoute)

    @routes.post(
        "/api/chat/stream",
        operation_id="chat",
        summary="Chat with the agent",
        response_class=Response,
        responses=_ANSWERS,
    )
    async def chat(body: ChatRequest) -> EventStream:
        """Answers with server-sent events, each with a JSON object.

        `thinking` {phase, content} where `show_thinking` asks for it, with `step` where it is the next piece of what a
        model thinks; `content` {content}: the next piece of the answer; `reset` {}: what was said so far was on the
        way, the answer begins anew; `approval` {run_id, call_id, tool, input}: a tool call waits for
        `POST /runs/{run_id}/approvals/{call_id}`; then `complete` with the run as `GET /runs/{run_id}` has it and
        `duration_ms`, or `error` {error, …}; at last `done` {}. The headers `X-Run-ID` and `X-Session-ID` name the run
        and its session, percent-encoded where that is not plain ASCII.
        """
        request = body.request(body.message, bounds, field="message")
        begun = await runs.begin(request)
        run_id = begun.run_id
        correlation.adopt(correlation.current()._replace(run_id=run_id))
        view = ChatView(Chat(show_thinking=body.show_thinking), lambda: runs.settled(run_id))
        names = {"X-Run-ID": run_id, "X-Session-ID": correlation.as_header(request.session_id or session_id_of(run_id))}
        left = if_client_leaves(runs, run_id, body.on_disconnect)
        return EventStream(runs.follow(begun, thoughts=body.show_thinking), view, patience, left=left, headers=names)

    return routes
