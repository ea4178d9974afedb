"""An HTTP port: for a service's own API, or only for its health and metrics."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagi_chassis.health import Health
from pagi_chassis.lifecycle import StartError


def health_routes(health: Health) -> list[Route]:
    """`/health` with each dependency, `/health/live`, `/health/ready`, `/metrics` (Prometheus text)."""

    async def overall(_: Request) -> Response:
        report = await health.report()
        body = {
            "service": report.service,
            "version": report.version,
            "status": report.status,
            "dependencies": report.dependencies,
            **report.detail,
        }
        return JSONResponse(body, report.http_status)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        status = ("ok", 200) if health.ready else ("unavailable", 503)
        return JSONResponse({"status": status[0]}, status[1])

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/health", overall),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
    ]


def health_app(health: Health) -> Starlette:
    """An application with the health routes and nothing else."""
    return Starlette(routes=health_routes(health))


class HttpServer:
    """A component that serves an ASGI application on one port.

    Args:
        app: The application.
        host: Address to listen on.
        port: 0 takes a free one; `port` tells which after the start.
        port_variable: The environment variable to name where the port is taken.
    """

    def __init__(self, app: Any, host: str, port: int, *, port_variable: str = "") -> None:
        self.host = host
        self.port = port
        self._port_variable = port_variable
        self._app = app
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            StartError: The port is taken.
        """
        listener = self._bind()
        config = uvicorn.Config(
            self._app,
            http="httptools",
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        self._server = server = _Server(config)
        self._serving = asyncio.create_task(server.serve([listener]))
        # A failure to start must be heard: serve() would otherwise die unseen.
        while not server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.001)
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Lets requests in flight finish for up to 5 s."""
        if self._server and self._serving:
            self._server.should_exit = True
            await self._serving

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            hint = f" or choose another with {self._port_variable}" if self._port_variable else ""
            message = f"cannot listen on {self.host}:{self.port} ({error}). Stop what holds the port{hint}."
            raise StartError(message) from error
        self.port = listener.getsockname()[1]
        return listener


class _Server(uvicorn.Server):
    """Without signal handlers: the lifecycle owns the signals."""

    def capture_signals(self) -> Any:
        """Captures none."""
        from contextlib import nullcontext

        return nullcontext()
