"""Documents over HTTP: list, read, search with the reasons, write, delete."""

from __future__ import annotations

from pagi_chassis.errors import InvalidArgumentError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagi_memory.domain.documents import MAX_PAGE, Documents
from pagi_memory.domain.limits import MAX_TOP_K
from pagi_memory.domain.model import KnowledgeBase, Narrowing
from pagi_memory.domain.recall import MAX_TOKENS_GIVEN, Recall
from pagi_memory.routes import asking
from pagi_memory.schemas import document_to_json, info_to_json, overview_to_json, scored_to_json


def knowledge_routes(documents: Documents, recall: Recall) -> list[Route]:
    """The routes under `/memory`."""
    edge = _KnowledgeEdge(documents, recall)
    one = "/memory/documents/{source:path}"
    return [
        Route("/memory/documents", edge.page),
        Route(one, edge.get, methods=["GET"]),
        Route(one, edge.put, methods=["PUT"]),
        Route(one, edge.delete, methods=["DELETE"]),
        Route("/memory/search", edge.search),
        Route("/memory/knowledge", edge.overview),
    ]


class _KnowledgeEdge:
    def __init__(self, documents: Documents, recall: Recall) -> None:
        self._documents = documents
        self._recall = recall

    async def page(self, request: Request) -> Response:
        """`?persona=&knowledge_base=&limit=&after=`."""
        query = request.query_params
        found, after = await self._documents.page(
            persona=query.get("persona", ""),
            knowledge_bases=_bases(query.getlist("knowledge_base")),
            page_size=asking.number(request, "limit", MAX_PAGE),
            after=query.get("after", ""),
        )
        return JSONResponse({"documents": [info_to_json(info) for info in found], "after": after})

    async def get(self, request: Request) -> Response:
        """The text and the passages of a document."""
        return JSONResponse(document_to_json(*await self._documents.get(request.path_params["source"])))

    async def put(self, request: Request) -> Response:
        """The body is the file, of whichever format its name says."""
        content = await request.body()
        info, created = await self._documents.put(asking.tenant(), request.path_params["source"], content)
        return JSONResponse(info_to_json(info), status_code=201 if created else 200)

    async def delete(self, request: Request) -> Response:
        """Deletes a document."""
        await self._documents.delete(asking.tenant(), request.path_params["source"])
        return Response(status_code=204)

    async def search(self, request: Request) -> Response:
        """`?q=&persona=&knowledge_base=&source=&metadata=key:value&top_k=&max_tokens=`."""
        query = request.query_params
        found = await self._recall.search(
            query.get("q", ""),
            persona=query.get("persona", ""),
            knowledge_bases=_bases(query.getlist("knowledge_base")),
            top_k=asking.number(request, "top_k", MAX_TOP_K),
            max_tokens=asking.number(request, "max_tokens", MAX_TOKENS_GIVEN),
            only=Narrowing(tuple(query.getlist("source")), _metadata(query.getlist("metadata"))),
        )
        return JSONResponse({"passages": [scored_to_json(scored) for scored in found]})

    async def overview(self, _: Request) -> Response:
        """What there is."""
        return JSONResponse(overview_to_json(await self._documents.overview()))


def _bases(names: list[str]) -> list[KnowledgeBase]:
    known = {base.value: base for base in KnowledgeBase}
    for name in names:
        if name not in known:
            raise InvalidArgumentError(
                f"knowledge_base {name!r} is unknown; known are {', '.join(known)}.", field="knowledge_base"
            )
    return [known[name] for name in names]


def _metadata(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if ":" not in pair:
            raise InvalidArgumentError("metadata must be given as key:value.", field="metadata")
    return {key: value for key, _, value in (pair.partition(":") for pair in pairs)}
