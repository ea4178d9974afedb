"""An HTTP port: for a service's own API, or only for its health and metrics.

uvicorn, starlette and prometheus_client are imported where they are used: together they take longer to import than
grpc, and most of what imports this module (a test, a tool) never opens a port.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pagi_chassis import ports
from pagi_chassis.health import Health

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

GRACE_S = 5
# A longer message ends its connection (RFC 6455, 1009); applications refuse shorter ones with words.
WEBSOCKET_BYTES = 16 * 1024 * 1024


def health_routes(health: Health) -> list[Route]:
    """`/health` with each dependency, `/health/live`, `/health/ready`, `/metrics` (Prometheus text)."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def overall(_: Request) -> Response:
        report = await health.report()
        body = {
            **report.detail,
            "service": report.service,
            "version": report.version,
            "status": report.status,
            "dependencies": report.dependencies,
        }
        return JSONResponse(body, report.http_status)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        return JSONResponse({"status": "ok"}) if health.ready else JSONResponse({"status": "unavailable"}, 503)

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
    from starlette.applications import Starlette

    return Starlette(routes=health_routes(health))


class HttpServer:
    """A component that serves an ASGI application on one port.

    Args:
        app: The application.
        host: Address to listen on.
        port: 0 takes a free one; `port` tells which after the start.
        port_variable: The environment variable to name where the port is taken.
        websockets: Whether the application serves WebSockets, too; the package of that name is needed for it.
    """

    def __init__(self, app: Any, host: str, port: int, *, port_variable: str = "", websockets: bool = False) -> None:
        self.host = host
        self.port = port
        self._port_variable = port_variable
        self._websockets = websockets
        self._app = app
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            StartError: The port is taken.
        """
        import uvicorn

        listener = ports.listen(self.host, self.port, self._port_variable)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http="httptools",
            ws="websockets-sansio" if self._websockets else "none",
            ws_max_size=WEBSOCKET_BYTES,
            # Compression holds 64 KiB for each connection, and what agents say is short.
            ws_per_message_deflate=False,
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = server = uvicorn.Server(config)
        # The lifecycle owns the signals.
        server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
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
