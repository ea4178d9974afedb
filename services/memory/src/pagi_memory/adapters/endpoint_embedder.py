"""Embeddings from an endpoint of the OpenAI form: `POST <base>/embeddings`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagi_memory.domain.errors import EmbeddingUnavailableError

if TYPE_CHECKING:
    import httpx

    from pagi_memory.domain.model import Matrix, Vector

_BATCH = 64
_TIMEOUT_S = 30.0
_TRIES = 3
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 10.0


class EndpointEmbedder:
    """`Embedder` by HTTP; see https://platform.openai.com/docs/api-reference/embeddings for the form."""

    def __init__(
        self, base_url: str, model: str, *, api_key: str = "", transport: httpx.AsyncBaseTransport | None = None
    ):
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._api_key = api_key
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        # With the endpoint: another one may serve something else by the same name.
        self.identity = f"{model}@{self._base_url}"

    async def start(self) -> None:
        """Prepares the client; the endpoint is asked when there is something to embed."""
        # Imported here: only this backend needs it, 60 ms of CPU.
        import httpx

        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers, transport=self._transport)

    async def stop(self) -> None:
        """Closes the connections."""
        if self._client:
            await self._client.aclose()
            self._client = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed`.

        Raises:
            EmbeddingUnavailableError: The endpoint does not answer, refuses, or answers something else.
        """
        vectors: list[Vector] = []
        for begin in range(0, len(texts), _BATCH):
            vectors += await self._embed_batch(list(texts[begin : begin + _BATCH]))
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`."""
        [vector] = await self.embed([text])
        return vector

    async def _embed_batch(self, texts: list[str]) -> list[Vector]:
        # An empty input is refused by most endpoints.
        body = {"model": self._model, "input": [text or " " for text in texts], "encoding_format": "float"}
        answer = await self._post(body)
        try:
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            return _unit_vectors([row["embedding"] for row in rows], len(texts))
        except (ValueError, KeyError, TypeError) as error:
            raise self._unavailable(f"answers something else than embeddings ({error})") from error

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        import httpx

        assert self._client, "start() was not called"
        reason = ""
        for attempt in range(_TRIES):
            try:
                answer = await self._client.post(f"{self._base_url}/embeddings", json=body)
            except httpx.HTTPError as error:
                reason, wait_s = f"does not answer ({type(error).__name__}: {error})", 0.5 * 2**attempt
            else:
                if answer.is_success:
                    return answer
                reason = f"answers {answer.status_code}: {answer.text[:200]}"
                if answer.status_code not in _BUSY:
                    break
                wait_s = _retry_after_s(answer, 0.5 * 2**attempt)
            if attempt + 1 < _TRIES:
                await asyncio.sleep(wait_s)
        raise self._unavailable(reason)

    def _unavailable(self, reason: str) -> EmbeddingUnavailableError:
        return EmbeddingUnavailableError(
            f"The embedding endpoint {self._base_url} {reason}. See EMBEDDING_BASE_URL, EMBEDDING_MODEL_NAME and "
            "EMBEDDING_API_KEY."
        )


def _retry_after_s(answer: httpx.Response, default: float) -> float:
    try:
        asked = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return default
    return default if math.isnan(asked) else min(max(asked, 0.0), _LONGEST_WAIT_S)


def _unit_vectors(rows: list[list[float]], count: int) -> list[Vector]:
    import numpy as np

    with np.errstate(over="ignore"):  # what is too large for float32 is told below
        matrix: Matrix = np.array(rows, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != count or not np.isfinite(matrix).all():
        raise ValueError(f"{len(rows)} vectors for {count} texts, or of unlike lengths, or not finite")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return list(matrix / np.where(lengths > 0, lengths, 1))
