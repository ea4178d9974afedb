"""`/memory`: what the agent remembers, to look at and to change. Memory itself checks and answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pagi_chassis.errors import InvalidArgumentError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pagi_planner.domain.ports import Archive
from pagi_planner.routes import memory_bodies as bodies
from pagi_planner.routes.problem_responses import problems
from pagi_planner.routes.strict_json import StrictJsonRoute

_READ = problems(401, 422, 500, 503, 504)
_ONE = problems(401, 404, 422, 500, 503, 504)
_CHANGE = problems(401, 404, 413, 415, 422, 500, 503, 504)
_LINES = "application/x-ndjson"
_LINES_SCHEMA = {"schema": {"type": "string"}}

Id = Annotated[str, Path(min_length=1, max_length=200)]
Position = Annotated[int, Path(ge=0, lt=2**31, description="Of the turn within its run")]
Limit = Annotated[int, Query(ge=1, le=200)]
Token = Annotated[str, Query(max_length=300, description="`next` of the page before")]
Persona = Annotated[str, Query(max_length=63, description="Only of this persona")]


def router(archive: Archive) -> APIRouter:
    """The routes of sessions, turns and playbooks."""
    routes = APIRouter(prefix="/memory", tags=["memory"], route_class=StrictJsonRoute)
    _add_sessions(routes, archive)
    _add_turns(routes, archive)
    _add_history(routes, archive)
    _add_playbooks(routes, archive)
    return routes


def _add_sessions(routes: APIRouter, archive: Archive) -> None:
    @routes.get("/sessions", operation_id="list_sessions", summary="The sessions", responses=_READ)
    async def find(limit: Limit = 50, page_token: Token = "", persona: Persona = "") -> bodies.SessionListBody:
        """Lists the sessions, the one last spoken in first."""
        found = await archive.ask("ListSessions", limit=limit, page_token=page_token, persona=persona)
        return bodies.SessionListBody(sessions=found["sessions"], next=found["next_page_token"] or None)

    one = "/sessions/{session_id}"

    @routes.get(one, operation_id="get_session", summary="One session with its summary", responses=_ONE)
    async def get(session_id: Id) -> bodies.SessionDetailBody:
        """Shows a session and what its older turns were about."""
        return bodies.SessionDetailBody(**await archive.ask("GetSession", session_id=session_id))

    @routes.patch(one, operation_id="rename_session", summary="Give a session a title", responses=_CHANGE)
    async def rename(session_id: Id, body: bodies.SessionChange) -> bodies.SessionBody:
        """Changes the title."""
        changed = await archive.ask("UpdateSession", session_id=session_id, title=body.title)
        return bodies.SessionBody(**changed["session"])

    @routes.delete(one, operation_id="delete_session", summary="Forget a session", responses=_ONE)
    async def forget(session_id: Id) -> bodies.DeletedBody:
        """Forgets a session with all its turns, for good."""
        return bodies.DeletedBody(**await archive.ask("DeleteSession", session_id=session_id))


def _add_turns(routes: APIRouter, archive: Archive) -> None:
    @routes.get(
        "/sessions/{session_id}/turns",
        operation_id="list_turns",
        summary="What was said in a session",
        responses=_ONE,
    )
    async def find(session_id: Id, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> bodies.TurnListBody:
        """Shows the newest turns, oldest of them first."""
        await archive.ask("GetSession", session_id=session_id)
        return bodies.TurnListBody(**await archive.ask("GetSessionHistory", session_id=session_id, max_turns=limit))

    turn = "/sessions/{session_id}/turns/{run_id}/{position}"

    @routes.patch(turn, operation_id="edit_turn", summary="Change what was said", responses=_CHANGE)
    async def edit(session_id: Id, run_id: Id, position: Position, body: bodies.TurnChange) -> bodies.TurnBody:
        """Changes the text of a turn; what was summed up of it is made anew."""
        place = {"session_id": session_id, "run_id": run_id, "position": position}
        changed = await archive.ask("UpdateTurn", **place, text=body.text)
        return bodies.TurnBody(**changed["turn"])

    @routes.delete(turn, operation_id="delete_turn", summary="Forget a turn", status_code=204, responses=_ONE)
    async def forget(session_id: Id, run_id: Id, position: Position) -> Response:
        """Forgets one turn, for good."""
        await archive.ask("DeleteTurn", session_id=session_id, run_id=run_id, position=position)
        return Response(status_code=204)


def _add_history(routes: APIRouter, archive: Archive) -> None:
    @routes.get("/history/search", operation_id="search_history", summary="Find what was said", responses=_READ)
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=32_768, description="Words, or a date such as 2026-03-01")],
        session_id: Annotated[str, Query(max_length=200, description="Only in this session")] = "",
        persona: Persona = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> bodies.TurnMatchListBody:
        """Finds turns by their words, their date and the turn before them, the best first."""
        found = await archive.ask("SearchHistory", query=q, session_id=session_id, persona=persona, limit=limit)
        return bodies.TurnMatchListBody(**found)

    @routes.get(
        "/history/export",
        operation_id="export_history",
        summary="Take sessions away",
        response_class=StreamingResponse,
        responses={
            200: {"description": "One line for each session and turn", "content": {_LINES: _LINES_SCHEMA}},
            **_ONE,
        },
    )
    async def export(
        session_id: Annotated[str, Query(max_length=200, description="Only this session")] = "",
    ) -> StreamingResponse:
        """Sends one session or all as JSON Lines, such as import takes."""
        if session_id:
            # Before the answer begins, while it can still say that there is none.
            await archive.ask("GetSession", session_id=session_id)
        return StreamingResponse(archive.export(session_id), media_type=_LINES)

    @routes.post(
        "/history/import",
        operation_id="import_history",
        summary="Bring sessions in",
        responses=_CHANGE,
        openapi_extra={"requestBody": {"required": True, "content": {_LINES: _LINES_SCHEMA}}},
    )
    async def take_in(request: Request) -> bodies.ImportedBody:
        """Takes at most 2,000 lines in, all or none; turns that are there already stay as they are."""
        return bodies.ImportedBody(**await archive.ask("ImportSessions", jsonl=await _lines_of(request)))

    @routes.get("/history/statistics", operation_id="memory_statistics", summary="How much there is", responses=_READ)
    async def statistics() -> bodies.MemoryStatisticsBody:
        """Counts sessions, turns and playbooks."""
        return bodies.MemoryStatisticsBody(**await archive.ask("GetStatistics"))


def _add_playbooks(routes: APIRouter, archive: Archive) -> None:
    @routes.get("/playbooks", operation_id="list_playbooks", summary="What was learned from runs", responses=_READ)
    async def find(
        state: bodies.State | None = None,
        persona: Persona = "",
        q: Annotated[str, Query(max_length=32_768, description="Only the active ones that fit this task best")] = "",
        limit: Limit = 50,
        page_token: Token = "",
    ) -> bodies.PlaybookListBody:
        """Lists the playbooks, the one last changed first, or those that fit a task best."""
        found = await archive.ask(
            "ListPlaybooks", state=state, persona=persona, query=q, limit=limit, page_token=page_token
        )
        return bodies.PlaybookListBody(playbooks=found["playbooks"], next=found["next_page_token"] or None)

    one = "/playbooks/{playbook_id}"

    @routes.get(one, operation_id="get_playbook", summary="One playbook", responses=_ONE)
    async def get(playbook_id: Id) -> bodies.PlaybookBody:
        """Shows how a task was done, and how that fared."""
        found = await archive.ask("GetPlaybook", id=playbook_id)
        return bodies.PlaybookBody(**found["playbook"])

    @routes.patch(one, operation_id="change_playbook", summary="Change, set aside, restore", responses=_CHANGE)
    async def change(playbook_id: Id, body: bodies.PlaybookChange) -> bodies.PlaybookBody:
        """Changes what is given; a restored playbook begins anew."""
        changes: dict[str, Any] = body.model_dump(exclude_none=True)
        changed = await archive.ask("UpdatePlaybook", id=playbook_id, **changes)
        return bodies.PlaybookBody(**changed["playbook"])

    @routes.delete(one, operation_id="delete_playbook", summary="Forget one", status_code=204, responses=_ONE)
    async def forget(playbook_id: Id) -> Response:
        """Forgets a playbook, for good."""
        await archive.ask("DeletePlaybook", id=playbook_id)
        return Response(status_code=204)


async def _lines_of(request: Request) -> str:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _LINES:
        raise HTTPException(415, f"Content-Type must be {_LINES}")
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"the body is not UTF-8: {error}", field="body") from error
