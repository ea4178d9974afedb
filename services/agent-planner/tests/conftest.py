"""The planner's HTTP application over fakes and a journal in a file."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pagi.memory.v1 import memory_pb2 as pb
from pagi_chassis.errors import UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer
from pagi_chassis.proto_json import to_json
from pagi_planner import Agent, Limits, Policy
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.ports import Model
from pagi_planner.routes.application import create_application
from pagi_planner.routes.event_stream import Patience
from pagi_planner.schemas import Bounds
from pagi_planner.testing import InMemoryFiles, InMemoryMemory, RecordingTools, ScriptedArchive, ScriptedModel, saying

_NOON = Timestamp(seconds=1_772_366_400)
_SESSION = pb.Session(session_id="s", title="t", persona="default", turns=2, created_at=_NOON, updated_at=_NOON)
_TURN = pb.Turn(role=pb.TURN_ROLE_USER, text="Tea?", run_id="r", created_at=_NOON)
_PLAYBOOK = pb.Playbook(
    id="p",
    persona="default",
    prompt="boil",
    steps=[pb.PlaybookStep(tool="kettle", arguments_json="{}", outcome="hot")],
    tool_versions={"kettle": "1"},
    wins=1,
    worth=0.2,
    state=pb.PLAYBOOK_STATE_ACTIVE,
    created_at=_NOON,
    updated_at=_NOON,
)
_DOCUMENT = pb.DocumentInfo(
    source="Domain-KB/tea.md",
    knowledge_base=pb.KNOWLEDGE_BASE_DOMAIN,
    persona="default",
    passages=1,
    characters=9,
    metadata={"author": "Lu Yu"},
    updated_at=_NOON,
)
_PASSAGE = pb.Passage(
    id="1",
    text="Tea, hot.",
    score=0.9,
    knowledge_base=pb.KNOWLEDGE_BASE_DOMAIN,
    source="Domain-KB/tea.md",
    headings=["Tea"],
    score_parts=pb.ScoreParts(dense=1.0, cosine=0.7, dense_rank=1),
    tokens=4,
    merged=1,
)
BOUNDS = Bounds(Limits(max_steps=10, timeout_s=60.0), 100_000)


def adding() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", {"sum": x["a"] + x["b"]})})


@dataclass
class Planner:
    """A planner in this process; its parts may be exchanged before `client`."""

    journal: SqliteJournal
    model: Model = field(default_factory=lambda: ScriptedModel(saying("hello"), repeat_last=True))
    memory: InMemoryMemory = field(default_factory=InMemoryMemory)
    tools: RecordingTools = field(default_factory=adding)
    files: InMemoryFiles = field(default_factory=InMemoryFiles)
    archive: ScriptedArchive = field(default_factory=lambda: ScriptedArchive({}))
    health: Health = field(default_factory=lambda: Health("agent-planner"))
    api_key: str = ""
    bounds: Bounds = BOUNDS
    max_concurrent: int = 10
    policy: Policy = field(default_factory=Policy)
    patience: Patience = field(default_factory=Patience)
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.health.mark_ready()
        self._runs: Runs | None = None

    @property
    def runs(self) -> Runs:
        if self._runs is None:
            agent = Agent(
                self.model,
                memory=self.memory,
                tools=self.tools,
                journal=self.journal,
                files=self.files,
                policy=self.policy,
            )
            self._runs = Runs(agent, self.journal, max_concurrent=self.max_concurrent)
        return self._runs

    def app(self):
        return create_application(
            self.runs,
            self.files,
            self.archive,
            self.health,
            api_key=self.api_key,
            bounds=self.bounds,
            patience=self.patience,
            origins=self.origins,
        )

    def client(self, **kwargs) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app()), base_url="http://planner", **kwargs)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serves it on a real socket; gives host and port."""
        server = HttpServer(self.app(), "127.0.0.1", 0, websockets=True)
        await server.start()
        try:
            yield f"127.0.0.1:{server.port}"
        finally:
            self.runs.send_watchers_away("the test is over")
            await server.stop()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "audit.db")
    await journal.start()
    yield journal
    await journal.stop()


@pytest.fixture
async def planner(journal: SqliteJournal) -> AsyncIterator[Planner]:
    planner = Planner(journal)
    yield planner
    await planner.runs.stop(0)


@pytest.fixture(scope="session")
def planner_over() -> type[Planner]:
    """For a test that needs one in another thread."""
    return Planner


@pytest.fixture(scope="session")
def archive() -> ScriptedArchive:
    """One that has an answer to everything, as memory gives it."""
    answers = {
        "ListSessions": pb.ListSessionsResponse(sessions=[_SESSION], next_page_token="1:s"),
        "GetSession": pb.GetSessionResponse(session=_SESSION, summary="short", summary_by="extract"),
        "UpdateSession": pb.UpdateSessionResponse(session=_SESSION),
        "DeleteSession": pb.DeleteSessionResponse(deleted_turns=2),
        "GetSessionHistory": pb.GetSessionHistoryResponse(turns=[_TURN]),
        "UpdateTurn": pb.UpdateTurnResponse(turn=_TURN),
        "DeleteTurn": pb.DeleteTurnResponse(),
        "SearchHistory": pb.SearchHistoryResponse(
            matches=[pb.TurnMatch(session_id="s", title="t", turn=_TURN, score=1.5, matched_words=["tea"])]
        ),
        "ExportSessions": pb.ExportSessionsResponse(),
        "ImportSessions": pb.ImportSessionsResponse(sessions=1, stored_turns=2, known_turns=3),
        "GetStatistics": pb.GetStatisticsResponse(sessions=1, newest_turn_at=_NOON),
        "ListPlaybooks": pb.ListPlaybooksResponse(playbooks=[_PLAYBOOK]),
        "GetPlaybook": pb.GetPlaybookResponse(playbook=_PLAYBOOK),
        "UpdatePlaybook": pb.UpdatePlaybookResponse(playbook=_PLAYBOOK),
        "DeletePlaybook": pb.DeletePlaybookResponse(),
        "ListDocuments": pb.ListDocumentsResponse(documents=[_DOCUMENT], next_page_token="Domain-KB/tea.md"),
        "GetDocument": pb.GetDocumentResponse(document=_DOCUMENT, text="Tea, hot.", passages=[_PASSAGE]),
        "PutDocument": pb.PutDocumentResponse(document=_DOCUMENT, created=True),
        "DeleteDocument": pb.DeleteDocumentResponse(),
        "GetRAGContext": pb.GetRAGContextResponse(matches=[_PASSAGE]),
        "GetKnowledgeStatistics": pb.GetKnowledgeStatisticsResponse(
            shelves=[pb.ShelfStatistics(persona="default", knowledge_base=pb.KNOWLEDGE_BASE_SOUL, documents=1)],
            embedding_model="small",
            skipped=[pb.SkippedDocument(source="Domain-KB/a.pdf", reason="it is no PDF")],
        ),
    }
    return ScriptedArchive({rpc: to_json(answer) for rpc, answer in answers.items()}, ['{"type": "session"}\n'])


async def _is_up(client: GrpcClient) -> bool:
    try:
        await client.check_health()
    except UnavailableError:
        return False
    return True


@asynccontextmanager
async def _real_gateway(folder: Path, **variables: str) -> AsyncIterator[GrpcClient]:
    """The model gateway in a process of its own."""
    if importlib.util.find_spec("pagi_gateway") is None:
        pytest.skip("pagi-gateway is not installed beside the planner")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "MODEL_GATEWAY_GRPC_PORT": str(port),
        "MODEL_GATEWAY_HTTP_PORT": "0",
        **variables,
    }
    with (folder / "gateway.log").open("wb") as log:
        command = [sys.executable, "-m", "pagi_gateway"]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    client = GrpcClient(f"127.0.0.1:{port}")
    try:
        async with asyncio.timeout(60):
            while not await _is_up(client):
                assert process.poll() is None, (folder / "gateway.log").read_text()
                await asyncio.sleep(0.02)
        yield client
    finally:
        await client.close()
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def real_gateway(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[GrpcClient]]:
    """Starts the model gateway with these variables."""
    return partial(_real_gateway, tmp_path)
