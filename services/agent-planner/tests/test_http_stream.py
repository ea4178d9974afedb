"""Runs as server-sent events, to real clients over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagi_planner import Policy, RunRequest
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.watching.channel import LagBounds
from pagi_planner.domain.watching.stream import Position, TextDelta
from pagi_planner.routes.event_stream import EventStream, Patience
from pagi_planner.routes.run_view import RunView
from pagi_planner.testing import RecordingTools, ScriptedModel, SpeakingModel, WaitingModel, call, calling, saying

ADD = call("add", {"a": 1, "b": 2}, "c1")
FIRST, LAST = "Let me add:\n\n\u2028 \u2029", "It is 3 \U0001f375."
SSE = {"Accept": "text/event-stream"}


@dataclass
class Sse:
    """One event as a client reads it."""

    name: str = ""
    id: str = ""
    data: Any = None


@dataclass
class Parser:
    """Reads a stream as the specification says, whatever the pieces it comes in."""

    rest: bytes = b""
    events: list[Sse] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    last_id: str = ""

    def feed(self, chunk: bytes) -> None:
        *blocks, self.rest = (self.rest + chunk).split(b"\n\n")
        for block in blocks:
            event = Sse()
            for line in block.decode().split("\n"):
                name, _, value = line.partition(": ") if line[0] != ":" else ("", "", line[2:])
                if name == "":
                    self.comments.append(value)
                elif name == "event":
                    event.name = value
                elif name == "id":
                    event.id = self.last_id = value
                elif name == "data":
                    event.data = json.loads(value)
                else:
                    assert name == "retry", line
            if event.name:
                self.events.append(event)


def text_of(events: list[Sse]) -> list[str]:
    texts: dict[int, str] = {}
    for event in events:
        if event.name in ("text", "reset"):
            step = event.data["step"]
            texts[step] = texts.get(step, "") + event.data["text"] if event.name == "text" else ""
    return [texts[step] for step in sorted(texts)]


def rows_of(events: list[Sse]) -> list[str]:
    return [event.name for event in events if event.name.isupper()]


async def read(client: httpx.AsyncClient, method: str, path: str, **kwargs) -> list[Sse]:
    parser = Parser()
    async with client.stream(method, path, **kwargs) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for chunk in answer.aiter_bytes():
            parser.feed(chunk)
    assert parser.rest == b""
    return parser.events


@pytest.fixture
async def client(planner):
    planner.model = SpeakingModel(calling(ADD, text=FIRST), saying(LAST), saying(LAST), saying(LAST))
    async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
        yield client


@pytest.mark.parametrize("path", ["/plan", "/run"])
async def test_a_plan_is_streamed_to_its_end(planner, client, path):
    events = await read(client, "POST", path, json={"prompt": "1 + 2?"}, headers={**SSE, "X-Trace-ID": "t-1"})
    run_id = events[0].data["run_id"]
    journaled = await planner.journal.events(run_id)
    assert rows_of(events) == [event.type for event in journaled]
    assert [event.data["seq"] for event in events if event.name.isupper()] == [event.seq for event in journaled]
    assert text_of(events) == [FIRST, LAST]
    assert planner.model.heard == 2
    [end] = [event for event in events if event.name == "end"]
    assert end == events[-1]
    run = (await client.get(f"/runs/{run_id}")).json()
    assert end.data == run
    assert run["result"] == LAST
    assert len({event.id for event in events}) == len(events)
    assert {event.data["trace_id"] for event in events if event.name.isupper()} == {"t-1"}
    phases = [event.data["phase"] for event in events if event.name.isupper()]
    assert list(dict.fromkeys(phases)) == ["understand", "plan", "execute", "evaluate", None]


async def test_a_plain_plan_does_not_make_the_model_speak(planner, client):
    answer = await client.post("/plan", json={"prompt": "1 + 2?"})
    assert (answer.json()["result"], planner.model.heard) == (LAST, 0)


async def test_the_head_of_a_stream_says_what_it_is(client):
    async with client.stream("POST", "/plan", json={"prompt": "x"}, headers=SSE) as answer:
        head = answer.headers
        assert head["cache-control"] == "no-store"
        assert head["x-accel-buffering"] == "no"
        assert "content-length" not in head
        run_id = head["x-run-id"]
        async for _ in answer.aiter_bytes():
            pass
    assert (await client.get(f"/runs/{run_id}")).json()["status"] == "completed"


async def test_a_run_of_the_past_is_read_from_any_place_on(client):
    run_id = (await client.post("/plan", json={"prompt": "1 + 2?"})).json()["run_id"]
    events = await read(client, "GET", f"/runs/{run_id}/events")
    assert text_of(events) == [FIRST, LAST]
    for place, event in enumerate(events):
        by_header = {"headers": {"Last-Event-ID": event.id}}
        by_query = {"params": {"last_event_id": event.id}}
        how = by_header if place % 2 else by_query
        if event.name == "end":
            answer = await client.get(f"/runs/{run_id}/events", **how)
            assert (answer.status_code, answer.content) == (204, b""), "a browser stops coming again"
        else:
            assert await read(client, "GET", f"/runs/{run_id}/events", **how) == events[place + 1 :]


async def test_what_cannot_be_watched_is_a_problem(client):
    run_id = (await client.post("/plan", json={"prompt": "1 + 2?"})).json()["run_id"]
    for path, seen, status in [
        ("/runs/run-nix/events", "", 404),
        (f"/runs/{run_id}/events", "x", 422),
        (f"/runs/{run_id}/events", "99", 422),
        (f"/runs/{run_id}/events", "1" * 101, 422),
    ]:
        answer = await client.get(path, headers={"Last-Event-ID": seen})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
        if status == 422:
            assert answer.json()["errors"][0]["field"] == "Last-Event-ID"


async def test_a_run_that_fails_ends_its_stream_with_the_reason(planner, client):
    planner.model._script[:] = [KeyError("secret")]
    events = await read(client, "POST", "/plan", json={"prompt": "x"}, headers=SSE)
    assert rows_of(events)[-1] == "PLAN_ERROR"
    assert (events[-1].data["status"], events[-1].data["error"]) == ("failed", "internal error")
    assert "secret" not in json.dumps([event.data for event in events])


async def test_the_same_key_is_the_same_stream(client):
    how = {"json": {"prompt": "1 + 2?"}, "headers": {**SSE, "Idempotency-Key": "k"}}
    first, second = [await read(client, "POST", "/plan", **how) for _ in range(2)]
    assert [event.data for event in second if event.name.isupper()] == [
        event.data for event in first if event.name.isupper()
    ]
    assert text_of(first) == text_of(second)


async def test_while_nothing_happens_the_connection_is_kept_alive(planner):
    planner.model = model = WaitingModel(saying("done"))
    planner.patience = Patience(beat_s=0.02)
    parser = Parser()
    async with (
        planner.served() as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
        client.stream("POST", "/plan", json={"prompt": "x"}, headers=SSE) as answer,
    ):
        async for chunk in answer.aiter_bytes():
            parser.feed(chunk)
            if len(parser.comments) > 2:
                model.go.set()
    assert set(parser.comments) == {"beat"}
    assert parser.events[-1].data["result"] == "done"


class TestDisconnect:
    async def leave(self, planner, client, **body) -> str:
        planner.model = model = WaitingModel(saying("done"))
        planner._runs = None
        async with planner.served() as address:
            _, port = address.split(":")
            _, writer = await asyncio.open_connection("127.0.0.1", int(port))
            content = json.dumps({"prompt": "x", **body}).encode()
            writer.write(
                b"POST /plan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + (b"Accept: text/event-stream\r\n" if client else b"")
                + f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            await model.asked.wait()
            writer.close()
            [listed] = (await planner.runs.find(limit=1)).runs
            async with asyncio.timeout(5):
                if body.get("on_disconnect") == "cancel":
                    while planner.runs.active:
                        await asyncio.sleep(0.002)
                else:
                    await asyncio.sleep(0.05)
                    assert planner.runs.active == 1
                    model.go.set()
                    while planner.runs.active:
                        await asyncio.sleep(0.002)
            return listed.run_id

    @pytest.mark.parametrize("streams", [True, False])
    async def test_by_default_the_run_goes_on(self, planner, streams):
        run_id = await self.leave(planner, streams)
        assert (await planner.runs.get(run_id)).result == "done"

    @pytest.mark.parametrize("streams", [True, False])
    async def test_where_the_request_says_so_it_is_cancelled(self, planner, streams):
        run_id = await self.leave(planner, streams, on_disconnect="cancel")
        run = await planner.runs.get(run_id)
        assert (run.status, run.error) == ("cancelled", "its client left")

    async def test_an_end_is_no_leaving(self, planner, client):
        body = {"prompt": "x", "on_disconnect": "cancel"}
        events = await read(client, "POST", "/plan", json=body, headers=SSE)
        assert events[-1].data["status"] == "completed"
        assert (await client.post("/plan", json=body)).json()["status"] == "completed"


async def test_a_leaving_that_could_not_be_seen_to_is_told_in_the_log(planner, caplog):
    begun = await planner.runs.begin(RunRequest("x"))

    async def left() -> None:
        raise JournalError("the disk is full")

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        pass

    view = RunView(Position(), lambda: planner.runs.settled(begun.run_id))
    await EventStream(planner.runs.follow(begun), view, Patience(), left=left)({}, receive, send)
    assert "was not done: the disk is full" in caplog.text


async def test_a_hundred_watch_one_run(planner):
    go = asyncio.Event()
    planner.model = SpeakingModel(saying("x" * 2_000), size=20, pause=go.wait)
    async with planner.served() as address:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=f"http://{address}", limits=limits, timeout=20) as client:
            begun = asyncio.create_task(read(client, "POST", "/plan", json={"prompt": "x"}, headers=SSE))
            while not planner.model.heard:
                await asyncio.sleep(0.005)
            run_id = (await planner.runs.find(limit=1)).runs[0].run_id
            watching = [asyncio.create_task(read(client, "GET", f"/runs/{run_id}/events")) for _ in range(100)]
            while planner.runs._agent.parts.feed.watchers < 101:
                await asyncio.sleep(0.005)
            go.set()
            whole = await begun
            for events in await asyncio.gather(*watching):
                assert rows_of(events) == rows_of(whole)
                assert text_of(events) == ["x" * 2_000]
                assert events[-1] == whole[-1]
    assert planner.runs._agent.parts.feed.watchers == 0


async def test_a_slow_reader_slows_nobody_and_is_cut_off_with_a_reason(planner):
    """It reads nothing while the model says more than the sockets hold; later it comes again and has it all."""
    text = "0123456789" * 600_000
    planner.policy = Policy(lag=LagBounds(bytes=500_000))
    planner.model = SpeakingModel(saying(text), size=50_000, pause=lambda: asyncio.sleep(0.002))
    async with planner.served() as address:
        host, port = address.split(":")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.connect((host, int(port)))
        slow.setblocking(False)
        slow.sendall(
            b"POST /plan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
            b"Content-Length: 15\r\n\r\n" + b'{"prompt": "x"}'
        )
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
            while not planner.runs.active:
                await asyncio.sleep(0.002)
            run_id = next(iter(planner.runs._workshop.at_work))
            quick = await read(client, "GET", f"/runs/{run_id}/events")
            assert text_of(quick) == [text], "nobody else was slowed"
            parser, raw = Parser(), bytearray()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(20):
                while not raw.endswith(b"\r\n0\r\n\r\n"):
                    raw += await loop.sock_recv(slow, 1_000_000)
            slow.close()
            at = raw.index(b"\r\n\r\n") + 4
            while at < len(raw):
                line = raw.index(b"\r\n", at)
                size = int(raw[at:line], 16)
                parser.feed(bytes(raw[line + 2 : line + 2 + size]))
                at = line + size + 4
            cut = parser.events[-1]
            assert cut.name == "cut"
            assert "slowly" in cut.data["reason"]
            assert cut.data["last_event_id"] == parser.last_id
            assert len(raw) < 5_900_000, "what it did not read was not kept for it"
            rest = await read(client, "GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": parser.last_id})
    assert text_of(parser.events + rest) == [text]
    assert rows_of(parser.events + rest) == rows_of(quick)


async def test_a_client_that_takes_nothing_loses_its_connection_and_the_run_goes_on(planner, caplog):
    planner.patience = Patience(beat_s=0.05, stall_s=0.2)
    planner.model = SpeakingModel(saying("0123456789" * 1_000_000), size=1_000_000)
    async with planner.served() as address:
        host, port = address.split(":")
        idle = socket.socket()
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        idle.connect((host, int(port)))
        body = b'{"prompt": "x"}'
        head = b"POST /plan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
        idle.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(10):
            while not (runs := (await planner.runs.find(limit=1)).runs) or planner.runs._agent.parts.feed.watchers:
                await asyncio.sleep(0.01)
        await planner.runs.settled(runs[0].run_id)
        assert (await planner.runs.get(runs[0].run_id)).status == "completed"
        assert "took nothing" in caplog.text
        idle.close()


async def test_the_planner_sends_watchers_away_when_it_stops(planner):
    planner.model = model = WaitingModel(saying("done"))
    async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        reading = asyncio.create_task(read(client, "POST", "/plan", json={"prompt": "x"}, headers=SSE))
        await model.asked.wait()
        planner.runs.send_watchers_away("the planner stops; come again with the id that you saw last")
        events = await reading
        assert (events[-1].name, events[-1].data["last_event_id"]) == ("cut", events[-2].id)
        assert "stops" in events[-1].data["reason"]
        model.go.set()


class ModelBySteps(SpeakingModel):
    """Says what belongs to the step, in every run."""

    TEXTS = ("0 \u00fc\U0001f375 ", "1 \u00fc\U0001f375 ", "2 \u00fc\U0001f375 ", "The end.")

    async def answer(self, request):
        step = int(request.effect_id.split("/")[1])
        calls = [call("add", {"a": step, "b": 1})] if step < 4 else []
        return calling(*calls, text=self.TEXTS[step - 1])


@pytest.fixture
async def by_steps(planner):
    planner.model = ModelBySteps(size=4)
    async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
        yield client


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(0, 900), min_size=1, max_size=12))
async def test_cut_at_any_byte_and_taken_up_again_it_is_the_whole(planner, by_steps, cuts):
    """A storm of reconnections: bytes of a torn event are thrown away, as clients do."""
    events: list[Sse] = []
    last_id = run_id = ""
    for cut in [*cuts, 1_000_000]:
        parser, got = Parser(), 0
        how: dict[str, Any] = {"headers": {"Last-Event-ID": last_id}}
        if not run_id:
            how = {"json": {"prompt": "x"}, "headers": SSE}
        method, path = ("GET", f"/runs/{run_id}/events") if run_id else ("POST", "/plan")
        async with by_steps.stream(method, path, **how) as answer:
            run_id = run_id or answer.headers["x-run-id"]
            async for chunk in answer.aiter_bytes():
                parser.feed(chunk[: cut - got])
                got += len(chunk)
                if got >= cut:
                    break
        events += parser.events
        last_id = parser.last_id or last_id
    assert (await by_steps.get(f"/runs/{run_id}")).json() == events[-1].data
    assert text_of(events) == list(ModelBySteps.TEXTS)
    assert rows_of(events) == [event.type for event in await planner.journal.events(run_id)]
    assert [event.name for event in events].count("end") == 1


class TestApprovals:
    @pytest.fixture
    async def waiting(self, planner):
        planner.tools = RecordingTools({"add": lambda x: ToolOutcome("ok", x)}, need_approval=["add"])
        calls = (call("add", {"n": 1}, "a"), call("add", {"n": 2}, "b"))
        planner.model = SpeakingModel(calling(*calls), saying("paid"))
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            answer = await client.post("/plan", json={"prompt": "pay"})
            assert answer.status_code == 202
            yield client, answer.json()
            await planner.runs.stop(2)

    async def test_a_run_that_pauses_is_accepted_and_tells_what_it_waits_for(self, waiting):
        client, run = waiting
        assert (run["status"], run["ended_at"]) == ("waiting_approval", None)
        assert [(each["call_id"], each["tool"], each["input"], each["decision"]) for each in run["approvals"]] == [
            ("a", "add", {"n": 1}, None),
            ("b", "add", {"n": 2}, None),
        ]
        listed = (await client.get("/runs", params={"status": "waiting_approval"})).json()["runs"]
        assert [(each["run_id"], each["status"]) for each in listed] == [(run["run_id"], "waiting_approval")]
        assert (await client.get("/runs", params={"status": "completed"})).json()["runs"] == []

    async def test_each_call_is_decided_by_its_own_id_and_watchers_see_it(self, planner, waiting):
        client, run = waiting
        path = f"/runs/{run['run_id']}"
        watching = asyncio.create_task(read(client, "GET", f"{path}/events"))
        denied = await client.post(f"{path}/approvals/a", json={"decision": "deny", "reason": "too dear"})
        assert (denied.status_code, denied.json()["status"]) == (200, "waiting_approval")
        again = await client.post(f"{path}/approvals/a", json={"decision": "deny", "reason": "too dear"})
        assert again.status_code == 200, "a client that heard no answer may say it again"
        other = await client.post(f"{path}/approvals/a", json={"decision": "approve"})
        assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
        await client.post(f"{path}/approvals/b", json={"decision": "approve", "arguments": {"n": 3}})
        events = await watching
        assert events[-1].data["result"] == "paid"
        assert rows_of(events).count("APPROVAL_DECIDED") == 2
        assert [
            (each["call_id"], each["decision"], each["reason"], each["arguments"])
            for each in events[-1].data["approvals"]
        ] == [("a", "deny", "too dear", None), ("b", "approve", None, {"n": 3})]
        assert [json.loads(each.arguments_json) for each, _ in planner.tools.executed] == [{"n": 3}]
        late = await client.post(f"{path}/approvals/b", json={"decision": "deny"})
        assert late.status_code == 412

    @pytest.mark.parametrize(
        ("path", "body", "status", "field"),
        [
            ("/runs/run-nix/approvals/a", {"decision": "approve"}, 404, None),
            ("/runs/{}/approvals/nix", {"decision": "approve"}, 404, None),
            ("/runs/{}/approvals/a", {"decision": "maybe"}, 422, "decision"),
            ("/runs/{}/approvals/a", {"decision": "approve", "arguments": [1]}, 422, "arguments"),
            ("/runs/{}/approvals/a", {"decision": "deny", "arguments": {}}, 422, "arguments"),
            ("/runs/{}/approvals/a", {"decision": "deny", "reason": "x" * 2_001}, 422, "reason"),
            ("/runs/{}/approvals/a", {"decision": "deny", "x": 1}, 422, "x"),
            ("/runs/{}/approvals/a", None, 422, "body"),
        ],
    )
    async def test_what_is_wrong_is_told(self, waiting, path, body, status, field):
        client, run = waiting
        answer = await client.post(
            path.format(run["run_id"]), content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert [each["field"] for each in answer.json().get("errors", [])] == ([field] if field else [])

    async def test_a_stream_of_a_run_that_waits_stays(self, planner, client):
        planner.tools = RecordingTools({"add": lambda _: ToolOutcome("ok", 3)}, need_approval=["add"])
        planner._runs = None
        planner.model = SpeakingModel(calling(ADD), saying("done"))
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            parser = Parser()
            async with client.stream("POST", "/plan", json={"prompt": "x"}, headers=SSE) as answer:
                async for chunk in answer.aiter_bytes():
                    parser.feed(chunk)
                    if parser.events and parser.events[-1].name == "APPROVAL_REQUESTED":
                        path = f"/runs/{answer.headers['x-run-id']}/approvals/c1"
                        await client.post(path, json={"decision": "approve"})
        assert parser.events[-1].data["result"] == "done"


class TestCancel:
    async def test_it_stops_what_is_said_and_keeps_what_was_reached(self, planner):
        said = asyncio.Event()

        async def pause() -> None:
            if said.is_set():
                await asyncio.Event().wait()
            said.set()

        planner.model = SpeakingModel(saying("Halfway there"), size=7, pause=pause)
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            streaming = asyncio.create_task(read(client, "POST", "/plan", json={"prompt": "x"}, headers=SSE))
            await said.wait()
            run_id = next(iter(planner.runs._workshop.at_work))
            with await planner.runs.watch(run_id, Position()) as watcher:
                async for item in watcher:
                    if isinstance(item, TextDelta):
                        break
            answer = await client.post(f"/runs/{run_id}/cancel", json={"reason": "enough"})
            events = await streaming
            again = await client.post(f"/runs/{run_id}/cancel")
        assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (200, "cancelled", "enough")
        assert "Halfway" in answer.json()["result"]
        assert again.json() == answer.json(), "an end stays as it is"
        assert events[-1].data["status"] == "cancelled"

    async def test_who_waits_for_the_answer_is_told(self, planner):
        planner.model = model = WaitingModel(saying("done"))
        async with planner.client() as client:
            asking = asyncio.create_task(client.post("/plan", json={"prompt": "x"}))
            await model.asked.wait()
            run_id = next(iter(planner.runs._workshop.at_work))
            await client.post(f"/runs/{run_id}/cancel")
            answer = await asking
        assert (answer.status_code, answer.json()["run_id"]) == (499, run_id)

    async def test_a_run_that_has_ended_and_one_that_is_none(self, planner, client):
        run = (await client.post("/plan", json={"prompt": "1 + 2?"})).json()
        answer = await client.post(f"/runs/{run['run_id']}/cancel")
        assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "completed", LAST)
        assert EventType.PLAN_CANCELLED not in [event.type for event in await planner.journal.events(run["run_id"])]
        assert (await client.post("/runs/run-nix/cancel")).status_code == 404
        for body in ({"reason": ""}, {"reason": "x" * 2_001}, {"why": "x"}, []):
            assert (await client.post(f"/runs/{run['run_id']}/cancel", json=body)).status_code == 422


class TestChat:
    async def chat(self, client, **body) -> list[Sse]:
        return await read(client, "POST", "/api/chat/stream", json={"message": "1 + 2?", **body})

    @staticmethod
    def answer_of(events: list[Sse]) -> str:
        said = ""
        for event in events:
            said = "" if event.name == "reset" else said + event.data.get("content", "") * (event.name == "content")
        return said

    async def test_it_says_the_answer_in_pieces_and_then_how_it_ended(self, client):
        events = await self.chat(client)
        names = [event.name for event in events]
        assert set(names) == {"content", "reset", "complete", "done"}
        assert names[-2:] == ["complete", "done"]
        assert self.answer_of(events) == events[-2].data["result"] == LAST
        assert {"run_id", "session_id", "usage", "duration_ms", "model", "steps"} <= set(events[-2].data)

    @pytest.mark.parametrize("session_id", ["plain", "茶 🍵", "50% off", " padded "])
    async def test_its_headers_name_the_run_and_the_session_whatever_its_letters(self, client, session_id):
        async with client.stream(
            "POST", "/api/chat/stream", json={"message": "hi", "session_id": session_id}
        ) as answer:
            await answer.aread()
        assert answer.status_code == 200
        assert answer.headers["X-Run-ID"].startswith("run-")
        assert unquote(answer.headers["X-Session-ID"]) == session_id

    async def test_thoughts_are_told_by_phase_where_asked_for(self, client):
        events = await self.chat(client, show_thinking=True)
        thoughts = [event.data for event in events if event.name == "thinking"]
        assert list(dict.fromkeys(each["phase"] for each in thoughts)) == ["understand", "plan", "execute", "evaluate"]
        assert any('add {"a": 1, "b": 2}' in each["content"] for each in thoughts)

    async def test_an_answer_that_was_not_said_is_said_at_the_end(self, planner, client):
        planner.model._script[:] = [calling(ADD, text="Let me see")] * 9
        events = await self.chat(client, limits={"max_steps": 1})
        assert events[-2].data["status"] == "limit_steps"
        assert self.answer_of(events) == events[-2].data["result"]

    async def test_a_failure_is_an_error_and_then_done(self, planner, client):
        planner.model._script[:] = [KeyError("secret")]
        events = await self.chat(client)
        assert [event.name for event in events] == ["error", "done"]
        assert (events[0].data["error"], events[0].data["status"]) == ("internal error", "failed")

    async def test_the_next_message_finds_what_was_said_before(self, planner, client):
        planner.model = SpeakingModel(saying("Hello Ada."), saying("Ada."))
        planner._runs = None
        async with planner.served() as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
            first = (await self.chat(client, message="I am Ada."))[-2].data
            await self.chat(client, message="Who am I?", session_id=first["session_id"])
        assert [message.text for message in planner.model.requests[1].messages[1:]] == [
            "I am Ada.",
            "Hello Ada.",
            "Who am I?",
        ]

    @pytest.mark.parametrize("body", [{}, {"message": " "}, {"prompt": "x"}, {"message": "x", "show_thinking": "yes"}])
    async def test_what_is_wrong_is_a_problem(self, client, body):
        answer = await client.post("/api/chat/stream", json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_model_that_cannot_speak_is_heard_at_once(planner):
    planner.model = ScriptedModel(saying("all at once"))
    async with planner.client() as client:
        answer = await client.post("/plan", json={"prompt": "x"}, headers=SSE)
    parser = Parser()
    parser.feed(answer.content)
    assert [event.data["text"] for event in parser.events if event.name == "text"] == ["all at once"]
