"""`WS /ws` to a real client: chats, several at once, and whatever else is sent."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.routes import websocket as edge
from pagi_planner.routes.websocket_messages import MESSAGE_CHARACTERS
from pagi_planner.testing import RecordingTools, SpeakingModel, WaitingModel, call, calling, saying
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

ADD = call("add", {"a": 1, "b": 2}, "c1")
LAST = "It is 3 \U0001f375."


class Client:
    """Sends and reads JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, kind: str, **data) -> None:
        await self.connection.send(json.dumps({"type": kind, **data}))

    async def hear(self) -> tuple[str, dict]:
        async with asyncio.timeout(10):
            message = json.loads(await self.connection.recv())
        assert set(message) == {"type", "data"}
        return message["type"], message["data"]

    async def hear_until(self, kind: str) -> list[tuple[str, dict]]:
        heard = [await self.hear()]
        while heard[-1][0] != kind:
            heard.append(await self.hear())
        return heard


def said_in(heard: list[tuple[str, dict]]) -> str:
    said = ""
    for kind, data in heard:
        said = "" if kind == "stream_reset" else said + data["content"] if kind == "stream_data" else said
    return said


@asynccontextmanager
async def client_of(planner, **kwargs):
    async with planner.served() as address, connect(f"ws://{address}/ws", **kwargs) as connection:
        yield Client(connection)


@pytest.fixture
async def client(planner):
    planner.model = SpeakingModel(*([calling(ADD, text="Let me see. "), saying(LAST)] * 5))
    async with client_of(planner) as client:
        yield client


async def test_a_chat_is_streamed_as_a_task_of_a_session(planner, client):
    await client.say("chat", content="1 + 2?", request_id="q1")
    heard = await client.hear_until("stream_complete")
    kinds = [kind for kind, _ in heard]
    assert kinds[:2] == ["session_created", "task_created"]
    assert kinds[-2:] == ["task_completed", "stream_complete"]
    assert set(kinds[2:-2]) == {"task_updated", "stream_data", "stream_reset"}
    created, completed = heard[1][1], heard[-2][1]
    assert created["request_id"] == "q1"
    assert completed["session_id"] == created["session_id"] == heard[0][1]["session_id"]
    assert (completed["status"], completed["result"], said_in(heard)) == ("completed", LAST, LAST)
    assert {data["task_id"] for kind, data in heard[1:]} == {completed["run_id"]}
    phases = [data["phase"] for kind, data in heard if kind == "task_updated"]
    assert phases == ["understand", "plan", "execute", "plan", "evaluate"]
    events = await planner.journal.events(completed["run_id"])
    assert {event.trace_id for event in events} == {created["trace_id"]}


async def test_the_next_chat_goes_on_in_the_session_and_a_named_one_is_taken(planner, client):
    await client.say("chat", content="one")
    first = (await client.hear_until("stream_complete"))[-1][1]
    await client.say("chat", content="two")
    second = await client.hear_until("stream_complete")
    assert second[0][0] == "task_created"
    assert second[-1][1]["session_id"] == first["session_id"]
    await client.say("chat", content="three", session_id="demo")
    assert (await client.hear_until("stream_complete"))[-1][1]["session_id"] == "demo"


async def test_thoughts_are_told_where_asked_for(client):
    await client.say("chat", content="x", show_thinking=True)
    heard = await client.hear_until("stream_complete")
    assert any("add" in data.get("content", "") for kind, data in heard if kind == "task_updated")


async def test_several_chats_go_on_at_once(client):
    for n in range(3):
        await client.say("chat", content=f"chat {n}", session_id=f"s{n}")
    heard = []
    while [kind for kind, _ in heard].count("stream_complete") < 3:
        heard.append(await client.hear())
    by_task: dict[str, list] = {}
    for kind, data in heard:
        by_task.setdefault(data["task_id"], []).append((kind, data))
    assert len(by_task) == 3
    assert all(said_in(own) == own[-1][1]["result"] for own in by_task.values())


async def test_a_call_is_decided_on_over_the_same_connection(planner):
    planner.tools = RecordingTools({"add": lambda _: ToolOutcome("ok", 3)}, need_approval=["add"])
    planner.model = SpeakingModel(calling(ADD), saying("done"))
    async with client_of(planner) as client:
        await client.say("chat", content="pay")
        heard = [await client.hear()]
        while heard[-1][1].get("status") != "waiting_approval":
            heard.append(await client.hear())
        waits = heard[-1][1]
        assert (waits["call_id"], waits["tool"], waits["input"]) == ("c1", "add", {"a": 1, "b": 2})
        await client.say("decide", task_id=waits["task_id"], call_id="c1", decision="approve")
        assert (await client.hear_until("stream_complete"))[-1][1]["result"] == "done"


async def test_a_run_is_cancelled_and_shown_again(planner):
    planner.model = model = WaitingModel(saying("done"))
    async with client_of(planner) as client:
        await client.say("chat", content="x")
        await model.asked.wait()
        task_id = next(iter(planner.runs._workshop.at_work))
        await client.say("cancel", task_id=task_id)
        heard = await client.hear_until("stream_complete")
        assert heard[-1][1]["status"] == "cancelled"
        assert "error" in [kind for kind, _ in heard]
        await client.say("watch", task_id=task_id)
        while (await client.hear())[0] != "stream_complete":
            pass


RUBBISH = [
    ("", None),
    ("{", None),
    ("nonsense", None),
    ('{"type": "chat", "content": NaN}', None),
    ("[" * 100_000, None),
    ("[]", "body"),
    ("null", "body"),
    ("{}", "type"),
    ('{"type": "dance"}', "type"),
    ('{"type": 5}', "type"),
    ('{"type": "chat"}', "content"),
    ('{"type": "chat", "content": " "}', "content"),
    ('{"type": "chat", "content": 5}', "content"),
    ('{"type": "chat", "content": "x", "colour": "red"}', "colour"),
    ('{"type": "chat", "content": "x", "session_id": "a/b"}', "session_id"),
    ('{"type": "chat", "content": "x", "limits": {"max_steps": 0}}', "limits.max_steps"),
    ('{"type": "chat", "content": "x", "limits": {"max_steps": 11}}', "limits.max_steps"),
    (json.dumps({"type": "chat", "content": "x" * 100_001}), "content"),
    ('{"type": "cancel"}', "task_id"),
    ('{"type": "cancel", "task_id": "run-nix"}', None),
    ('{"type": "watch", "task_id": "run-nix"}', None),
    ('{"type": "decide", "task_id": "r", "call_id": "c", "decision": "maybe"}', "decision"),
    ('{"type": "auth", "api_key": "x"}', "type"),
    ('{"type": "chat", "content": "\\ud800"}', "content"),
    ("x" * (MESSAGE_CHARACTERS + 1), None),
    (b'{"type": "ping"}', None),
]


@pytest.mark.parametrize("text", ["{}", '{"type": "dance"}'])
async def test_who_names_no_type_is_told_which_there_are(client, text):
    await client.connection.send(text)
    _, data = await client.hear()
    assert data["error"] == "type: must be one of chat, cancel, watch, decide, ping"


async def test_whatever_is_sent_the_answer_is_an_error_and_the_connection_lives(client):
    for text, field in RUBBISH:
        await client.connection.send(text)
        kind, data = await client.hear()
        assert kind == "error", data
        assert data["error"]
        assert [fault["field"] for fault in data.get("errors", [])] == ([field] if field else []), text[:100]
        await client.say("ping")
        assert await client.hear() == ("pong", {})


async def test_a_fault_of_ours_is_told_without_detail(planner, caplog):
    planner.model = SpeakingModel(KeyError("secret"))
    async with client_of(planner) as client:
        await client.say("chat", content="x")
        heard = await client.hear_until("stream_complete")
        assert "secret" not in json.dumps(heard)
        assert heard[-1][1]["status"] == "failed"
        await client.say("ping")
        assert (await client.hear())[0] == "pong"


async def test_more_at_once_than_is_good_is_refused(planner, monkeypatch):
    monkeypatch.setattr(edge, "MOST_AT_ONCE", 2)
    planner.model = model = WaitingModel(saying("done"))
    async with client_of(planner) as client:
        for _ in range(3):
            await client.say("chat", content="x")
        while (heard := await client.hear())[0] != "error":
            pass
        assert heard[1]["status"] == 429
        model.go.set()
        await client.hear_until("stream_complete")


@pytest.mark.parametrize(("on_disconnect", "status"), [("continue", "completed"), ("cancel", "cancelled")])
async def test_what_its_leaving_does_is_what_the_chat_said(planner, on_disconnect, status):
    planner.model = model = WaitingModel(saying("done"))
    async with planner.served() as address:
        async with connect(f"ws://{address}/ws") as connection:
            await Client(connection).say("chat", content="x", on_disconnect=on_disconnect)
            await model.asked.wait()
            run_id = next(iter(planner.runs._workshop.at_work))
        if on_disconnect == "continue":
            model.go.set()
        async with asyncio.timeout(5):
            while planner.runs.active:
                await asyncio.sleep(0.002)
    assert (await planner.runs.get(run_id)).status == status


class TestEntry:
    async def test_without_a_key_anybody_of_this_host_may_come(self, planner):
        async with planner.served() as address:
            for origin, may in [
                (None, True),
                (f"http://{address}", True),
                ("https://evil.example", False),
                ("null", False),
                ("https://friend.example", True),
            ]:
                planner_origin = {"origin": origin} if origin else {}
                if may and origin != "https://friend.example":
                    async with connect(f"ws://{address}/ws", **planner_origin) as connection:
                        await Client(connection).say("ping")
                        assert await Client(connection).hear() == ("pong", {})
                elif not may:
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(f"ws://{address}/ws", **planner_origin)
                    assert refused.value.response.status_code == 403
        planner.origins = ("https://friend.example",)
        async with client_of(planner, origin="https://friend.example") as client:
            await client.say("ping")
            assert await client.hear() == ("pong", {})

    async def test_the_key_is_shown_in_the_head_or_in_the_first_message(self, planner):
        planner.api_key = "k\u00fcy"
        shown = "k\u00fcy".encode().decode("latin-1")
        async with planner.served() as address:
            url = f"ws://{address}/ws"
            for headers in ({"X-API-Key": shown}, {"Authorization": f"Bearer {shown}"}):
                async with connect(url, additional_headers=headers) as connection:
                    await Client(connection).say("ping")
                    assert await Client(connection).hear() == ("pong", {})
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, additional_headers={"X-API-Key": "wrong"})
            assert refused.value.response.status_code == 403
            async with connect(url) as connection:
                client = Client(connection)
                await client.say("auth", api_key="k\u00fcy")
                assert await client.hear() == ("authenticated", {})
                await client.say("ping")
                assert await client.hear() == ("pong", {})
            for first in ({"type": "auth", "api_key": "wrong"}, {"type": "chat", "content": "x"}, {}):
                async with connect(url) as connection:
                    await connection.send(json.dumps(first))
                    assert await Client(connection).hear() == ("error", {"error": "unauthenticated"})
                    with pytest.raises(ConnectionClosed) as closed:
                        await connection.recv()
                    assert closed.value.rcvd.code == 1008
        assert not await planner.journal.unfinished()


async def test_a_client_that_reads_nothing_is_cut_off_and_its_run_goes_on(planner):
    from pagi_planner.routes.event_stream import Patience

    planner.patience = Patience(stall_s=0.3)
    text = "0123456789" * 2_000_000
    planner.model = SpeakingModel(saying(text), size=200_000)
    async with planner.served() as address, connect(f"ws://{address}/ws", max_queue=1, max_size=None) as connection:
        await Client(connection).say("chat", content="x")
        connection.transport.pause_reading()
        async with asyncio.timeout(10):
            while not planner.runs._workshop.at_work:
                await asyncio.sleep(0.005)
            run_id = next(iter(planner.runs._workshop.at_work))
            while planner.runs.active or planner.runs._agent.parts.feed.watchers:
                await asyncio.sleep(0.01)
        connection.transport.abort()
    assert (await planner.runs.get(run_id)).status == "completed"
