from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_chassis.testing import serving
from pagi_memory.servicer import SERVICE_NAME

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def rpc(mind) -> AsyncIterator[SimpleNamespace]:
    await mind.ingestion.run()
    servicer = mind.servicer(now=lambda: NOON)
    async with serving(memory_pb2_grpc.add_MemoryServicer_to_server, servicer, SERVICE_NAME) as client:
        stub = memory_pb2_grpc.MemoryStub(client.channel)

        def caller(name: str):
            async def call(request):
                return await client.call(getattr(stub, name), request, timeout_s=5)

            return call

        names = ("GetContext", "GetRAGContext", "GetSessionHistory", "StoreSessionHistory")
        yield SimpleNamespace(**{name: caller(name) for name in names})


def store_request(**changes: object) -> pb.StoreSessionHistoryRequest:
    turns = [
        pb.Turn(role=pb.TURN_ROLE_USER, text="Tea?", created_at=Timestamp(seconds=1, nanos=5_000)),
        pb.Turn(role=pb.TURN_ROLE_TOOL_PLAN, text="{}", run_id="ignored", position=77),
        pb.Turn(role=pb.TURN_ROLE_TOOL_OUTPUT, text="4"),
        pb.Turn(role=pb.TURN_ROLE_ASSISTANT, text="Three minutes."),
    ]
    return pb.StoreSessionHistoryRequest(**{"session_id": "s", "run_id": "r1", "turns": turns} | changes)


async def test_history_is_stored_once_and_read_back(rpc) -> None:
    assert (await rpc.StoreSessionHistory(store_request())).stored == 4
    assert (await rpc.StoreSessionHistory(store_request())).stored == 0
    turns = (await rpc.GetSessionHistory(pb.GetSessionHistoryRequest(session_id="s"))).turns
    assert [(t.role, t.text, t.run_id, t.position) for t in turns] == [
        (pb.TURN_ROLE_USER, "Tea?", "r1", 0),
        (pb.TURN_ROLE_TOOL_PLAN, "{}", "r1", 1),
        (pb.TURN_ROLE_TOOL_OUTPUT, "4", "r1", 2),
        (pb.TURN_ROLE_ASSISTANT, "Three minutes.", "r1", 3),
    ]
    assert turns[0].created_at == Timestamp(seconds=1, nanos=5_000)
    assert turns[3].created_at.ToDatetime(tzinfo=UTC) == NOON
    newest = (await rpc.GetSessionHistory(pb.GetSessionHistoryRequest(session_id="s", max_turns=1))).turns
    assert [t.text for t in newest] == ["Three minutes."]


async def test_a_context_comes_in_one_round_trip(rpc) -> None:
    await rpc.StoreSessionHistory(store_request())
    answer = await rpc.GetContext(pb.GetContextRequest(session_id="s", query="green tea", top_k=1, max_turns=2))
    assert answer.soul == "I am the assistant."
    assert [t.text for t in answer.turns] == ["4", "Three minutes."]
    [passage] = answer.passages
    assert (passage.source, passage.index, passage.offset) == ("Domain-KB/tea.md", 0, 0)
    assert passage.knowledge_base == pb.KNOWLEDGE_BASE_DOMAIN
    assert passage.score == pytest.approx(0.5 * passage.score_parts.dense + 0.5 * passage.score_parts.lexical)
    empty = await rpc.GetContext(pb.GetContextRequest(session_id="new", persona="dog"))
    assert (empty.soul, list(empty.turns), list(empty.passages)) == ("I am Rex.", [], [])


async def test_passages_of_the_knowledge_bases_asked_for(rpc) -> None:
    request = pb.GetRAGContextRequest(query="kettle water", knowledge_bases=[pb.KNOWLEDGE_BASE_BODY])
    [match] = (await rpc.GetRAGContext(request)).matches
    assert (match.knowledge_base, match.source) == (pb.KNOWLEDGE_BASE_BODY, "Body-KB/kettle.md")


async def test_tenants_do_not_see_each_other(rpc) -> None:
    with correlation.bind(tenant="acme"):
        assert (await rpc.StoreSessionHistory(store_request())).stored == 4
        assert len((await rpc.GetContext(pb.GetContextRequest(session_id="s"))).turns) == 4
    assert not (await rpc.GetContext(pb.GetContextRequest(session_id="s"))).turns
    assert not (await rpc.GetSessionHistory(pb.GetSessionHistoryRequest(session_id="s"))).turns


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetContext", pb.GetContextRequest(session_id="a/b"), "session_id"),
        ("GetContext", pb.GetContextRequest(session_id="s", query="x" * 32_769), "query"),
        ("GetContext", pb.GetContextRequest(session_id="s", top_k=-1), "top_k"),
        ("GetContext", pb.GetContextRequest(session_id="s", max_turns=1001), "max_turns"),
        ("GetRAGContext", pb.GetRAGContextRequest(query="x", top_k=101), "top_k"),
        ("GetRAGContext", pb.GetRAGContextRequest(query="x", knowledge_bases=[0]), "knowledge_bases"),
        ("GetRAGContext", pb.GetRAGContextRequest(query="x", knowledge_bases=[99]), "knowledge_bases"),
        ("GetRAGContext", pb.GetRAGContextRequest(query="x", knowledge_bases=[1]), "knowledge_bases"),
        ("GetSessionHistory", pb.GetSessionHistoryRequest(), "session_id"),
        ("StoreSessionHistory", store_request(session_id=".."), "session_id"),
        ("StoreSessionHistory", store_request(run_id=""), "run_id"),
        ("StoreSessionHistory", store_request(turns=[]), "turns"),
        ("StoreSessionHistory", store_request(turns=[pb.Turn(text="x")]), "turns[0].role"),
        (
            "StoreSessionHistory",
            store_request(turns=[pb.Turn(role=1, created_at=Timestamp(seconds=2**40))]),
            "turns[0].created_at",
        ),
    ],
)
async def test_what_cannot_be_used_names_its_field(rpc, method: str, request_: object, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await getattr(rpc, method)(request_)
    assert caught.value.field == field
    assert field in caught.value.message or field == "knowledge_bases"


async def test_an_unknown_persona_is_not_found(rpc) -> None:
    for name in ("GetContext", "GetRAGContext"):
        request = {"GetContext": pb.GetContextRequest(session_id="s", persona="cat")}.get(
            name, pb.GetRAGContextRequest(query="x", persona="cat")
        )
        with pytest.raises(NotFoundError, match="default, dog"):
            await getattr(rpc, name)(request)
