"""What nobody should send, over gRPC on the real stores and the carried model: typed errors, and nothing of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, PagiError
from pagi_chassis.testing import serving
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.sql_sessions import SqlSessionStore
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.servicer import SERVICE_NAME

STEP = {"tool": "math", "arguments_json": "{}", "outcome": "4"}


@pytest.fixture
async def rpc(mind_on: Any, embedder: OnnxEmbedder, tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    passages, heart = SqlitePassageStore(tmp_path / "memory.db"), SqliteHeart(tmp_path / "heart.db")
    await passages.start()
    await heart.start()
    await passages.serve_model(embedder.identity)
    mind = mind_on(store=passages, sessions=SqlSessionStore(heart), embedder=embedder)
    await mind.ingestion.run()
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, mind.servicer(), SERVICE_NAME) as client:
        stub = memory_pb2_grpc.MemoryStub(client.channel)

        async def call(method: str, **fields: Any) -> Any:
            request = getattr(pb, f"{method}Request")(**fields)
            return await client.call(getattr(stub, method), request, timeout_s=20)

        yield SimpleNamespace(call=call, mind=mind)
    await heart.stop()
    await passages.stop()


BINARY = "".join(map(chr, range(256))) * 4
ODD = [
    "",
    "   ",
    "\0",
    BINARY,
    "\u202e\ufeff\U0001f642",
    '" OR "1"="1',
    "NEAR(a b) AND *",
    "-",
    "x" * 32_768,
    "the of and",
]


@pytest.mark.parametrize("query", ODD, ids=range(len(ODD)))
async def test_an_odd_query_is_answered(rpc: SimpleNamespace, query: str) -> None:
    for fields in ({}, {"persona": "dog"}):
        told = await rpc.call("GetContext", session_id="s", query=query, **fields)
        assert told.soul
        assert len((await rpc.call("GetRAGContext", query=query, **fields)).matches) <= 5
    await rpc.call("SearchHistory", query=query)
    await rpc.call("ListPlaybooks", query=query)


LONG = "x" * 1_048_576
REFUSED = [
    ("GetContext", {"session_id": "s", "query": LONG}, "query"),
    ("GetRAGContext", {"query": LONG}, "query"),
    ("SearchHistory", {"query": LONG}, "query"),
    ("ListPlaybooks", {"query": LONG}, "query"),
    *(("GetRAGContext", {"query": "tea", "top_k": top_k}, "top_k") for top_k in (-1, 101, 10_000, 2**31 - 1)),
    *(("GetContext", {"session_id": "s", "top_k": top_k}, "top_k") for top_k in (-1, 10_000)),
    *(("GetRAGContext", {"query": "tea", "sources": [source]}, "sources") for source in ("*" * 501, LONG)),
    ("GetRAGContext", {"query": "tea", "knowledge_bases": [99]}, "knowledge_bases"),
    ("GetRAGContext", {"query": "tea", "knowledge_bases": [pb.KNOWLEDGE_BASE_SOUL]}, "knowledge_bases"),
    *(
        (method, {"session_id": session_id}, "session_id")
        for method in ("GetContext", "GetSessionHistory", "GetSession", "DeleteSession")
        for session_id in ("", "../../etc/passwd", "a\\b", "..", "x" * 10_240, "a\0b")
    ),
    ("StoreSessionHistory", {"session_id": "s", "run_id": "x" * 10_240, "turns": [{"role": 1}]}, "run_id"),
    ("StoreSessionHistory", {"session_id": "s", "run_id": "r"}, "turns"),
    ("StoreSessionHistory", {"session_id": "s", "run_id": "r", "turns": [{"role": 9}]}, "turns[0].role"),
    ("PutDocument", {"source": "../../etc/passwd", "text": "x"}, "source"),
    ("PutDocument", {"source": "Mind-KB/x.md", "text": "x"}, "source"),
    ("RecordRuns", {"runs": [{}] * 501}, "runs"),
]


@pytest.mark.parametrize(("method", "fields", "field"), REFUSED)
async def test_what_cannot_be_meant_is_refused_and_named(
    rpc: SimpleNamespace, method: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await rpc.call(method, **fields)
    assert caught.value.field == field
    assert len(caught.value.message) < 300, "it does not send back what it was sent"


async def test_an_unknown_persona_is_answered_with_the_known_ones(rpc: SimpleNamespace) -> None:
    for method, fields in (("GetContext", {"session_id": "s"}), ("GetRAGContext", {"query": "tea"})):
        with pytest.raises(NotFoundError, match="default, dog"):
            await rpc.call(method, persona="nobody", **fields)


async def test_the_default_is_meant_by_none(rpc: SimpleNamespace) -> None:
    assert 1 <= len((await rpc.call("GetRAGContext", query="tea", top_k=0)).matches) <= 5


async def test_no_search_gives_another_tenants_words(rpc: SimpleNamespace) -> None:
    with correlation.bind(tenant="acme"):
        turns = [{"role": pb.TURN_ROLE_USER, "text": "the secret of acme is plutonium"}]
        await rpc.call("StoreSessionHistory", session_id="s", run_id="r", turns=turns)
        lesson = {"run_id": "r", "prompt": "where is the plutonium", "steps": [STEP]}
        await rpc.call("RecordRuns", runs=[{"playbook": lesson}])
        mind = {"query": "where is the plutonium", "knowledge_bases": [pb.KNOWLEDGE_BASE_MIND]}
        assert len((await rpc.call("GetRAGContext", **mind)).matches) == 1
    for tenant in ("", "acm", "acme2", "ACME", "%", "*"):
        with correlation.bind(tenant=tenant):
            answers = [
                await rpc.call("GetContext", session_id="s", query="where is the plutonium"),
                await rpc.call("GetSessionHistory", session_id="s"),
                await rpc.call("SearchHistory", query="secret of acme plutonium"),
                await rpc.call("ListSessions"),
                await rpc.call("ListPlaybooks"),
                await rpc.call("ListPlaybooks", query="where is the plutonium"),
                await rpc.call("GetRAGContext", **mind),
            ]
            assert "plutonium" not in str(answers)
            with pytest.raises(PagiError):
                await rpc.call("GetSession", session_id="s")
