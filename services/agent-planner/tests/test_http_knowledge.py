"""Documents and the search in them through the planner: what is asked, what is answered, who may."""

from __future__ import annotations

import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import FailedPreconditionError, NotFoundError, PermissionDeniedError
from pagi_chassis.testing import serving
from pagi_planner.adapters.memory_desk import MemoryDesk
from pagi_planner.routes.knowledge import MAX_DOCUMENT_BYTES
from pagi_planner.testing import ScriptedArchive

TEA = "/memory/documents/Domain-KB/tea.md"


@pytest.fixture
def asked(planner, archive):
    planner.archive = archive
    archive.asked.clear()
    return archive.asked


@pytest.mark.parametrize(
    ("method", "path", "content", "question"),
    [
        (
            "GET",
            "/documents?knowledge_base=Soul-KB&knowledge_base=Body-KB&limit=2&after=a&persona=dog",
            None,
            (
                "ListDocuments",
                {"persona": "dog", "knowledge_bases": ["Soul-KB", "Body-KB"], "page_size": 2, "page_token": "a"},
            ),
        ),
        (
            "GET",
            "/documents/personas/dog/Body-KB/a%20b.md",
            None,
            ("GetDocument", {"source": "personas/dog/Body-KB/a b.md"}),
        ),
        (
            "PUT",
            "/documents/Domain-KB/a.pdf",
            b"%PDF\xff",
            ("PutDocument", {"source": "Domain-KB/a.pdf", "content": b"%PDF\xff"}),
        ),
        ("PUT", "/documents/Domain-KB/a.md", b"", ("PutDocument", {"source": "Domain-KB/a.md", "content": b""})),
        ("DELETE", "/documents/Domain-KB/a.md", None, ("DeleteDocument", {"source": "Domain-KB/a.md"})),
        (
            "GET",
            "/search?q=tea&source=Domain-KB/*&metadata=a:b:c&metadata=d:&top_k=3&max_tokens=9",
            None,
            (
                "GetRAGContext",
                {
                    "query": "tea",
                    "persona": "",
                    "knowledge_bases": [],
                    "sources": ["Domain-KB/*"],
                    "metadata": {"a": "b:c", "d": ""},
                    "top_k": 3,
                    "max_tokens": 9,
                },
            ),
        ),
        ("GET", "/knowledge", None, ("GetKnowledgeStatistics", {})),
    ],
)
async def test_a_question_goes_on_as_it_is(planner, asked, method, path, content, question):
    async with planner.client() as client:
        answer = await client.request(method, f"/memory{path}", content=content)
    assert answer.status_code in (200, 201, 204), answer.text
    assert asked == [question]


async def test_answers_are_as_memory_itself_gives_them(planner, asked):
    async with planner.client() as client:
        listed = (await client.get("/memory/documents")).json()
        assert (listed["after"], listed["documents"][0]["knowledge_base"]) == ("Domain-KB/tea.md", "Domain-KB")
        document = (await client.get(TEA)).json()
        assert (document["text"], document["pieces"][0]["headings"]) == ("Tea, hot.", ["Tea"])
        [found] = (await client.get("/memory/search?q=tea")).json()["passages"]
        assert (found["knowledge_base"], found["score"], found["why"]["cosine"], found["why"]["merged"]) == (
            "Domain-KB",
            0.9,
            0.7,
            1,
        )
        assert not {"score_parts", "merged"} & set(found)
        knowledge = (await client.get("/memory/knowledge")).json()
        assert knowledge["skipped"] == {"Domain-KB/a.pdf": "it is no PDF"}
        assert knowledge["shelves"][0]["knowledge_base"] == "Soul-KB"


@pytest.mark.parametrize(("created", "status"), [(True, 201), (False, 200)])
async def test_a_new_document_is_told_from_one_that_was_there(planner, archive, created, status):
    written = {**await archive.ask("PutDocument"), "created": created}
    planner.archive = ScriptedArchive({"PutDocument": written})
    async with planner.client() as client:
        answer = await client.put(TEA, content=b"Tea, hot.")
    assert (answer.status_code, answer.json()["source"]) == (status, "Domain-KB/tea.md")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/documents?limit=1001", 422),
        ("GET", "/documents?knowledge_base=Odd-KB", 422),
        ("GET", "/documents/", 422),
        ("DELETE", f"/documents/{'a' * 501}", 422),
        ("GET", "/search", 422),
        ("GET", "/search?q=tea&top_k=0", 422),
        ("GET", "/search?q=tea&metadata=pair", 422),
        ("POST", "/documents/Domain-KB/tea.md", 405),
    ],
)
async def test_what_cannot_be_asked_is_a_problem(planner, asked, method, path, status):
    async with planner.client() as client:
        answer = await client.request(method, f"/memory{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert asked == []


async def test_a_document_that_no_message_holds_is_refused(planner, asked):
    async with planner.client() as client:
        answer = await client.put(TEA, content=bytes(MAX_DOCUMENT_BYTES + 1))
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert asked == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no such document"), 404),
        (PermissionDeniedError("this tenant reads them"), 403),
        (FailedPreconditionError("it is no PDF"), 412),
    ],
)
async def test_what_memory_says_reaches_the_caller(planner, error, status):
    planner.archive = ScriptedArchive({"DeleteDocument": error, "PutDocument": error})
    async with planner.client() as client:
        for answer in (await client.put(TEA, content=b"x"), await client.delete(TEA)):
            assert (answer.status_code, answer.json()["detail"]) == (status, error.message)


async def test_without_the_key_nothing_is_told_or_changed(planner, asked):
    planner.api_key = "secret"
    async with planner.client() as client:
        for method, path in [
            ("GET", "/memory/knowledge"),
            ("GET", "/memory/search?q=a"),
            ("PUT", TEA),
            ("DELETE", TEA),
        ]:
            assert (await client.request(method, path)).status_code == 401
        assert asked == []
        assert (await client.get(TEA, headers={"X-API-Key": "secret"})).status_code == 200


class KeptDocuments(memory_pb2_grpc.MemoryServicer):
    def __init__(self):
        self.kept = {}

    async def PutDocument(self, request, context):
        created = request.source not in self.kept
        self.kept[request.source] = (request.content, correlation.current().tenant, context.time_remaining())
        return pb.PutDocumentResponse(document=pb.DocumentInfo(source=request.source), created=created)

    async def ListDocuments(self, request, context):
        return pb.ListDocumentsResponse(next_page_token=str(list(request.knowledge_bases)))

    async def GetRAGContext(self, request, context):
        return pb.GetRAGContextResponse(matches=[pb.Passage(source=request.sources[0], metadata=request.metadata)])


async def test_the_desk_asks_over_grpc_for_the_tenant_of_the_request():
    memory = KeptDocuments()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, memory, "pagi.memory.v1.Memory") as client:
        desk = MemoryDesk(client, timeout_s=1.0)
        with correlation.bind(tenant="acme"):
            largest = bytes(MAX_DOCUMENT_BYTES)
            assert (await desk.ask("PutDocument", source="Domain-KB/a", content=largest))["created"]
        content, tenant, remaining_s = memory.kept["Domain-KB/a"]
        assert (len(content), tenant) == (MAX_DOCUMENT_BYTES, "acme")
        # A document is embedded before the answer comes.
        assert remaining_s > 60
        listed = await desk.ask("ListDocuments", knowledge_bases=["Soul-KB", "Body-KB"])
        assert listed["next_page_token"] == "[1, 3]"
        [found] = (await desk.ask("GetRAGContext", query="a", sources=["b"], metadata={"c": "d"}))["matches"]
        assert (found["source"], found["metadata"]) == ("b", {"c": "d"})
