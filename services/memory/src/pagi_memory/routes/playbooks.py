"""Playbooks over HTTP: list, read, search, change, set aside, restore, forget."""

from __future__ import annotations

from pagi_chassis.errors import InvalidArgumentError
from pagi_chassis.proto_json import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagi_memory.convert import playbook_to_proto
from pagi_memory.domain.playbook import PlaybookState
from pagi_memory.domain.playbooks import MAX_LISTED, Playbooks
from pagi_memory.routes import asking


class PlaybookRoutes:
    """The endpoints; each is one call of the domain, for the tenant of the request."""

    def __init__(self, playbooks: Playbooks) -> None:
        self._playbooks = playbooks

    def routes(self) -> list[Route]:
        """What is served."""
        one = "/memory/playbooks/{playbook_id}"
        return [
            Route("/memory/playbooks", self.find),
            Route(one, self.get),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.forget, methods=["DELETE"]),
        ]

    async def find(self, request: Request) -> Response:
        """A page of playbooks, or with `q` those that fit it best."""
        page = await self._playbooks.find(
            asking.tenant(),
            state=_state(asking.text(request, "state")),
            persona=asking.text(request, "persona"),
            query=asking.text(request, "q"),
            limit=asking.number(request, "limit", MAX_LISTED),
            page_token=asking.text(request, "page_token"),
        )
        playbooks = [to_json(playbook_to_proto(playbook)) for playbook in page.playbooks]
        return JSONResponse({"playbooks": playbooks, "next": page.next_token or None})

    async def get(self, request: Request) -> Response:
        """One playbook."""
        playbook = await self._playbooks.get(asking.tenant(), request.path_params["playbook_id"])
        return JSONResponse(to_json(playbook_to_proto(playbook)))

    async def change(self, request: Request) -> Response:
        """Another prompt, notes or state: `active` restores it, `set_aside` takes it away from runs."""
        body = await asking.members(request, "state", "prompt", "notes")
        playbook = await self._playbooks.change(
            asking.tenant(),
            request.path_params["playbook_id"],
            state=_state(body.get("state", "")),
            prompt=body.get("prompt"),
            notes=body.get("notes"),
        )
        return JSONResponse(to_json(playbook_to_proto(playbook)))

    async def forget(self, request: Request) -> Response:
        """Forgets one."""
        await self._playbooks.forget(asking.tenant(), request.path_params["playbook_id"])
        return Response(status_code=204)


def _state(text: str) -> PlaybookState | None:
    try:
        return PlaybookState(text) if text else None
    except ValueError as error:
        raise InvalidArgumentError(f"state must be {' or '.join(PlaybookState)}", field="state") from error
