"""Builds the sandbox; everything may be passed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer, health_app
from pagi_chassis.lifecycle import Component, StartError

from pagi_sandbox.adapters.directory_census import DirectoryCensus
from pagi_sandbox.adapters.directory_files import DirectoryFiles
from pagi_sandbox.adapters.directory_removal import DirectoryRemoval
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.entry_point_tools import find_tools
from pagi_sandbox.adapters.fork_orders import Users
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.mcp_config import read_servers
from pagi_sandbox.adapters.mcp_runner import McpRunner
from pagi_sandbox.adapters.prometheus_calls import PrometheusCallMeter, count_restart, show_profile
from pagi_sandbox.adapters.sqlite_effects import SqliteEffectLedger
from pagi_sandbox.adapters.sqlite_notes import SqliteNoteStore
from pagi_sandbox.adapters.sqlite_todos import SqliteTodoStore
from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.disk import DiskGuard, DiskPolicy
from pagi_sandbox.domain.errors import DuplicateToolError
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.mcp import ServerPlace
from pagi_sandbox.domain.model import ToolCall, ToolOutcome
from pagi_sandbox.domain.once import OnceByEffect
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.service_tools import ServiceToolRunner
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.domain.tools import BuiltInOptions
from pagi_sandbox.domain.tools.governance_note import GovernanceNote
from pagi_sandbox.domain.tools.todo import Todo
from pagi_sandbox.servicer import SERVICE, ToolServicer
from pagi_sandbox.settings import SandboxSettings


async def build(
    settings: SandboxSettings,
    *,
    fork_runner: ForkRunner | None = None,
    notes: SqliteNoteStore | None = None,
) -> Sequence[Component]:
    """The components, in the order in which they start: the fork server before the first of gRPC's threads."""
    workspaces = DirectoryWorkspaces(settings.sandbox_workspaces_dir)
    fork_runner = fork_runner or _fork_runner(settings, workspaces)
    notes = notes or SqliteNoteStore(settings.sandbox_db_path)
    todos = SqliteTodoStore(settings.sandbox_db_path)
    service_tools = ServiceToolRunner([GovernanceNote(notes, lambda: datetime.now(UTC)), Todo(todos)])
    census, reader = DirectoryCensus(settings.sandbox_workspace_max_files), DirectoryFiles()
    policy = DiskPolicy(settings.sandbox_workspace_quota_mb * 2**20)
    disk = DiskGuard(policy, census)
    ledger = _ledger(settings)
    sandbox = Sandbox(
        runners=(fork_runner, service_tools),
        schemas=JsonSchemaArguments(),
        limits=settings.limit_policy,
        workspaces=workspaces,
        admission=Admission(settings.sandbox_max_concurrent_calls, settings.sandbox_max_waiting_calls),
        meter=PrometheusCallMeter(),
        registry=ToolRegistry(approval=settings.sandbox_approval_tools, configurations=settings.configurations),
        once=OnceByEffect(ledger),
        disk=disk,
        isolates=fork_runner,
    )
    mcp = _mcp(settings, lambda call: disk.run(fork_runner, call, None))
    sandbox.servers = mcp.isolation
    files = SessionFiles(workspaces, reader, census, policy)
    grpc_server = GrpcServer(
        settings.bind_host, settings.sandbox_grpc_port, tls=settings.server_tls, port_variable="SANDBOX_GRPC_PORT"
    )
    grpc_server.add(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, ToolServicer(sandbox, files), SERVICE)
    health = _health(fork_runner, sandbox)
    http_server = HttpServer(
        health_app(health), settings.bind_host, settings.sandbox_port, port_variable="SANDBOX_PORT"
    )
    removal = DirectoryRemoval(
        workspaces,
        max_age_s=settings.sandbox_workspace_max_age_hours * 3600,
        removed=disk.forget,
        is_used=sandbox.is_at_work,
        forget=todos.forget_unused,
    )
    stores: list[Component] = [notes, todos, ledger, census, reader]
    return [fork_runner, *stores, removal, mcp, _Registration(sandbox, mcp), http_server, grpc_server, health]


def _fork_runner(settings: SandboxSettings, workspaces: DirectoryWorkspaces) -> ForkRunner:
    path, users = settings.sandbox_tools_path, _range(settings.sandbox_uids)
    options = ForkServerOptions(
        references=find_tools(path),
        path=path,
        built_in=BuiltInOptions(
            shell=settings.sandbox_enable_shell,
            preload=settings.sandbox_preload,
            monty=settings.sandbox_python_backend == "monty",
        ),
        max_file_bytes=settings.sandbox_max_file_mb * 2**20,
        profile=settings.sandbox_profile,
        minimum_profile=settings.sandbox_minimum_profile,
        spares=settings.sandbox_spares,
        users=Users(*users, _mark(workspaces)) if users else None,
        private=settings.private_paths,
        cgroup=settings.sandbox_cgroup,
        backend=settings.sandbox_backend,
    )
    return ForkRunner(options, on_restart=count_restart, on_isolation=show_profile)


def _mark(workspaces: DirectoryWorkspaces) -> str:
    try:
        return workspaces.mark()
    except OSError as error:
        raise StartError(f"SANDBOX_WORKSPACES_DIR: {error}") from error


def _mcp(settings: SandboxSettings, write: Callable[[ToolCall], Awaitable[ToolOutcome]]) -> McpRunner:
    servers = read_servers(settings.sandbox_mcp_config) if settings.sandbox_mcp_config else []
    place = ServerPlace(
        settings.sandbox_mcp_homes_dir,
        users=_range(settings.sandbox_mcp_uids),
        cgroup=settings.sandbox_cgroup,
        minimum_profile=settings.sandbox_minimum_profile,
    )
    return McpRunner(servers, place, write=write)


def _range(uids: str) -> tuple[int, int] | None:
    first, _, last = uids.partition("-")
    return (int(first), int(last)) if uids else None


def _ledger(settings: SandboxSettings) -> SqliteEffectLedger:
    return SqliteEffectLedger(
        settings.sandbox_ledger_path,
        max_age_s=settings.sandbox_ledger_max_age_hours * 3600,
        max_bytes=settings.sandbox_ledger_max_mb * 2**20,
    )


def _health(fork_runner: ForkRunner, sandbox: Sandbox) -> Health:
    def detail() -> dict[str, Any]:
        return {"isolation": asdict(sandbox.isolation())}

    health = Health("sandbox", detail=detail)
    health.depends_on("fork-server", fork_runner.check)
    return health


class _Registration:
    """Registers the tools once their runners have started."""

    def __init__(self, sandbox: Sandbox, mcp: McpRunner) -> None:
        self._sandbox = sandbox
        self._mcp = mcp

    async def start(self) -> None:
        try:
            self._sandbox.register()
        except DuplicateToolError as error:
            raise StartError(str(error)) from error
        # Last: a server may not take the name of a tool of ours, and what its tools are may change at any time.
        self._mcp.on_change = lambda: self._sandbox.refresh(self._mcp)
        self._mcp.on_change()

    async def stop(self) -> None:
        """Holds nothing."""
