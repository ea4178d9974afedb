"""Wires the memory service; a test may pass in any part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_options import MESSAGE_BYTES
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.health import Health
from pagi_chassis.http_server import HttpServer
from pagi_chassis.lifecycle import Component
from prometheus_client import Gauge

from pagi_memory.adapters.chroma_clients import ChromaServer, EmbeddedChroma
from pagi_memory.adapters.chroma_index import ChromaIndex
from pagi_memory.adapters.embedding_backends import EmbeddingStart, RunningEmbedder, embedder_of
from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.adapters.gateway_summarizer import GatewaySummarizer
from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.postgres_heart import PostgresHeart
from pagi_memory.adapters.semantic_splitter import SemanticSplitter
from pagi_memory.adapters.sql_playbook_vectors import SqlPlaybookVectors
from pagi_memory.adapters.sql_playbooks import SqlPlaybookStore
from pagi_memory.adapters.sql_script import SqlDatabase
from pagi_memory.adapters.sql_sessions import SqlSessionStore
from pagi_memory.adapters.sqlite_heart import SqliteHeart
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.adapters.wordpiece_tokens import WordPieceTokens
from pagi_memory.domain.condensing import Extract
from pagi_memory.domain.context import ContextAssembly
from pagi_memory.domain.documents import Documents
from pagi_memory.domain.following import Following
from pagi_memory.domain.history import History
from pagi_memory.domain.indexing import Indexing
from pagi_memory.domain.ingestion import Ingestion
from pagi_memory.domain.learning import Learning
from pagi_memory.domain.limits import Defaults
from pagi_memory.domain.mind_ledger import MindLedger
from pagi_memory.domain.model import KnowledgeBase, Shelf
from pagi_memory.domain.personas import Personas
from pagi_memory.domain.playbooks import Playbooks
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.recall import Recall, Weighing
from pagi_memory.domain.reembedding import Reembedding
from pagi_memory.domain.retention import Forgetting
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.session import Retention
from pagi_memory.domain.sessions import Sessions
from pagi_memory.domain.summaries import Summaries
from pagi_memory.domain.task_index import TaskIndex
from pagi_memory.routes.application import application
from pagi_memory.routes.knowledge import knowledge_routes
from pagi_memory.routes.playbooks import PlaybookRoutes
from pagi_memory.routes.sessions import SessionRoutes
from pagi_memory.servicer import SERVICE_NAME, MemoryServicer
from pagi_memory.settings import MemorySettings

PASSAGES = Gauge("pagi_memory_passages", "Searchable passages", ["persona", "knowledge_base"])
INGESTION_SECONDS = Gauge("pagi_memory_ingestion_duration_seconds", "Time that the ingestion at the start took")


async def build(
    settings: MemorySettings,
    *,
    embedder: RunningEmbedder | None = None,
    index: ChromaIndex | None = None,
    passages: SqlitePassageStore | None = None,
    heart: SqlDatabase | None = None,
) -> Sequence[Component]:
    """Makes the components in the order in which they start.

    The HTTP port comes first, so that a long first ingestion can be seen to live; gRPC comes when all is there.
    """
    index = index or ChromaIndex(_chroma(settings))
    embedder = embedder or embedder_of(settings)
    passages = passages or SqlitePassageStore(settings.memory_db_path, title_weight=settings.retrieval_title_weight)
    heart = heart or _heart(settings)
    sessions = SqlSessionStore(heart)
    defaults = _defaults(settings)
    personas = Personas(passages)
    summarizer = _summarizer(settings)
    summaries = Summaries(sessions, summarizer, defaults=defaults)
    serving = ServingModel(embedder)
    vectors = QueryVectors(serving, size=settings.query_cache_size)
    history = History(sessions, defaults=defaults, summaries=summaries, vectors=vectors)
    tasks_of = SqlPlaybookVectors(heart, lambda: serving.identity)
    searched = MatrixIndex(index, passages, mind=tasks_of)
    recall = Recall(
        passages,
        searched,
        vectors,
        serving,
        personas,
        weighing=_weighing(settings),
        defaults=defaults,
    )
    ledger = MindLedger(tasks_of, searched)
    indexing = Indexing(passages, searched, mind=ledger)
    tasks = TaskIndex(tasks_of, searched, ledger, indexing, serving)
    files = FolderKnowledge(settings.knowledge_bases_dir, max_bytes=settings.max_document_bytes)
    splitter = SemanticSplitter(WordPieceTokens().count, capacity=settings.chunk_tokens)
    ingestion = Ingestion(files, splitter, serving, passages, indexing, personas, count=_show_counts)
    reembedding = Reembedding(passages, serving, ingestion, indexing, playbooks=tasks_of)
    documents = Documents(files, passages, ingestion, personas, reembedding, editors=settings.editors)
    learned = SqlPlaybookStore(heart)
    playbooks = Playbooks(learned, tasks, vectors, serving, least_relevance=settings.mind_min_relevance)
    learning = Learning(learned, tasks, vectors, serving, most=settings.mind_max_playbooks)
    conversations = Sessions(sessions, vectors=vectors, model=serving)
    health = Health("memory")
    health.depends_on("chroma", index.check_health)
    if isinstance(heart, PostgresHeart):
        # Without it no run is given a context.
        health.depends_on("postgresql", heart.check_health, required=True)
    app = application(
        health,
        history,
        more=[
            *knowledge_routes(documents, recall),
            *SessionRoutes(history, conversations, playbooks).routes(),
            *PlaybookRoutes(playbooks).routes(),
        ],
        max_body_bytes=max(MESSAGE_BYTES, settings.max_document_bytes),
        api_key=settings.pagi_api_key.get_secret_value(),
    )
    http = HttpServer(app, settings.bind_host, settings.memory_port, port_variable="MEMORY_PORT")
    grpc = GrpcServer(
        settings.bind_host,
        settings.memory_grpc_port,
        tls=settings.server_tls,
        port_variable="MEMORY_GRPC_PORT",
    )
    context = ContextAssembly(personas, history, recall, playbooks)
    servicer = MemoryServicer(context, history, documents, conversations, playbooks, learning)
    grpc.add(memory_pb2_grpc.add_MemoryServicer_to_server, servicer, SERVICE_NAME)
    # The index comes before the stores: a second process is refused before it has opened anything.
    models = EmbeddingStart(settings, embedder, passages, serving, reembedding)
    stores: list[Component] = [index, passages, heart, models]
    following = [Following(files, ingestion)] if settings.knowledge_bases_watch else []
    remembering: list[Component] = [Forgetting(sessions, _retention(settings), learned), summaries]
    if isinstance(summarizer, GatewaySummarizer):
        remembering.insert(0, summarizer)
    return [http, *stores, *remembering, StartUpIngestion(ingestion), tasks, *following, grpc, health]


def _heart(settings: MemorySettings) -> SqlDatabase:
    if settings.heart_database_url:
        return PostgresHeart(settings.heart_database_url)
    return SqliteHeart(settings.heart_db_path)


def _summarizer(settings: MemorySettings) -> Extract | GatewaySummarizer:
    if settings.summary_gateway_addr:
        client = GrpcClient(settings.summary_gateway_addr, tls=settings.client_tls)
        return GatewaySummarizer(client, model=settings.summary_model)
    return Extract()


def _defaults(settings: MemorySettings) -> Defaults:
    return Defaults(
        top_k=settings.retrieval_top_k,
        max_turns=settings.history_max_turns,
        max_history_tokens=settings.history_max_tokens,
        summary_tokens=settings.history_summary_tokens,
    )


def _retention(settings: MemorySettings) -> Retention:
    return Retention(settings.heart_retention_days, settings.heart_max_sessions, settings.heart_max_turns)


def _chroma(settings: MemorySettings) -> ChromaServer | EmbeddedChroma:
    if settings.chroma_host:
        return ChromaServer(settings.chroma_host, settings.chroma_port)
    return EmbeddedChroma(settings.chroma_path)


def _weighing(settings: MemorySettings) -> Weighing:
    return Weighing(
        lexical_weight=settings.retrieval_lexical_weight,
        candidates=settings.retrieval_candidates,
        least_similarity=settings.retrieval_min_similarity,
        max_tokens=settings.retrieval_max_tokens,
        quotas={KnowledgeBase(name): most for name, most in settings.quotas.items()},
    )


def _show_counts(counts: Mapping[Shelf, int]) -> None:
    # A shelf that is gone leaves no figure behind.
    PASSAGES.clear()
    for shelf, count in counts.items():
        PASSAGES.labels(shelf.persona, shelf.knowledge_base.value).set(count)


class StartUpIngestion:
    """A component that brings everything in step with the files before anyone is served."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion

    async def start(self) -> None:
        """Ingests."""
        began = time.perf_counter()
        await self._ingestion.run()
        INGESTION_SECONDS.set(time.perf_counter() - began)

    async def stop(self) -> None:
        """Nothing is running any more."""
