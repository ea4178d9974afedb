"""What happens around a request: over ASGI, and over a real socket where only that can show it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from pagi_chassis import correlation, http_edge, problems, telemetry
from pagi_chassis.errors import UnavailableError
from pagi_chassis.http_edge import REQUESTS, HttpEdge
from pagi_chassis.http_server import HttpServer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

MOST = 1_000
W3C = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{W3C}-b7ad6b7169203331-01"


async def show(request):
    return JSONResponse({"trace_id": correlation.current().trace_id, **telemetry.inject()})


async def count(request):
    return JSONResponse({"bytes": len(await request.body())})


async def fail(request):
    raise UnavailableError("away", retry_after_s=2) if request.path_params["how"] == "typed" else KeyError("secret")


async def break_off(request):
    async def parts() -> AsyncIterator[str]:
        yield "half"
        raise KeyError("secret")

    return StreamingResponse(parts())


def application() -> Starlette:
    return Starlette(
        routes=[
            Route("/show", show),
            Route("/health", show),
            Route("/count", count, methods=["POST"]),
            Route("/fail/{how}", fail),
            Route("/break-off", break_off),
        ],
        middleware=[Middleware(HttpEdge, max_body_bytes=MOST)],
        exception_handlers=problems.HANDLERS,
    )


@pytest.fixture
async def client():
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        yield client


@pytest.fixture
async def address():
    server = HttpServer(application(), "127.0.0.1", 0)
    await server.start()
    yield "127.0.0.1", server.port
    await server.stop()


async def test_a_trace_id_is_taken_bound_and_echoed(client):
    answer = await client.get("/show", headers={"X-Trace-ID": "my trace"})
    assert answer.headers["x-trace-id"] == answer.json()["trace_id"] == "my trace"


async def test_a_trace_id_is_made_where_there_is_none(client):
    ids = {(await client.get("/show", headers=headers)).json()["trace_id"] for headers in ({}, {"X-Trace-ID": ""})}
    assert len(ids) == 2
    assert all(telemetry.is_w3c_trace_id(each) for each in ids)


async def test_the_trace_that_the_caller_is_part_of_goes_on(client):
    answer = (await client.get("/show", headers={"traceparent": TRACEPARENT})).json()
    assert (answer["trace_id"], answer["traceparent"]) == (W3C, TRACEPARENT)
    for rubbish in ("00-zz-b7-01", f"00-{'0' * 32}-b7ad6b7169203331-01", "x"):
        answer = await client.get("/show", headers={"traceparent": rubbish})
        assert answer.status_code == 200
        assert answer.json()["trace_id"] not in rubbish


@pytest.mark.parametrize("rubbish", ["x" * 129, "a\tb", "ä".encode(), b"\xff\x00"])
async def test_a_trace_id_that_cannot_be_used_is_refused_and_not_echoed(client, rubbish):
    answer = await client.get("/show", headers={"X-Trace-ID": rubbish})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["field"] == "X-Trace-ID"
    assert telemetry.is_w3c_trace_id(answer.headers["x-trace-id"])
    assert answer.json()["trace_id"] == answer.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/fail/typed", "GET", 503), ("/nothing", "GET", 404), ("/show", "DELETE", 405), ("/fail/untyped", "GET", 500)],
)
async def test_every_failure_is_a_problem_with_the_trace_id(client, path, method, status, caplog):
    answer = await client.request(method, path, headers={"X-Trace-ID": "t-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["trace_id"] == answer.headers["x-trace-id"] == "t-1"
    assert "secret" not in answer.text
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failed) == (status == 500)
    assert "secret" in caplog.text or status != 500


async def test_405_tells_what_is_allowed(client):
    answer = await client.delete("/show")
    assert "GET" in answer.headers["allow"]
    assert answer.json()["detail"] == "/show takes GET and HEAD, not DELETE"


@pytest.mark.parametrize(("docs_url", "hint"), [(None, ""), ("/docs", "; /docs shows what there is")])
async def test_404_tells_what_was_asked_for_and_where_to_look(docs_url, hint):
    app = application()
    app.docs_url = docs_url
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge") as client:
        assert (await client.get("/paln?x=1")).json()["detail"] == f"there is nothing at /paln{hint}"


@pytest.mark.parametrize("size", [MOST - 1, MOST])
async def test_a_body_within_the_bound_is_read(client, size):
    assert (await client.post("/count", content=b"x" * size)).json() == {"bytes": size}


async def parts_of(size: int, part: int = 100) -> AsyncIterator[bytes]:
    for _ in range(size // part):
        yield b"x" * part
    yield b"x" * (size % part)


@pytest.mark.parametrize("content", [b"x" * (MOST + 1), parts_of(MOST + 1)], ids=["length told", "chunked"])
async def test_a_body_that_is_too_large_is_refused(client, content):
    answer = await client.post("/count", content=content)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert answer.json()["errors"] == [{"field": "body", "message": f"the body is larger than {MOST} bytes"}]


@pytest.mark.parametrize(("length", "status"), [("abc", 422), ("-1", 422), ("²", 422), ("9" * 5_000, 413)])
async def test_a_length_that_is_none_is_refused(client, length, status):
    answer = await client.post("/count", headers={"Content-Length": length.encode()})
    assert answer.status_code == status


async def test_requests_are_counted_by_route_and_health_is_not(client):
    def counted(route: str, status: int) -> float:
        return REQUESTS.labels("GET", route, str(status))._value.get()

    before = counted("/fail/{how}", 503), counted("unmatched", 404), counted("/fail/{how}", 500)
    for path in ("/fail/typed", "/nothing", "/fail/untyped", "/health"):
        await client.get(path)
    after = counted("/fail/{how}", 503), counted("unmatched", 404), counted("/fail/{how}", 500)
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1, 1]
    assert counted("/health", 200) == 0


async def test_over_a_socket_a_large_body_gets_its_413_though_it_is_not_read(address):
    async with httpx.AsyncClient(base_url="http://{}:{}".format(*address)) as client:
        for content in (b"x" * 3_000_000, parts_of(3_000_000, 60_000)):
            answer = await client.post("/count", content=content)
            assert answer.status_code == 413
        assert (await client.get("/show")).status_code == 200


async def test_who_waits_for_leave_to_send_is_refused_before_the_body_is_sent(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_never_ends_is_refused_all_the_same(address, monkeypatch):
    monkeypatch.setattr(http_edge, "LINGER_S", 0.1)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nxxxx")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_an_answer_that_breaks_in_the_middle_is_seen_to_be_broken(address, caplog):
    async with httpx.AsyncClient(base_url="http://{}:{}".format(*address)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/break-off")
    assert "secret" in caplog.text


async def test_a_request_that_is_no_http_ends_without_a_traceback(address, caplog):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"nonsense\r\n\r\n")
    assert b"400" in await reader.read()
    writer.close()
    await writer.wait_closed()
    assert "Traceback" not in caplog.text
