"""Which embedder there is, and how one takes over from another at a start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import Protocol

from pagi_chassis.errors import PagiError

from pagi_memory.adapters.endpoint_embedder import EndpointEmbedder
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.torch_embedder import TorchEmbedder
from pagi_memory.domain.ports import Embedder, PassageStore
from pagi_memory.domain.reembedding import Reembedding
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.settings import MemorySettings

log = logging.getLogger(__name__)

_RETRY_S = 30.0
_ENDPOINT = re.compile(r"(?P<model>.*)@(?P<url>https?://.*)", re.DOTALL)


class RunningEmbedder(Embedder, Protocol):
    """An embedder that holds something open."""

    async def start(self) -> None:
        """Opens it."""

    async def stop(self) -> None:
        """Closes it."""


def embedder_of(settings: MemorySettings) -> RunningEmbedder:
    """The embedder that the settings name, not started."""
    model = settings.embedding_model_name
    match settings.embedding_backend:
        case "onnx":
            return OnnxEmbedder()
        case "sentence-transformers":
            return TorchEmbedder(model)
        case "openai":
            return EndpointEmbedder(settings.embedding_base_url, model, api_key=settings.embedding_api_key)


def embedder_of_identity(identity: str, settings: MemorySettings) -> RunningEmbedder:
    """The embedder that made vectors of this identity, not started."""
    if identity == OnnxEmbedder.identity:
        return OnnxEmbedder()
    # A folder's name may hold an "@" too.
    if endpoint := _ENDPOINT.fullmatch(identity):
        return EndpointEmbedder(endpoint["url"], endpoint["model"], api_key=settings.embedding_api_key)
    return TorchEmbedder(identity)


class EmbeddingStart:
    """A component: starts the embedder; where the stored vectors are another's, that one serves until they are made."""

    def __init__(
        self,
        settings: MemorySettings,
        embedder: RunningEmbedder,
        store: PassageStore,
        serving: ServingModel,
        reembedding: Reembedding,
        *,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._settings = settings
        self._retry_s = retry_s
        self._embedder = embedder
        self._store = store
        self._serving = serving
        self._reembedding = reembedding
        self._old: RunningEmbedder | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts what serves, and a change of the model in the background.

        Raises:
            WeightsError: The files of the carried model are not right.
            EmbeddingUnavailableError: The embedder's package or model is not there.
        """
        await self._embedder.start()
        stored = await self._store.serving_model()
        if stored == self._embedder.identity:
            return
        if not stored or not await self._store.counts():
            await self._store.serve_model(self._embedder.identity)
            return
        old = embedder_of_identity(stored, self._settings)
        try:
            await old.start()
            # An endpoint tells only when it is asked.
            await old.embed(["?"])
        except PagiError as error:
            log.warning("%s cannot serve any more (%s): all is embedded anew before the start", stored, error)
            await old.stop()
            await self._store.forget_documents()
            await self._store.serve_model(self._embedder.identity)
            return
        self._old = old
        self._serving.use(old)
        self._task = asyncio.create_task(self._take_over(), name="reembedding")

    async def stop(self) -> None:
        """Ends a change that goes on, which the next start takes up again."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._old:
            await self._old.stop()
        await self._embedder.stop()

    async def _take_over(self) -> None:
        while True:
            try:
                await self._reembedding.run(self._embedder)
                return
            except PagiError as error:
                log.warning("%s; the old model serves, again in %.0f s", error, self._retry_s)
            except Exception:
                # Nobody waits for this task: said here or nowhere.
                log.exception("embedding anew failed; the old model serves, again in %.0f s", self._retry_s)
            await asyncio.sleep(self._retry_s)
