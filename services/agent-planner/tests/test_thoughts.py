"""What a model thinks on the way to its answer: for who asks, as it comes, and kept nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis.http_server import HttpServer
from pagi_chassis.testing import serving
from pagi_planner import Agent, Policy, RunRequest
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.watching.channel import LagBounds
from pagi_planner.domain.watching.live_text import LiveText
from pagi_planner.domain.watching.stream import CutOff, Happened, Position, TextDelta, ThoughtDelta
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.testing import LoneStore, RecordingTools, SpeakingModel, call, calling, saying
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from websockets.asyncio.client import connect

RECORDINGS = Path(__file__).parents[2] / "model-gateway" / "tests" / "recordings"
ADD = call("add", {"a": 1, "b": 2}, "c1")
THOUGHTS = "Grübel… 1 and 2 \U0001f914 make?"
FIRST, LAST = "Let me add. ", "It is 3."
HI = RunRequest("1 + 2?", "s")


def tools() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})})


def thinker(**kwargs) -> SpeakingModel:
    return SpeakingModel(calling(ADD, text=FIRST), saying(LAST), thoughts=THOUGHTS, **kwargs)


def runs_of(model, policy: Policy | None = None) -> Runs:
    agent = Agent(model, tools=tools(), policy=policy)
    return Runs(agent, LoneStore(agent.journal), max_concurrent=10)


async def seen_by(watcher) -> list:
    with watcher:
        return [item async for item in watcher]


def thought_in(items) -> dict[int, str]:
    thoughts: dict[int, str] = {}
    for item in items:
        if isinstance(item, ThoughtDelta):
            thoughts[item.step] = thoughts.get(item.step, "") + item.text
    return thoughts


class TestWatching:
    async def test_who_asks_hears_each_thought_as_it_comes_before_the_words(self):
        runs = runs_of(thinker())
        begun = await runs.begin(HI)
        items, others = await asyncio.gather(seen_by(runs.follow(begun, thoughts=True)), seen_by(runs.follow(begun)))
        assert thought_in(items) == {1: THOUGHTS, 2: THOUGHTS}
        assert max(len(item.text) for item in items if isinstance(item, ThoughtDelta)) == 3, "pieces, as they came"
        assert len({item.position for item in items}) == len(items), "each item has an id of its own"
        kinds = [type(item) for item in items]
        assert kinds.index(ThoughtDelta) < kinds.index(TextDelta)
        assert [item for item in others if isinstance(item, ThoughtDelta)] == []
        assert [str(item.position) for item in others if "t" in str(item.position)] == []

    async def test_they_stand_nowhere(self):
        runs = runs_of(thinker())
        begun = await runs.begin(HI)
        await seen_by(runs.follow(begun, thoughts=True))
        events = await runs._agent.journal.events(begun.run_id)
        assert "bel… 1 and" not in str([event.data for event in events])
        assert [event.data["text"] for event in events if event.type is EventType.PLAN_MODEL_RESPONSE] == [FIRST, LAST]
        assert all("bel…" not in str(request.messages) for request in runs._agent.parts.model.requests)
        assert thought_in(await seen_by(await runs.watch(begun.run_id, Position(), thoughts=True))) == {}

    async def test_one_who_comes_again_misses_nothing_and_gets_nothing_twice(self):
        runs = runs_of(thinker())
        begun = await runs.begin(HI)
        witness = asyncio.create_task(seen_by(runs.follow(begun, thoughts=True)))
        seen: list = []
        position = Position()
        while not (seen and isinstance(seen[-1], Happened) and seen[-1].event.type is EventType.PLAN_END):
            watcher = await runs.watch(begun.run_id, Position.parse(str(position)), thoughts=True)
            with watcher:
                seen += await watcher.next()
            position = seen[-1].position
        assert thought_in(seen) == thought_in(await witness)
        assert [item.event for item in seen if isinstance(item, Happened)] == list(
            await runs._agent.journal.events(begun.run_id)
        )

    async def test_a_watcher_that_is_late_still_gets_the_last_of_them(self):
        """The answer may be there before a watcher had its turn: the journal brings the words, and not the thoughts."""

        class Sudden(SpeakingModel):
            async def stream(self, request, words):
                words.think(THOUGHTS)
                words.add(LAST)
                return await self.answer(request)

        runs = runs_of(Sudden(saying(LAST)))
        items = await seen_by(runs.follow(await runs.begin(HI), thoughts=True))
        assert thought_in(items) == {1: THOUGHTS}

    async def test_one_who_falls_too_far_behind_is_sent_away(self):
        go = asyncio.Event()

        class Rambling(SpeakingModel):
            async def stream(self, request, words):
                words.think("hm " * 100)
                await asyncio.sleep(0)
                words.think("hm " * 1_000)
                await go.wait()
                return await self.answer(request)

        runs = runs_of(Rambling(saying(LAST)), Policy(lag=LagBounds(bytes=1_000)))
        begun = await runs.begin(HI)
        with runs.follow(begun, thoughts=True) as slow:
            quick = asyncio.create_task(seen_by(runs.follow(begun, thoughts=True)))
            deaf = asyncio.create_task(seen_by(runs.follow(begun)))
            items: list = []
            while not thought_in(items):
                items += await slow.next()
            for _ in range(10):
                await asyncio.sleep(0)
            [last] = await slow.next()
            assert isinstance(last, CutOff)
        go.set()
        assert thought_in(await quick) == {1: "hm " * 1_100}
        assert isinstance((await deaf)[-1], Happened)

    @pytest.mark.parametrize(
        ("again", "heard"),
        [(["Grü", "bel"], "Grübel"), (["Grübel, ", "grübel"], "Grübel, grübel"), (["Hm"], "GrübelHm"), ([], "Grübel")],
    )
    def test_a_model_that_is_asked_again_is_heard_where_it_thinks_something_else(self, again, heard):
        live = LiveText(3, 1, lambda _: None)
        live.think("Grübel")
        live.begin_again()
        for piece in again:
            live.think(piece)
        assert live.thoughts == heard

    def test_an_id_is_what_it_says(self):
        for position in (Position(7).behind_thoughts("Grüße"), Position(7).behind_thoughts("x").behind("y")):
            assert Position.parse(str(position)) == position
            assert position.fits_thoughts("Grüße, die") or position.fits_thoughts("xy")
            assert not position.fits_thoughts("")
            assert position.without_thoughts().thought_offset == 0


class TestEdges:
    @pytest.fixture
    async def client(self, planner) -> AsyncIterator[httpx.AsyncClient]:
        planner.model = thinker()
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            yield client

    async def test_a_chat_tells_them_as_thinking(self, client):
        events = await sse(client, "/api/chat/stream", {"message": "1 + 2?", "show_thinking": True})
        thoughts = [data for name, data, _ in events if name == "thinking" and "step" in data]
        assert {data["phase"] for data in thoughts} == {"plan"}
        assert "".join(data["content"] for data in thoughts) == THOUGHTS * 2
        said = "".join(data["content"] for name, data, _ in events if name == "content")
        assert said == FIRST + LAST
        assert next(data for name, data, _ in events if name == "complete")["result"] == LAST

    @pytest.mark.parametrize("body", [{}, {"show_thinking": False}])
    async def test_who_does_not_ask_is_not_told(self, client, body):
        chat = await sse(client, "/api/chat/stream", {"message": "1 + 2?", **body})
        assert "thinking" not in {name for name, _, _ in chat}
        plan = await sse(client, "/plan", {"prompt": "1 + 2?", **body})
        assert "thinking" not in {name for name, _, _ in plan}

    async def test_a_plan_and_one_who_watches_it(self, planner, client):
        events = await sse(client, "/plan", {"prompt": "1 + 2?", "show_thinking": True})
        thoughts = [(data, event_id) for name, data, event_id in events if name == "thinking"]
        assert "".join(data["text"] for data, _ in thoughts if data["step"] == 2) == THOUGHTS
        assert all(str(Position.parse(event_id)) == event_id for _, event_id in thoughts)
        run_id = events[-1][1]["run_id"]
        answer = await client.get(f"/runs/{run_id}/events?show_thinking=true")
        assert (answer.status_code, "event: thinking" in answer.text) == (200, False), "of a run that is over"
        assert (await client.get(f"/runs/{run_id}/events?show_thinking=perhaps")).status_code == 422

    async def test_a_websocket(self, planner):
        planner.model = thinker()
        async with planner.served() as address, connect(f"ws://{address}/ws") as socket_:
            await socket_.send(json.dumps({"type": "chat", "content": "1 + 2?", "show_thinking": True}))
            heard: list[dict] = []
            while not heard or heard[-1]["type"] != "stream_complete":
                heard.append(json.loads(await asyncio.wait_for(socket_.recv(), 10)))
        thoughts = [each["data"] for each in heard if each["type"] == "task_updated" and "step" in each["data"]]
        assert "".join(data["content"] for data in thoughts) == THOUGHTS * 2
        assert {(data["status"], data["phase"]) for data in thoughts} == {("running", "plan")}

    async def test_grpc(self, planner):
        planner.model = thinker()
        servicer = AgentServicer(planner.runs, planner.bounds)
        async with serving(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE) as client:
            run = agent_pb2_grpc.AgentStub(client.channel).Run
            asked = pb.RunRequest(run_id="r", prompt="1 + 2?", show_thinking=True)
            events = [told async for told in client.stream(run, asked, timeout_s=10)]
        assert "".join(told.thought_delta.text for told in events if told.thought_delta.step == 1) == THOUGHTS
        assert "".join(told.text_delta.text for told in events) == FIRST + LAST
        assert all(told.id for told in events if told.WhichOneof("event") == "thought_delta")


async def sse(client: httpx.AsyncClient, path: str, body: dict) -> list[tuple[str, Any, str]]:
    answer = await client.post(path, json=body, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200, answer.text
    events = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":")
        if "event" in lines:
            events.append((lines["event"], json.loads(lines["data"]), lines.get("id", "")))
    return events


@asynccontextmanager
async def provider_that_plays(recording: dict) -> AsyncIterator[str]:
    """A provider that streams what was recorded, whatever it is asked; gives its URL."""

    async def answer(_):
        async def played() -> AsyncIterator[str]:
            for event in recording["events"]:
                name = f"event: {event['type']}\n" if "type" in event else ""
                yield f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n"

        return StreamingResponse(played(), media_type="text/event-stream")

    paths = ("/v1/messages", "/chat/completions", "/v1/chat/completions")
    server = HttpServer(Starlette(routes=[Route(path, answer, methods=["POST"]) for path in paths]), "127.0.0.1", 0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("recording", "provider", "variables"),
    [
        ("deepseek_reasoning_stream", "deepseek", ("DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL")),
        ("anthropic_thinking_and_calls_stream", "anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")),
    ],
)
async def test_what_providers_were_recorded_to_think_reaches_a_chat(
    planner, real_gateway, recording, provider, variables
):
    played = json.loads((RECORDINGS / f"{recording}.json").read_text())
    key, base_url = variables
    async with provider_that_plays(played) as url:
        named = {"LLM_PROVIDER": provider, "DEFAULT_MODEL": "m", key: "k", base_url: url}
        async with real_gateway(**named) as gateway:
            planner.model = GatewayModel(gateway, timeout_s=20)
            async with (
                planner.served() as address,
                httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as client,
            ):
                body = {"message": "2 + 2?", "show_thinking": True, "limits": {"max_steps": 1}}
                events = await sse(client, "/api/chat/stream", body)
    [thought] = played["plan"]["reasoning"]
    told = [data["content"] for name, data, _ in events if name == "thinking" and "step" in data]
    assert "".join(told) == thought
    content = [data["content"] for name, data, _ in events if name == "content"]
    assert "".join(content).startswith(played["plan"]["text"])
    assert thought not in "".join(content)
    run_id = next(data["run_id"] for name, data, _ in events if name == "complete")
    held = [dict(event.data) for event in await planner.journal.events(run_id)]
    # With tool calls a signed thought goes back to its provider, for which the journal has it; and nowhere else.
    signed = [each["text"] for data in held for each in data.pop("reasoning", ())]
    assert signed == ([thought] if played["plan"].get("signatures") else [])
    assert thought not in str(held)
