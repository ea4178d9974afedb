"""Wires the planner; a test may pass in any part."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_chassis.component import Component
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer
from prometheus_client import Gauge

from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.memory_client import MemoryClient
from pagi_planner.adapters.redis_notifier import NOTIFIED, RedisNotifier
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.agent import Agent, Policy
from pagi_planner.domain.events import EventType
from pagi_planner.domain.model import Limits
from pagi_planner.domain.relay import HistoryKeeper, Relay
from pagi_planner.domain.runs import Runs
from pagi_planner.routes.application import create_application
from pagi_planner.settings import PlannerSettings

ACTIVE = Gauge("pagi_planner_active_runs", "Runs in progress")
# Runs that are in progress when the planner is asked to stop have this long (seconds).
GRACE_S = 8.0


async def build(settings: PlannerSettings) -> Sequence[Component]:
    """Makes the components in the order in which they start."""
    gateway, memory, sandbox = (
        GrpcClient(address, tls=settings.client_tls)
        for address in (settings.model_gateway_addr, settings.memory_grpc_addr, settings.sandbox_grpc_addr)
    )
    journal = SqliteJournal(settings.pagi_audit_db_path, synchronous=settings.pagi_audit_db_synchronous.upper())
    notifier = RedisNotifier(
        settings.redis_addr, channel=settings.pagi_notifications_channel, stream=settings.pagi_notifications_stream
    )
    most = Limits(max_steps=settings.agent_max_turns, timeout_s=settings.request_timeout_seconds)
    agent = Agent(
        GatewayModel(gateway, timeout_s=settings.request_timeout_seconds),
        memory=MemoryClient(memory, top_k=settings.agent_rag_top_k),
        tools=SandboxTools(sandbox, timeout_s=settings.request_timeout_seconds),
        journal=journal,
        policy=Policy(max_context_tokens=settings.max_context_tokens, max_refinements=settings.agent_max_refinements),
    )
    runs = Runs(agent, journal, max_concurrent=settings.max_concurrent_requests)
    ACTIVE.set_function(lambda: runs.active)
    health = Health("agent-planner")
    health.depends_on("model-gateway", gateway.check_health, required=True)
    health.depends_on("memory", memory.check_health)
    health.depends_on("sandbox", sandbox.check_health)
    health.depends_on("redis", notifier.check)
    app = create_application(
        runs,
        health,
        api_key=settings.pagi_api_key.get_secret_value(),
        most=most,
        max_prompt_characters=settings.agent_max_prompt_characters,
    )
    return [
        journal,
        notifier,
        Connections(gateway, memory, sandbox),
        Relay("notifications", journal, NOTIFIED, notifier.notify),
        Relay("history", journal, {EventType.PLAN_END}, HistoryKeeper(agent, journal).deliver, delay_s=0.5),
        InProgress(runs),
        HttpServer(app, settings.bind_host, settings.agent_planner_port, port_variable="AGENT_PLANNER_PORT"),
        Readiness(health),
    ]


class Connections:
    """The gRPC clients as one component: they connect by themselves and are closed together."""

    def __init__(self, *clients: GrpcClient) -> None:
        self._clients = clients

    async def start(self) -> None:
        """Connects with the first call."""

    async def stop(self) -> None:
        """Closes all."""
        for client in self._clients:
            await client.close()


class InProgress:
    """The runs: what a dead process left is closed, and what is in progress at the end may finish."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def start(self) -> None:
        """Ends interrupted runs, so that none stays `running`."""
        await self._runs.close_interrupted()

    async def stop(self) -> None:
        """Waits for the runs in progress."""
        await self._runs.stop(GRACE_S)


class Readiness:
    """The last component: says that the service is ready, and first of all that it stops."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def start(self) -> None:
        """Welcomes traffic."""
        self._health.mark_ready()

    async def stop(self) -> None:
        """Sends it elsewhere."""
        self._health.mark_stopping()
