from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.domain.context import ContextAssembly
from pagi_memory.domain.documents import Documents
from pagi_memory.domain.history import History
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.learning import Learning
from pagi_memory.domain.mind_ledger import MindLedger
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.ports import VectorIndex
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.recall import Recall, Weighing
from pagi_memory.domain.reembedding import Reembedding
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.sessions import Sessions
from pagi_memory.domain.standalone_mind import InMemoryPlaybooks
from pagi_memory.domain.task_index import TaskIndex
from pagi_memory.servicer import MemoryServicer
from pagi_memory.testing import (
    HashingEmbedder,
    InMemoryKnowledgeFiles,
    InMemoryPassageStore,
    InMemorySessionStore,
    InMemoryVectorIndex,
    ParagraphSplitter,
)


class FakePlaybooks:
    """Playbooks on fakes: in memory, and in an index that follows."""

    def __init__(
        self, serving: ServingModel, index: VectorIndex, documents: InMemoryPassageStore, **settings: Any
    ) -> None:
        def those(*names: str) -> dict[str, Any]:
            return {name: settings[name] for name in names if name in settings}

        self.store = InMemoryPlaybooks(lambda: serving.identity)
        searched = MatrixIndex(index, documents, mind=self.store, **those("small"))
        self.ledger = MindLedger(self.store, searched)
        self.indexing = Indexing(documents, searched, mind=self.ledger, batch=2)
        self.tasks = TaskIndex(self.store, searched, self.ledger, self.indexing, serving, pause_s=0, patience_s=0)
        vectors = QueryVectors(serving, size=99)
        shared = (self.store, self.tasks, vectors, serving)
        self.playbooks = Playbooks(*shared, **those("least_relevance", "now"))
        self.learning = Learning(*shared, **those("most", "same_task", "now"))


class FakeMind:
    """The whole domain on fakes."""

    def __init__(self, texts: dict[str, str] | None = None, *, store=None, sessions=None, embedder=None) -> None:
        self.files = InMemoryKnowledgeFiles(texts)
        self.embedder = embedder or HashingEmbedder()
        self.store = store or InMemoryPassageStore()
        self.index = InMemoryVectorIndex()
        self.sessions = sessions or InMemorySessionStore()
        self.personas = Personas(self.store)
        self.serving = ServingModel(self.embedder)
        self.mind = FakePlaybooks(self.serving, self.index, self.store)
        self.indexing = self.mind.indexing
        self.ingestion = Ingestion(
            self.files, ParagraphSplitter(), self.serving, self.store, self.indexing, self.personas
        )
        self.reembedding = Reembedding(
            self.store, self.serving, self.ingestion, self.indexing, playbooks=self.mind.store, batch=2
        )
        self.documents = Documents(
            self.files, self.store, self.ingestion, self.personas, self.reembedding, editors=["acme"]
        )
        self.recall = Recall(
            self.store,
            self.index,
            QueryVectors(self.serving, size=2),
            self.serving,
            self.personas,
            weighing=Weighing(least_similarity=0.3, merge=False),
        )
        said = QueryVectors(self.serving, size=99)
        self.history = History(self.sessions, vectors=said)
        self.playbooks, self.learning = self.mind.playbooks, self.mind.learning
        self.conversations = Sessions(self.sessions, vectors=said, model=self.serving)
        self.context = ContextAssembly(self.personas, self.history, self.recall, self.playbooks)

    def servicer(self, **clock: Callable[[], datetime]) -> MemoryServicer:
        domain = (self.context, self.history, self.documents, self.conversations)
        return MemoryServicer(*domain, self.playbooks, self.learning, **clock)


@pytest.fixture
def playbooks_of() -> Callable[..., FakePlaybooks]:
    """Makes playbooks of settings."""

    def make(embedder: HashingEmbedder, **settings: Any) -> FakePlaybooks:
        return FakePlaybooks(ServingModel(embedder), InMemoryVectorIndex(), InMemoryPassageStore(), **settings)

    return make


@pytest.fixture
def mind(mind_on: Callable[..., FakeMind]) -> FakeMind:
    return mind_on()


@pytest.fixture
def mind_on() -> Callable[..., FakeMind]:
    """Makes the domain on some real parts."""
    return partial(
        FakeMind,
        {
            "Soul-KB/persona.md": "I am the assistant.",
            "Domain-KB/tea.md": "Green tea steeps three minutes.\n\nBlack tea steeps five minutes.",
            "Domain-KB/dogs.md": "A dog barks at strangers.",
            "Body-KB/kettle.md": "The kettle heats water to ninety degrees.",
            "personas/dog/Soul-KB/persona.md": "I am Rex.",
            "personas/dog/Domain-KB/walks.md": "Walks are at seven.",
        },
    )


@pytest.fixture
async def embedder() -> AsyncIterator[OnnxEmbedder]:
    embedder = OnnxEmbedder()
    await embedder.start()
    yield embedder
    await embedder.stop()


@pytest.fixture(scope="session")
def chroma_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("chroma-server")
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield port
        finally:
            # It takes two seconds to stop, and what it holds is thrown away.
            process.kill()
            process.wait()


PLANTS = 12


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MemoryProcess:
    """The service in a folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log = folder / f"log-{self.http_port}"
        environment = {
            "PATH": os.environ["PATH"],
            "MEMORY_PORT": str(self.http_port),
            "MEMORY_GRPC_PORT": str(self.grpc_port),
            "LOG_LEVEL": "debug",
            **variables,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pagi_memory"],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def ready(self) -> bool:
        try:
            # Not httpx: its one-shot calls load the CA certificates each time.
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/health/ready", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    @asynccontextmanager
    async def rpc(self) -> AsyncIterator[tuple[GrpcClient, memory_pb2_grpc.MemoryStub]]:
        client = GrpcClient(f"127.0.0.1:{self.grpc_port}")
        try:
            yield client, memory_pb2_grpc.MemoryStub(client.channel)
        finally:
            await client.close()

    async def search(self, query: str) -> list[tuple[str, str, float]]:
        async with self.rpc() as (client, stub):
            answer = await client.call(stub.GetRAGContext, pb.GetRAGContextRequest(query=query, top_k=9), timeout_s=10)
        return [(match.source, match.text, round(match.score, 4)) for match in answer.matches]


Start = Callable[..., MemoryProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    base = tmp_path / "knowledge_bases"
    (base / "Domain-KB").mkdir(parents=True)
    (base / "Soul-KB").mkdir()
    (base / "Soul-KB" / "me.md").write_text("I am the test.")
    for i in range(PLANTS):
        body = f"# Plant {i}\n\nPlant number{i} needs {i} litres of water.\n\n## Soil\n\nMix {i} of sand."
        (base / "Domain-KB" / f"plant{i:02}.md").write_text(body)
    started: list[MemoryProcess] = []

    def begin(**variables: str) -> MemoryProcess:
        started.append(MemoryProcess(tmp_path, **variables))
        return started[-1]

    yield begin
    for memory in started:
        if memory.process.poll() is None:
            memory.process.kill()
            memory.process.wait()


@pytest.fixture
def memory_service(start: Start) -> tuple[Start, Callable[[MemoryProcess, str], list[tuple[str, str, float]]]]:
    """Starts a service and waits for it; searches."""

    def ready(**variables: str) -> MemoryProcess:
        memory = start(**variables)
        memory.wait_for(memory.ready)
        return memory

    return ready, lambda memory, query: asyncio.run(memory.search(query))
