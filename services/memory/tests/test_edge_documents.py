"""Documents over gRPC and HTTP: see, change, and who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace

import httpx
import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from pagi_chassis.health import Health
from pagi_chassis.testing import serving
from pagi_memory.domain.ingestion import IngestPhase
from pagi_memory.routes.application import application
from pagi_memory.routes.knowledge import knowledge_routes
from pagi_memory.servicer import SERVICE_NAME
from pagi_memory.testing import HashingEmbedder

TEA = "Domain-KB/tea.md"


@pytest.fixture
async def rpc(mind) -> AsyncIterator[SimpleNamespace]:
    await mind.ingestion.run()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, mind.servicer(), SERVICE_NAME) as client:
        stub = memory_pb2_grpc.MemoryStub(client.channel)

        async def call(name: str, request: object, *, tenant: str = ""):
            with correlation.bind(tenant=tenant):
                return await client.call(getattr(stub, name), request, timeout_s=5)

        yield SimpleNamespace(call=call, client=client, stub=stub)


@pytest.fixture
async def http(mind) -> AsyncIterator[httpx.AsyncClient]:
    await mind.ingestion.run()
    health = Health("memory")
    app = application(health, mind.history, more=knowledge_routes(mind.documents, mind.recall), max_body_bytes=1_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://memory") as client:
        yield client


async def test_documents_are_listed_in_pages(rpc) -> None:
    first = await rpc.call("ListDocuments", pb.ListDocumentsRequest(page_size=4))
    rest = await rpc.call("ListDocuments", pb.ListDocumentsRequest(page_size=4, page_token=first.next_page_token))
    assert [document.source for document in [*first.documents, *rest.documents]] == [
        "Body-KB/kettle.md",
        "Domain-KB/dogs.md",
        TEA,
        "Soul-KB/persona.md",
        "personas/dog/Domain-KB/walks.md",
        "personas/dog/Soul-KB/persona.md",
    ]
    assert rest.next_page_token == ""
    tea = first.documents[2]
    assert (tea.persona, tea.knowledge_base, tea.passages) == ("default", pb.KNOWLEDGE_BASE_DOMAIN, 2)
    request = pb.ListDocumentsRequest(persona="dog", knowledge_bases=[pb.KNOWLEDGE_BASE_DOMAIN])
    assert [d.source for d in (await rpc.call("ListDocuments", request)).documents] == [
        "personas/dog/Domain-KB/walks.md"
    ]


async def test_a_document_is_written_read_searched_and_deleted(rpc, mind) -> None:
    source = "Domain-KB/oolong.md"
    put = await rpc.call("PutDocument", pb.PutDocumentRequest(source=source, text="Oolong tea is half oxidised."))
    assert (put.created, put.document.passages) == (True, 1)
    assert mind.files.texts[source] == "Oolong tea is half oxidised."
    got = await rpc.call("GetDocument", pb.GetDocumentRequest(source=source))
    assert [got.text, *[p.text for p in got.passages]] == ["Oolong tea is half oxidised."] * 2
    found = await rpc.call("GetRAGContext", pb.GetRAGContextRequest(query="oolong", sources=["*/oolong.md"]))
    assert [(match.source, match.score_parts.lexical_rank, match.merged) for match in found.matches] == [(source, 1, 1)]
    put = await rpc.call("PutDocument", pb.PutDocumentRequest(source=source, content=b"Something else."))
    assert put.created is False
    await rpc.call("DeleteDocument", pb.DeleteDocumentRequest(source=source))
    assert source not in mind.files.texts
    with pytest.raises(NotFoundError, match="oolong"):
        await rpc.call("GetDocument", pb.GetDocumentRequest(source=source))
    with pytest.raises(NotFoundError):
        await rpc.call("DeleteDocument", pb.DeleteDocumentRequest(source=source))


@pytest.mark.parametrize("source", ["", "tea.md", "../Domain-KB/tea.md", "Domain-KB/../../tea.md", "Mind-KB/a.md"])
async def test_what_is_no_source_is_refused(rpc, source: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await rpc.call("PutDocument", pb.PutDocumentRequest(source=source, text="x"))
    assert caught.value.field == "source"
    with pytest.raises(InvalidArgumentError):
        await rpc.call("DeleteDocument", pb.DeleteDocumentRequest(source=source))


async def test_only_the_installation_and_its_editors_change_documents(rpc, mind) -> None:
    put = pb.PutDocumentRequest(source="Domain-KB/new.md", text="x")
    delete = pb.DeleteDocumentRequest(source=TEA)
    before = dict(mind.files.texts)
    for name, request in [("PutDocument", put), ("DeleteDocument", delete)]:
        with pytest.raises(PermissionDeniedError, match="KNOWLEDGE_BASES_EDITORS"):
            await rpc.call(name, request, tenant="other")
    with correlation.bind(tenant="other"), pytest.raises(PermissionDeniedError):
        await anext(rpc.client.stream(rpc.stub.IngestKnowledgeBases, pb.IngestKnowledgeBasesRequest(), timeout_s=5))
    assert mind.files.texts == before
    assert (await rpc.call("GetDocument", pb.GetDocumentRequest(source=TEA), tenant="other")).text
    assert (await rpc.call("PutDocument", put, tenant="acme")).created


async def test_an_ingestion_streams_its_progress(rpc, mind) -> None:
    mind.files.damaged.add("Domain-KB/bad.md")
    mind.files.texts |= {"Domain-KB/bad.md": "?", "Domain-KB/good.md": "Oolong."}
    stream = rpc.client.stream(rpc.stub.IngestKnowledgeBases, pb.IngestKnowledgeBasesRequest(), timeout_s=5)
    told = [message async for message in stream]
    assert [message.phase for message in told[:1] + told[-2:]] == [
        pb.INGEST_PHASE_LOOKING,
        pb.INGEST_PHASE_INDEXING,
        pb.INGEST_PHASE_DONE,
    ]
    last = told[-1]
    assert (last.total, last.done, last.unchanged, last.stored, last.removed) == (2, 2, 6, 1, 0)
    assert [(skipped.source, skipped.reason) for skipped in last.skipped] == [("Domain-KB/bad.md", "it is damaged")]
    statistics = await rpc.call("GetKnowledgeStatistics", pb.GetKnowledgeStatisticsRequest())
    assert [skipped.source for skipped in statistics.skipped] == ["Domain-KB/bad.md"]


async def test_an_ingestion_that_fails_says_so(rpc, mind) -> None:
    mind.index.down = True
    mind.files.texts["Domain-KB/good.md"] = "Oolong."
    with pytest.raises(Exception, match="down"):
        [_ async for _ in mind.documents.ingest("")]
    mind.index.down = False
    assert [p async for p in mind.documents.ingest("")][-1].phase is IngestPhase.DONE


class Waiting(HashingEmbedder):
    """Embeds one document and then waits for ever."""

    async def embed(self, texts: Sequence[str]) -> list:
        if self.embedded:
            await asyncio.Event().wait()
        return await super().embed(texts)


async def test_nobody_listening_ends_an_ingestion_and_the_next_goes_on(mind) -> None:
    mind.serving.use(Waiting())
    feed = mind.documents.ingest("")
    async for progress in feed:
        if progress.done == 3:
            break
    await feed.aclose()
    assert not mind.ingestion.lock.locked()
    mind.serving.use(HashingEmbedder())
    report = [p async for p in mind.documents.ingest("")][-1].report
    assert (report.unchanged, report.stored) == (3, 3)


async def test_statistics_tell_what_each_shelf_holds(rpc) -> None:
    found = await rpc.call("GetKnowledgeStatistics", pb.GetKnowledgeStatisticsRequest())
    of_domain = next(s for s in found.shelves if (s.persona, s.knowledge_base) == ("default", pb.KNOWLEDGE_BASE_DOMAIN))
    assert (of_domain.documents, of_domain.passages) == (2, 3)
    assert len(found.shelves) == 5
    assert (found.next_embedding_model, found.reembedded) == ("", 0)


async def test_a_search_is_narrowed_by_source_metadata_quota_and_budget(rpc, mind) -> None:
    mind.files.metadata = {TEA: {"kind": "drink"}}
    await mind.ingestion.run(rebuild=True)

    async def sources(**bounds: object) -> list[str]:
        request = pb.GetRAGContextRequest(query="tea dog kettle water", top_k=9, **bounds)
        return sorted(match.source for match in (await rpc.call("GetRAGContext", request)).matches)

    assert await sources() == ["Body-KB/kettle.md", "Domain-KB/dogs.md", TEA, TEA]
    assert await sources(sources=["Domain-KB/*"]) == ["Domain-KB/dogs.md", TEA, TEA]
    assert await sources(sources=["Domain-KB/[d]ogs.md"]) == []
    assert await sources(metadata={"kind": "drink"}) == [TEA, TEA]
    assert await sources(metadata={"kind": "other"}) == []
    quota = pb.KnowledgeBaseQuota(knowledge_base=pb.KNOWLEDGE_BASE_DOMAIN, max_passages=1)
    assert len(await sources(quotas=[quota])) == 2
    with pytest.raises(InvalidArgumentError, match="max_passages"):
        await sources(quotas=[pb.KnowledgeBaseQuota(knowledge_base=pb.KNOWLEDGE_BASE_BODY)])
    with pytest.raises(InvalidArgumentError, match="max_tokens"):
        await sources(max_tokens=-1)


async def test_http_lists_reads_and_searches_with_the_reasons(http) -> None:
    listed = (await http.get("/memory/documents", params={"limit": "2", "knowledge_base": "Domain-KB"})).json()
    assert [document["source"] for document in listed["documents"]] == ["Domain-KB/dogs.md", TEA]
    more = (await http.get("/memory/documents", params={"after": listed["after"], "limit": "2"})).json()
    assert more["documents"][0]["source"] == "Soul-KB/persona.md"
    tea = (await http.get(f"/memory/documents/{TEA}")).json()
    assert [passage["index"] for passage in tea["pieces"]] == [0, 1]
    found = (await http.get("/memory/search", params={"q": "green tea", "top_k": "1"})).json()["passages"]
    assert [(p["source"], p["why"]["lexical_rank"], p["why"]["dense_rank"]) for p in found] == [(TEA, 1, 1)]
    why = found[0]["why"]
    assert found[0]["score"] == pytest.approx(0.5 * why["dense"] + 0.5 * why["lexical"])
    assert why["dense"] == 1.0
    knowledge = (await http.get("/memory/knowledge")).json()
    assert {shelf["persona"] for shelf in knowledge["shelves"]} == {"default", "dog"}


async def test_http_writes_and_deletes_as_far_as_the_tenant_may(http, mind) -> None:
    path = "/memory/documents/Domain-KB/new%20tea.md"
    refused = await http.put(path, content="x", headers={"x-tenant": "other"})
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert (await http.put(path, content="Oolong.", headers={"x-tenant": "acme"})).status_code == 201
    assert (await http.put(path, content="Oolong!")).status_code == 200
    assert mind.files.texts["Domain-KB/new tea.md"] == "Oolong!"
    assert (await http.delete(path, headers={"x-tenant": "other"})).status_code == 403
    assert (await http.delete(path)).status_code == 204
    assert (await http.delete(path)).status_code == 404
    assert (await http.put(path, content="x" * 1_001)).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/memory/documents?limit=0",
        "/memory/documents?limit=1e3",
        "/memory/documents?knowledge_base=Head-KB",
        "/memory/search?q=x&top_k=101",
        "/memory/search?q=x&metadata=novalue",
        "/memory/search?q=x&knowledge_base=Soul-KB",
        "/memory/documents?after=" + "x" * 600,
    ],
)
async def test_http_refuses_what_cannot_be_meant(http, path: str) -> None:
    assert (await http.get(path)).status_code == 422
