"""`/memory/documents`, `/memory/search`, `/memory/knowledge`: what the agent can look up, to see and to change."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pagi_planner.domain.ports import Archive
from pagi_planner.routes import knowledge_bodies as bodies
from pagi_planner.routes.problem_responses import problems

# What one message to memory holds, less its other fields.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024 - 65_536
_FILE = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_UNREADABLE = {**problems(412)[412], "description": "The file cannot be read, or is not what its name says"}
_READ = problems(401, 404, 422, 500, 503, 504)
_CHANGE: dict[int | str, dict[str, Any]] = {
    **problems(401, 403, 404, 413, 422, 429, 500, 503, 504),
    412: _UNREADABLE,
}
_CREATED: dict[str, Any] = {"description": "There was none of this source before", "model": bodies.DocumentInfoBody}

Source = Annotated[str, Path(min_length=1, max_length=500, description="Such as Domain-KB/tea.md")]
Persona = Annotated[str, Query(max_length=63, description="Empty: every persona, or the default one in a search")]
Bases = Annotated[list[bodies.KnowledgeBaseName], Query(default_factory=list, max_length=4, description="Only these")]
_Pair = Annotated[str, StringConstraints(pattern=r"^[^:]+:", max_length=1_000)]
Sources = Annotated[
    list[str], Query(default_factory=list, max_length=100, description="Only these documents; * stands for anything")
]
Metadata = Annotated[
    list[_Pair],
    Query(default_factory=list, max_length=20, description="Only documents that say so of themselves, as key:value"),
]


def router(archive: Archive) -> APIRouter:
    """The routes of documents and of the search in them."""
    routes = APIRouter(prefix="/memory", tags=["memory"])
    _add_documents(routes, archive)
    _add_changes(routes, archive)
    _add_search(routes, archive)
    return routes


def _add_documents(routes: APIRouter, archive: Archive) -> None:
    @routes.get("/documents", operation_id="list_documents", summary="The documents", responses=_READ)
    async def find(
        knowledge_base: Bases,
        persona: Persona = "",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        after: Annotated[str, Query(max_length=500, description="`after` of the page before")] = "",
    ) -> bodies.DocumentListBody:
        """Lists the documents in the order of their sources."""
        found = await archive.ask(
            "ListDocuments", persona=persona, knowledge_bases=knowledge_base, page_size=limit, page_token=after
        )
        return bodies.DocumentListBody(documents=found["documents"], after=found["next_page_token"])

    @routes.get(
        "/documents/{source:path}", operation_id="get_document", summary="One document with its text", responses=_READ
    )
    async def get(source: Source) -> bodies.DocumentBody:
        """Shows a document as it is searched, and the passages that it was cut into."""
        found = await archive.ask("GetDocument", source=source)
        return bodies.DocumentBody(**found["document"], text=found["text"], pieces=found["passages"])


def _add_changes(routes: APIRouter, archive: Archive) -> None:
    one = "/documents/{source:path}"

    @routes.put(
        one,
        operation_id="put_document",
        summary="Write a document",
        responses={**_CHANGE, 201: _CREATED},
        openapi_extra={"requestBody": {"required": True, "content": _FILE}},
    )
    async def put(source: Source, request: Request, response: Response) -> bodies.DocumentInfoBody:
        """Writes the file, of whichever format its name says; it is searchable when the answer comes."""
        content = await request.body()
        if len(content) > MAX_DOCUMENT_BYTES:
            raise HTTPException(413, f"a document may have {MAX_DOCUMENT_BYTES} bytes; this one has {len(content)}")
        written = await archive.ask("PutDocument", source=source, content=content)
        response.status_code = 201 if written["created"] else 200
        return bodies.DocumentInfoBody(**written["document"])

    @routes.delete(one, operation_id="delete_document", summary="Delete a document", status_code=204, responses=_CHANGE)
    async def delete(source: Source) -> Response:
        """Deletes the file, for good; nothing of it is found any more when the answer comes."""
        await archive.ask("DeleteDocument", source=source)
        return Response(status_code=204)


def _add_search(routes: APIRouter, archive: Archive) -> None:
    @routes.get("/search", operation_id="search_knowledge", summary="Find passages", responses=_READ)
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=32_768)],
        knowledge_base: Bases,
        source: Sources,
        metadata: Metadata,
        persona: Persona = "",
        top_k: Annotated[int | None, Query(ge=1, le=100, description="Absent: as the operator set it")] = None,
        max_tokens: Annotated[int | None, Query(ge=1, le=1_000_000, description="Of all passages together")] = None,
    ) -> bodies.FoundPassageListBody:
        """Finds the passages that answer a question best, and tells why each was chosen."""
        found = await archive.ask(
            "GetRAGContext",
            query=q,
            persona=persona,
            knowledge_bases=knowledge_base,
            sources=source,
            metadata={key: value for key, _, value in (pair.partition(":") for pair in metadata)},
            top_k=top_k or 0,
            max_tokens=max_tokens or 0,
        )
        return bodies.FoundPassageListBody(passages=found["matches"])

    @routes.get("/knowledge", operation_id="knowledge_statistics", summary="What there is", responses=_READ)
    async def overview() -> bodies.KnowledgeBody:
        """Tells what each knowledge base holds, the embedding model, and what was skipped."""
        found = await archive.ask("GetKnowledgeStatistics")
        skipped = {each["source"]: each["reason"] for each in found["skipped"]}
        return bodies.KnowledgeBody(**{**found, "skipped": skipped})
