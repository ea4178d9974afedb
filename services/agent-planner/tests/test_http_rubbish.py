"""Whatever is sent: a problem document that names the field, never a traceback, never a hang."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from pagi_chassis.http_server import HttpServer

MOST_BODY = 16 * 1024 * 1024


def fields_of(answer: httpx.Response, status: int = 422) -> list[str]:
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    body = answer.json()
    assert body["trace_id"] == answer.headers["x-trace-id"]
    assert "run_id" not in body, "nothing was begun"
    fields = [fault["field"] for fault in body["errors"]]
    assert all(field in body["detail"] for field in fields[:10])
    return fields


async def post(planner, content: bytes, content_type: str | None = "application/json", **headers) -> httpx.Response:
    if content_type is not None:
        headers["Content-Type"] = content_type
    async with planner.client() as client, asyncio.timeout(20):
        return await client.post("/plan", content=content, headers=headers)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \t\n"}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["hi"]}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"prompt": "x" * 10_000_000}, "prompt"),
        ({"prompt": "hi", "colour": "red"}, "colour"),
        ({"prompt": "hi", "session_id": ""}, "session_id"),
        ({"prompt": "hi", "session_id": 7}, "session_id"),
        ({"prompt": "hi", "session_id": "x" * 201}, "session_id"),
        *(
            ({"prompt": "hi", "session_id": bad}, "session_id")
            for bad in (".", "..", "a/b", "a\\b", "a\0", "\n", "\x7f", "\x85")
        ),
        ({"prompt": "hi", "persona": ""}, "persona"),
        ({"prompt": "hi", "persona": {}}, "persona"),
        ({"prompt": "hi", "model": "x" * 201}, "model"),
        ({"prompt": "hi", "tools": "math"}, "tools"),
        ({"prompt": "hi", "tools": ["math", 5]}, "tools[1]"),
        ({"prompt": "hi", "tools": ["math", ""]}, "tools[1]"),
        ({"prompt": "hi", "tools": ["math"] * 201}, "tools"),
        ({"prompt": "hi", "resources": [{"type": "url"}]}, "resources[0].uri"),
        ({"prompt": "hi", "resources": [{"type": "url", "uri": "u", "x": 1}]}, "resources[0].x"),
        ({"prompt": "hi", "resources": [{"type": "url", "uri": "u"}] * 101}, "resources"),
        ({"prompt": "hi", "limits": None}, "limits"),
        ({"prompt": "hi", "limits": {"max_steps": 0}}, "limits.max_steps"),
        ({"prompt": "hi", "limits": {"max_steps": 11}}, "limits.max_steps"),
        ({"prompt": "hi", "limits": {"max_steps": "3"}}, "limits.max_steps"),
        ({"prompt": "hi", "limits": {"max_steps": 1.5}}, "limits.max_steps"),
        ({"prompt": "hi", "limits": {"max_steps": True}}, "limits.max_steps"),
        ({"prompt": "hi", "limits": {"timeout_s": -1}}, "limits.timeout_s"),
        ({"prompt": "hi", "limits": {"timeout_s": 0}}, "limits.timeout_s"),
        ({"prompt": "hi", "limits": {"timeout_s": 60.1}}, "limits.timeout_s"),
        ({"prompt": "hi", "limits": {"timeout_s": "1"}}, "limits.timeout_s"),
        ({"prompt": "hi", "limits": {"max_cost_usd": 0}}, "limits.max_cost_usd"),
        ({"prompt": "hi", "limits": {"max_tokens": 0}}, "limits.max_tokens"),
        ({"prompt": "hi", "limits": {"max_tool_calls": -1}}, "limits.max_tool_calls"),
        ({"prompt": "hi", "limits": {"max_colours": 5}}, "limits.max_colours"),
        ({"prompt": "hi", "mode": "dance"}, "mode"),
        ({"prompt": "hi", "temperature": 2.5}, "temperature"),
        ({"prompt": "hi", "on_disconnect": "sulk"}, "on_disconnect"),
        ({"prompt": "hi", "evaluate": {"threshold": 1.5}}, "evaluate.threshold"),
        ({"prompt": "hi", "evaluate": {"max_refinements": 11}}, "evaluate.max_refinements"),
        ({"prompt": "hi", "understand": {"model": "yes"}}, "understand.model"),
        ({"prompt": "hi", "files": [{}]}, "files[0]"),
        ({"prompt": "hi", "files": [{"content_base64": "YQ=="}]}, "files[0].name"),
        ({"prompt": "hi", "files": [{"path": "a", "content_base64": "YQ=="}]}, "files[0]"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
async def test_a_wrong_value_is_named_by_its_place(planner, body, field):
    assert fields_of(await post(planner, json.dumps(body).encode())) == [field]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nonsense",
        b'{"prompt": "hi"} and more',
        b"{'prompt': 'hi'}",
        b'{"prompt": "hi", "limits": {"timeout_s": NaN}}',
        b'{"prompt": "hi", "limits": {"max_cost_usd": Infinity}}',
        b'{"prompt": "hi", "limits": {"max_steps": ' + b"9" * 5_000 + b"}}",
        b'{"prompt": "\xff"}',
        '{"prompt": "hi"}'.encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"prompt": ' * 100_000,
        b"[]",
        b'["prompt"]',
        b'"hi"',
        b"5",
        b"null",
        b"true",
    ],
    ids=lambda content: content[:40].decode("latin-1"),
)
async def test_a_body_that_is_no_json_object_is_refused(planner, content):
    assert fields_of(await post(planner, content)) == ["body"]


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
@pytest.mark.parametrize("field", ["timeout_s", "max_cost_usd", "max_steps"])
async def test_a_number_that_overflows_is_refused(planner, field, number):
    content = f'{{"prompt": "hi", "limits": {{"{field}": {number}}}}}'.encode()
    assert fields_of(await post(planner, content)) == [f"limits.{field}"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (rb'{"prompt": "\ud800"}', "prompt"),
        (rb'{"prompt": "hi", "session_id": "\udfff"}', "session_id"),
        (rb'{"prompt": "hi", "tools": ["\ud800"]}', "tools[0]"),
        (rb'{"prompt": "hi", "\ud800": 1}', "body"),
    ],
)
async def test_half_a_surrogate_pair_is_refused(planner, content, field):
    assert fields_of(await post(planner, content)) == [field]


async def test_faults_are_told_together_and_not_without_end(planner):
    body = {"prompt": "", "session_id": "a/b", **{f"x{n}": n for n in range(1_000)}}
    fields = fields_of(await post(planner, json.dumps(body).encode()))
    assert sorted(fields[:2]) == ["prompt", "session_id"]
    assert len(fields) == 100
    long = await post(planner, json.dumps({"prompt": "hi", "y" * 100_000: 1}).encode())
    assert len(long.content) < 5_000


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", None, "///"]
)
async def test_a_body_of_another_type_is_refused_with_what_would_do(planner, content_type):
    answer = await post(planner, b'{"prompt": "hi"}', content_type)
    assert fields_of(answer, 415) == ["Content-Type"]
    assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"]
)
async def test_every_name_of_json_is_taken(planner, content_type):
    assert (await post(planner, b'{"prompt": "hi"}', content_type)).status_code == 200


async def test_no_body_at_all_is_refused(planner):
    assert fields_of(await post(planner, b"")) == ["body"]
    assert fields_of(await post(planner, b"", None), 415) == ["Content-Type"]


async def test_a_trace_id_of_rubbish_is_refused(planner):
    answer = await post(planner, b'{"prompt": "hi"}', **{"X-Trace-ID": "x" * 129})
    assert fields_of(answer) == ["X-Trace-ID"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/plan", 405),
        ("PUT", "/run", 405),
        ("DELETE", "/runs", 405),
        ("POST", "/runs/x", 405),
        ("POST", "/health", 405),
        ("GET", "/nothing", 404),
        ("GET", "/runs/../etc/passwd", 404),
        ("GET", "/%00", 404),
    ],
)
async def test_other_paths_and_methods_are_problems(planner, method, path, status):
    async with planner.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert ("allow" in answer.headers) == (status == 405)


async def test_over_a_socket_large_and_broken_bodies_are_refused(planner):
    server = HttpServer(planner.app(), "127.0.0.1", 0)
    await server.start()

    async def parts():
        for _ in range(17):
            yield b" " * 1024 * 1024

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client, asyncio.timeout(30):
        headers = {"Content-Type": "application/json"}
        for content in (b" " * (MOST_BODY + 1), parts()):
            assert fields_of(await client.post("/plan", content=content, headers=headers), 413) == ["body"]
        assert fields_of(await client.post("/plan", content=b"[" * 100_000, headers=headers)) == ["body"]
        assert fields_of(await client.post("/plan", json={"prompt": "x" * 10_000_000})) == ["prompt"]
        assert (await client.post("/plan", json={"prompt": "hi"})).status_code == 200
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /plan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        writer.close()
        await writer.wait_closed()
        assert (await client.get("/health/live")).status_code == 200
    await server.stop()
