"""The variables of the memory service."""

import re
from pathlib import Path
from typing import Literal, Self

from pagi_chassis.settings import ServiceSettings
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

ONNX_MODEL = "all-MiniLM-L6-v2"


class MemorySettings(ServiceSettings):
    """Read once at the start."""

    memory_port: int = Field(
        default=8003, ge=0, le=65535, description="HTTP port of memory: health, metrics, /memory/latest."
    )
    memory_grpc_port: int = Field(default=50052, ge=0, le=65535, description="gRPC port of memory.")
    knowledge_bases_dir: Path = Field(
        default=Path("knowledge_bases"), description="Folder of the knowledge bases, read at every start and watched."
    )
    heart_db_path: Path = Field(
        default=Path("data/heart.db"), description="SQLite file of sessions and turns (Heart-KB)."
    )
    memory_db_path: Path = Field(
        default=Path("data/memory.db"),
        description="SQLite file of documents, passages and vectors; made again from the knowledge bases when lost.",
    )
    chroma_host: str = Field(
        default="", description="Host of a Chroma server. Empty: Chroma runs inside the memory service."
    )
    chroma_port: int = Field(default=8000, ge=1, le=65535, description="Port of the Chroma server.")
    chroma_path: Path = Field(
        default=Path("data/chroma"),
        description="Folder of the Chroma that runs inside the memory service; made again when lost.",
    )
    knowledge_bases_watch: bool = Field(
        default=True, description="Take in what changes in the folders while the service runs."
    )
    knowledge_bases_editors: str = Field(
        default="",
        description="Tenants that may change documents, with commas; * for all. Who has no tenant always may.",
    )
    embedding_backend: Literal["onnx", "sentence-transformers", "openai"] = Field(
        default="onnx",
        description="What computes embeddings: onnx (carried in the package, works offline), sentence-transformers "
        "(an extra of the package), openai (any endpoint of that form).",
    )
    embedding_model_name: str = Field(
        default=ONNX_MODEL,
        description=f"Embedding model. The onnx backend carries {ONNX_MODEL}. A change embeds anew in the background.",
    )
    embedding_base_url: str = Field(
        default="", description="Endpoint of EMBEDDING_BACKEND=openai, e.g. http://localhost:11434/v1."
    )
    embedding_api_key: str = Field(default="", description="Key of the embedding endpoint. Empty: none is sent.")
    chunk_tokens: int = Field(
        default=254,
        ge=32,
        le=254,
        description="Most tokens of a passage with its headings, 32 to 254: the embedding model reads no more.",
    )
    max_document_bytes: int = Field(
        default=10_000_000, ge=1, description="A larger file in the knowledge bases is named in the log and skipped."
    )
    retrieval_top_k: int = Field(
        default=5, ge=1, le=100, description="Passages given when a caller does not say how many, 1 to 100."
    )
    retrieval_lexical_weight: float = Field(
        default=0.5, ge=0, le=1, description="Share of words (BM25) against meaning (vectors) in the score, 0 to 1."
    )
    retrieval_candidates: int = Field(
        default=50, ge=1, le=1000, description="Candidates of each kind of search that are joined, 1 to 1000."
    )
    retrieval_title_weight: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Weight of a word in the headings against one in the text (BM25), 0 to 10.",
    )
    retrieval_max_tokens: int = Field(
        default=8_000, ge=1, le=1_000_000, description="Most tokens of all passages of an answer together."
    )
    retrieval_quotas: str = Field(
        default="", description="Most passages of a knowledge base in an answer, e.g. Body-KB=2,Mind-KB=1. Empty: any."
    )
    retrieval_min_similarity: float = Field(
        default=0.2,
        ge=-1,
        le=1,
        description="A passage that shares no word with the query is given only above this cosine, -1 to 1.",
    )
    history_max_turns: int = Field(
        default=20, ge=1, le=1000, description="Turns given when a caller does not say how many, 1 to 1000."
    )
    history_max_tokens: int = Field(
        default=3_000,
        ge=1,
        le=1_000_000,
        description="Most tokens of all turns of a context together, at four bytes a token; older ones are summed up.",
    )
    history_summary_tokens: int = Field(
        default=400, ge=50, le=10_000, description="Most tokens of the rolling summary of older turns, 50 to 10000."
    )
    heart_database_url: str = Field(
        default="",
        description="PostgreSQL for sessions, turns and playbooks, e.g. postgresql://user:password@host/heart. "
        "Empty: the file HEART_DB_PATH. Needs the extra pagi-memory[postgresql].",
    )
    heart_retention_days: int = Field(
        default=0, ge=0, le=36_500, description="A session in which nothing was said so long is forgotten; 0: never."
    )
    heart_max_sessions: int = Field(
        default=0, ge=0, description="The newest so many sessions of a tenant are kept; 0: all."
    )
    heart_max_turns: int = Field(
        default=0, ge=0, description="The newest so many turns of a session are kept; 0: all. Its summary stays."
    )
    summary_gateway_addr: str = Field(
        default="",
        validation_alias=AliasChoices("SUMMARY_GATEWAY_ADDR", "MODEL_GATEWAY_ADDR"),
        description="gRPC address of the model-gateway whose model sums up older turns. Empty: they are condensed "
        "without a model.",
    )
    summary_model: str = Field(default="", description="Model that sums up older turns. Empty: the gateway's default.")
    mind_max_playbooks: int = Field(
        default=200, ge=1, le=10_000, description="Playbooks kept for a persona of a tenant; the least worthy give way."
    )
    mind_min_relevance: float = Field(
        default=0.5,
        ge=-1,
        le=1,
        description="A playbook is given to a run only above this cosine of the tasks, -1 to 1.",
    )
    pagi_api_key: SecretStr = Field(
        default=SecretStr(""), description="Where set, requests need it as X-API-Key or as a bearer token."
    )
    query_cache_size: int = Field(default=1024, ge=0, description="Query embeddings kept in memory, 1.5 KB each.")

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        if self.embedding_backend == "onnx" and self.embedding_model_name != ONNX_MODEL:
            raise ValueError(
                f"EMBEDDING_MODEL_NAME: EMBEDDING_BACKEND=onnx carries {ONNX_MODEL} only "
                f"(it is {self.embedding_model_name!r})"
            )
        if self.embedding_backend == "openai" and not self.embedding_base_url.startswith(("http://", "https://")):
            raise ValueError("EMBEDDING_BASE_URL: EMBEDDING_BACKEND=openai needs a URL that starts with http(s)://")
        return self

    @field_validator("retrieval_quotas")
    @classmethod
    def _readable_quotas(cls, value: str) -> str:
        for part in filter(None, value.split(",")):
            if not re.fullmatch(r"\s*(Domain|Body|Mind)-KB=[1-9][0-9]{0,2}\s*", part):
                raise ValueError("give knowledge bases with numbers, such as Body-KB=2,Mind-KB=1")
        return value

    @property
    def quotas(self) -> dict[str, int]:
        """`RETRIEVAL_QUOTAS` by the names of the knowledge bases."""
        parts = [part.strip().split("=") for part in self.retrieval_quotas.split(",") if part.strip()]
        return {name: int(most) for name, most in parts}

    @field_validator("heart_database_url")
    @classmethod
    def _postgres_url(cls, value: str) -> str:
        if value and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("give a URL that starts with postgresql://")
        return value

    @property
    def editors(self) -> list[str]:
        """`KNOWLEDGE_BASES_EDITORS` one by one."""
        return [tenant.strip() for tenant in self.knowledge_bases_editors.split(",") if tenant.strip()]
