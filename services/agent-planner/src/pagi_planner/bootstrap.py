"""Wires the planner; a test may pass in any part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis.component import Component
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer
from prometheus_client import Gauge

from pagi_planner.adapters.gateway_catalogue import GatewayCatalogue
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.memory_client import MemoryClient
from pagi_planner.adapters.memory_desk import MemoryDesk
from pagi_planner.adapters.postgres_journal import PostgresJournal
from pagi_planner.adapters.prometheus_journal import PrometheusJournal
from pagi_planner.adapters.prometheus_phases import PrometheusPhases
from pagi_planner.adapters.pypdf_documents import PypdfDocuments
from pagi_planner.adapters.redis_notifier import NOTIFIED, RedisNotifier
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.adapters.sandbox_files import SandboxFiles
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.after.history import HistoryKeeper
from pagi_planner.domain.after.learning import Teacher
from pagi_planner.domain.after.relay import Relay
from pagi_planner.domain.agent import Agent, Policy
from pagi_planner.domain.keeping.keeper import Keeper
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Limits
from pagi_planner.domain.ports import Archive, Memory, Mind, Model, Notifier, SessionFiles, Tools
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.tools.delegate import Delegate
from pagi_planner.domain.watching.channel import LagBounds
from pagi_planner.routes.application import create_application
from pagi_planner.routes.event_stream import Patience
from pagi_planner.schemas import Bounds
from pagi_planner.servicer import SERVICE, AgentServicer
from pagi_planner.settings import PlannerSettings

ACTIVE = Gauge("pagi_planner_active_runs", "Runs in progress")
QUEUED = Gauge("pagi_planner_queued_runs", "Runs of dead planners that are claimed and wait for room")
UNREADABLE = Gauge("pagi_planner_unreadable_runs", "Runs that were cut off and can neither be read nor be ended")
WATCHERS = Gauge("pagi_planner_watchers", "Streams and WebSocket chats that follow a run now")
# Runs that are in progress when the planner is asked to stop have this long (seconds).
GRACE_S = 8.0
# So many signs of life must be missed.
BEATS = 4
# A run that another planner works on is looked at as often for those who watch it here (seconds).
SHARED_POLL_S = 0.25
# Lets a burst of runs that ended become one look at the journal; nobody waits for it.
HISTORY_DELAY_S = 0.5
MIND_DELAY_S = 2.0


async def build(
    settings: PlannerSettings,
    *,
    model: Model | None = None,
    memory: Memory | None = None,
    mind: Mind | None = None,
    archive: Archive | None = None,
    tools: Tools | None = None,
    files: SessionFiles | None = None,
    notifier: Notifier | None = None,
) -> Sequence[Component]:
    """Makes the components in the order in which they start.

    Args:
        settings: What the environment says.
        model: In place of the model gateway.
        memory: In place of the memory service; without `mind` nobody learns from runs then.
        mind: What learns from runs, in place of the memory service.
        archive: Where people look at memory, in place of the memory service.
        tools: In place of the sandbox's tools.
        files: In place of the sandbox's files.
        notifier: In place of Redis.
    """
    peers = Peers(settings)
    journal = _journal(settings, peers.health)
    if memory is None:
        memory = remote = peers.memory()
        mind = mind or remote
    files = files or peers.files()
    delegate = Delegate(max_depth=settings.agent_max_depth, max_children=settings.agent_max_children)
    agent = Agent(
        model or peers.model(),
        memory=memory,
        tools=tools or peers.tools(),
        journal=PrometheusJournal(journal),
        policy=Policy(
            max_context_tokens=settings.max_context_tokens,
            max_refinements=settings.agent_max_refinements,
            judge_model=settings.agent_judge_model,
            compacts_by_model=settings.agent_compaction == "model",
            # Other planners write the same journal.
            poll_s=SHARED_POLL_S if isinstance(journal, PostgresJournal) else None,
            approval_tools=settings.approval_tools,
            lag=LagBounds(settings.agent_stream_max_events, settings.agent_stream_max_bytes),
        ),
        # A model that was passed in is not one of the gateway's.
        catalogue=None if model else peers.catalogue(),
        documents=PypdfDocuments(),
        timings=PrometheusPhases(),
        files=files,
        own_tools=[delegate],
    )
    told = notifier or peers.notifier()
    delegate.children = runs = Runs(agent, journal, max_concurrent=settings.max_concurrent_requests)
    ACTIVE.set_function(lambda: runs.active)
    QUEUED.set_function(lambda: runs.queued)
    UNREADABLE.set_function(lambda: runs.unreadable)
    WATCHERS.set_function(lambda: agent.parts.feed.watchers)
    app = create_application(
        runs,
        files,
        archive or peers.archive(),
        peers.health,
        api_key=settings.pagi_api_key.get_secret_value(),
        bounds=_bounds(settings),
        patience=Patience(settings.agent_stream_heartbeat_seconds, settings.agent_stream_stall_seconds),
        origins=settings.allowed_origins,
    )
    grpc = GrpcServer(
        settings.bind_host,
        settings.agent_planner_grpc_port,
        tls=settings.server_tls,
        port_variable="AGENT_PLANNER_GRPC_PORT",
    )
    servicer = AgentServicer(runs, _bounds(settings), api_key=settings.pagi_api_key.get_secret_value())
    grpc.add(agent_pb2_grpc.add_AgentServicer_to_server, servicer, SERVICE)
    learning = []
    if mind:
        learning.append(
            Relay("mind", journal, {EventType.PLAN_END}, Teacher(agent, mind).deliver, delay_s=MIND_DELAY_S)
        )
    return [
        journal,
        peers,
        Relay("notifications", journal, NOTIFIED, told.notify),
        Relay("history", journal, {EventType.PLAN_END}, HistoryKeeper(agent).deliver, delay_s=HISTORY_DELAY_S),
        *learning,
        Keeper(runs, journal, beat_s=settings.agent_lapse_seconds / BEATS, grace_s=GRACE_S),
        grpc,
        HttpServer(
            app, settings.bind_host, settings.agent_planner_port, port_variable="AGENT_PLANNER_PORT", websockets=True
        ),
        Streams(runs),
        peers.health,
    ]


def _journal(settings: PlannerSettings, health: Health) -> SqliteJournal | PostgresJournal:
    if url := settings.pagi_audit_database_url.get_secret_value():
        journal = PostgresJournal(url, lapse_s=settings.agent_lapse_seconds, port=settings.agent_planner_port)
        health.depends_on("journal", journal.check, required=True)
        return journal
    return SqliteJournal(settings.pagi_audit_db_path, synchronous=settings.pagi_audit_db_synchronous.upper())


def _bounds(settings: PlannerSettings) -> Bounds:
    most = Limits(
        max_steps=settings.agent_max_turns,
        timeout_s=settings.request_timeout_seconds,
        max_tokens=settings.agent_max_tokens,
        max_tool_calls=settings.agent_max_tool_calls,
    )
    return Bounds(most, settings.agent_max_prompt_characters)


class Peers:
    """The other services, each made where it is asked for; from then on health tells of it. Closed together."""

    def __init__(self, settings: PlannerSettings) -> None:
        self.health = Health("agent-planner")
        self._settings = settings
        self._clients: list[GrpcClient] = []
        self._gateway_client: GrpcClient | None = None
        self._memory_client: GrpcClient | None = None
        self._sandbox_client: GrpcClient | None = None
        self._tools: SandboxTools | None = None
        self._notifier: RedisNotifier | None = None

    def model(self) -> GatewayModel:
        """The model gateway, without which nothing works."""
        return GatewayModel(
            self._gateway(),
            timeout_s=self._settings.request_timeout_seconds,
            long_patience_s=self._settings.agent_gateway_patience_seconds,
        )

    def catalogue(self) -> GatewayCatalogue:
        """The model gateway's other half: what its models can do."""
        return GatewayCatalogue(self._gateway())

    def memory(self) -> MemoryClient:
        """The memory service."""
        return MemoryClient(self._memory(), top_k=self._settings.agent_rag_top_k, tool_versions=self._tool_versions)

    def archive(self) -> MemoryDesk:
        """The memory service's other half: what people look at."""
        return MemoryDesk(self._memory())

    def tools(self) -> SandboxTools:
        """The sandbox."""
        self._tools = SandboxTools(self._sandbox(), timeout_s=self._settings.request_timeout_seconds)
        return self._tools

    def files(self) -> SandboxFiles:
        """The sandbox's other half: what tools left."""
        return SandboxFiles(self._sandbox())

    def notifier(self) -> RedisNotifier:
        """Redis."""
        settings = self._settings
        self._notifier = RedisNotifier(
            settings.redis_addr, channel=settings.pagi_notifications_channel, stream=settings.pagi_notifications_stream
        )
        self.health.depends_on("redis", self._notifier.check)
        return self._notifier

    async def start(self) -> None:
        """Connects with the first call."""

    async def stop(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            await client.close()
        if self._notifier:
            await self._notifier.close()

    def _tool_versions(self) -> Mapping[str, str]:
        return self._tools.versions if self._tools else {}

    def _gateway(self) -> GrpcClient:
        """One connection for both halves."""
        if self._gateway_client is None:
            self._gateway_client = self._client("model-gateway", self._settings.model_gateway_addr, required=True)
        return self._gateway_client

    def _memory(self) -> GrpcClient:
        """One connection for both halves."""
        if self._memory_client is None:
            self._memory_client = self._client("memory", self._settings.memory_grpc_addr)
        return self._memory_client

    def _sandbox(self) -> GrpcClient:
        """One connection for both halves."""
        if self._sandbox_client is None:
            self._sandbox_client = self._client("sandbox", self._settings.sandbox_grpc_addr)
        return self._sandbox_client

    def _client(self, name: str, address: str, *, required: bool = False) -> GrpcClient:
        client = GrpcClient(address, tls=self._settings.client_tls)
        self._clients.append(client)
        self.health.depends_on(name, client.check_health, required=required)
        return client


class Streams:
    """Those who watch runs: sent away first, so that the HTTP server need not wait for them."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def start(self) -> None:
        """They come by themselves."""

    async def stop(self) -> None:
        """Tells each of them how to go on."""
        self._runs.send_watchers_away("the planner stops; go on at another one, or soon, with the id that you saw last")
