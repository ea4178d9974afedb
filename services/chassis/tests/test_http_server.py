"""An HTTP port over a real socket."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pagi_chassis.errors import UnavailableError
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app, health_routes
from pagi_chassis.lifecycle import StartError
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


@pytest.fixture
async def serve():
    """Starts servers of applications, gives clients of them, and stops both."""
    servers, clients = [], []

    async def serve(app, host="127.0.0.1"):
        server = HttpServer(app, host, 0)
        await server.start()
        servers.append(server)
        clients.append(httpx.AsyncClient(base_url=f"http://{f'[{host}]' if ':' in host else host}:{server.port}"))
        return clients[-1]

    yield serve
    for client in clients:
        await client.aclose()
    for server in servers:
        await server.stop()


async def test_health_tells_of_each_dependency_and_turns_to_503(serve):
    health = Health("demo", detail=lambda: {"layers": ["landlock"], "status": "forged"})
    away = False

    async def check():
        if away:
            raise UnavailableError("memory:1 cannot be reached")

    health.depends_on("memory", check, required=True)
    client = await serve(health_app(health))
    assert (await client.get("/health/ready")).status_code == 503
    assert (await client.get("/health/live")).json() == {"status": "ok"}
    health.mark_ready()
    assert (await client.get("/health/ready")).status_code == 200
    answer = await client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("version")
    assert body == {
        "service": "demo",
        "status": "ok",
        "dependencies": {"memory": {"status": "ok"}},
        "layers": ["landlock"],
    }
    away = True
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert (await client.get("/health/live")).status_code == 200


async def test_metrics_are_prometheus_text(serve):
    Counter("pagi_demo_things", "Things").inc(3)
    answer = await (await serve(health_app(Health("demo")))).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "\npagi_demo_things_total 3.0\n" in answer.text


async def test_an_ipv6_address_is_served(serve):
    assert (await (await serve(health_app(Health("demo")), "::1")).get("/health/live")).status_code == 200


async def test_a_port_that_is_taken_is_named_with_its_variable():
    first = HttpServer(health_app(Health("a")), "127.0.0.1", 0)
    await first.start()
    second = HttpServer(health_app(Health("b")), "127.0.0.1", first.port, port_variable="MEMORY_PORT")
    with pytest.raises(StartError, match=rf"127\.0\.0\.1:{first.port} .*in use.*MEMORY_PORT"):
        await second.start()
    await second.stop()
    await first.stop()


async def test_stop_lets_a_request_finish_and_frees_the_port():
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_):
        begun.set()
        await go.wait()
        return PlainTextResponse("finished")

    app = Starlette(routes=[Route("/slow", slow), *health_routes(Health("demo"))])
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        request = asyncio.create_task(client.get("/slow"))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        while not server._server.should_exit:
            await asyncio.sleep(0)
        go.set()
        assert (await request).text == "finished"
        async with asyncio.timeout(5):
            await stopping
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")
    again = HttpServer(app, "127.0.0.1", server.port)
    await again.start()
    await again.stop()
