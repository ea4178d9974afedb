"""Sessions and turns over HTTP: list, read, search, change, forget, carry elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pagi_chassis.errors import InvalidArgumentError
from pagi_chassis.proto_json import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pagi_memory.convert import hit_to_proto, session_to_proto, statistics_to_proto, turn_to_proto
from pagi_memory.domain.history import History
from pagi_memory.domain.limits import MAX_TURNS_READ
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.sessions import MAX_FOUND, MAX_LISTED, Sessions
from pagi_memory.routes import asking
from pagi_memory.schemas import records_from_jsonl, records_to_jsonl

JSON_LINES = "application/x-ndjson"


class SessionRoutes:
    """The endpoints; each is one call of the domain, for the tenant of the request."""

    def __init__(self, history: History, sessions: Sessions, playbooks: Playbooks) -> None:
        self._history = history
        self._sessions = sessions
        self._playbooks = playbooks

    def routes(self) -> list[Route]:
        """What is served."""
        one = "/memory/sessions/{session_id}"
        turn = f"{one}/turns/{{run_id:path}}/{{position:int}}"
        return [
            Route("/memory/sessions", self.find),
            Route("/memory/history/search", self.search),
            Route("/memory/history/export", self.export),
            Route("/memory/history/import", self.take_in, methods=["POST"]),
            Route("/memory/history/statistics", self.statistics),
            Route(f"{one}/turns", self.turns),
            Route(turn, self.edit_turn, methods=["PATCH"]),
            Route(turn, self.forget_turn, methods=["DELETE"]),
            Route(one, self.get),
            Route(one, self.rename, methods=["PATCH"]),
            Route(one, self.forget, methods=["DELETE"]),
        ]

    async def find(self, request: Request) -> Response:
        """A page of sessions."""
        page = await self._sessions.find(
            asking.tenant(),
            limit=asking.number(request, "limit", MAX_LISTED),
            page_token=asking.text(request, "page_token"),
            persona=asking.text(request, "persona"),
        )
        sessions = [to_json(session_to_proto(session)) for session in page.sessions]
        return JSONResponse({"sessions": sessions, "next": page.next_token or None})

    async def get(self, request: Request) -> Response:
        """One session with its summary."""
        session, summary = await self._sessions.get(asking.tenant(), request.path_params["session_id"])
        told = {"text": summary.text, "made_by": summary.made_by, "turns": summary.turns} if summary.text else None
        return JSONResponse({**to_json(session_to_proto(session)), "summary": told})

    async def turns(self, request: Request) -> Response:
        """The newest turns of a session that there is, oldest of them first."""
        session_id = request.path_params["session_id"]
        await self._sessions.get(asking.tenant(), session_id)
        limit = asking.number(request, "limit", MAX_TURNS_READ) or MAX_TURNS_READ
        turns = await self._history.newest(asking.tenant(), session_id, max_turns=limit)
        return JSONResponse({"session_id": session_id, "turns": [to_json(turn_to_proto(turn)) for turn in turns]})

    async def rename(self, request: Request) -> Response:
        """Another title."""
        body = await asking.members(request, "title")
        session = await self._sessions.rename(asking.tenant(), request.path_params["session_id"], body["title"])
        return JSONResponse(to_json(session_to_proto(session)))

    async def forget(self, request: Request) -> Response:
        """Forgets a session."""
        forgotten = await self._sessions.forget(asking.tenant(), request.path_params["session_id"])
        return JSONResponse({"deleted_turns": forgotten})

    async def edit_turn(self, request: Request) -> Response:
        """Another text of a turn."""
        body = await asking.members(request, "text")
        place = request.path_params
        turn = await self._sessions.edit_turn(
            asking.tenant(), place["session_id"], place["run_id"], place["position"], body["text"]
        )
        return JSONResponse(to_json(turn_to_proto(turn)))

    async def forget_turn(self, request: Request) -> Response:
        """Forgets a turn."""
        place = request.path_params
        await self._sessions.forget_turn(asking.tenant(), place["session_id"], place["run_id"], place["position"])
        return Response(status_code=204)

    async def search(self, request: Request) -> Response:
        """The turns that hold words of a query, with the words that were found."""
        if not (query := asking.text(request, "q")).strip():
            raise InvalidArgumentError("say what to look for", field="q")
        hits = await self._sessions.search(
            asking.tenant(),
            query,
            session_id=asking.text(request, "session_id"),
            persona=asking.text(request, "persona"),
            limit=asking.number(request, "limit", MAX_FOUND),
        )
        return JSONResponse({"matches": [to_json(hit_to_proto(hit)) for hit in hits]})

    async def export(self, request: Request) -> Response:
        """One session or all as JSON Lines."""
        session_id = asking.text(request, "session_id")
        if session_id:
            # Before the answer begins, while it can still say that there is none.
            await self._sessions.get(asking.tenant(), session_id)
        return StreamingResponse(self._lines(asking.tenant(), session_id), media_type=JSON_LINES)

    async def _lines(self, tenant: str, session_id: str) -> AsyncIterator[str]:
        async for record in self._sessions.export(tenant, session_id):
            for lines in records_to_jsonl(record):
                yield lines

    async def take_in(self, request: Request) -> Response:
        """Takes JSON Lines in, all or none."""
        report = await self._sessions.take_in(asking.tenant(), records_from_jsonl(await asking.lines(request)))
        return JSONResponse(
            {"sessions": report.sessions, "stored_turns": report.stored_turns, "known_turns": report.known_turns}
        )

    async def statistics(self, _: Request) -> Response:
        """How much the tenant has."""
        heart = await self._sessions.statistics(asking.tenant())
        return JSONResponse(to_json(statistics_to_proto(heart, await self._playbooks.statistics(asking.tenant()))))
