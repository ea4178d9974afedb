"""The vector index in Chroma: one collection for each knowledge base of each persona.

A collection of its own and not a metadata filter: a filter was measured at 100 ms with 100,000 passages, a
collection at 2.7 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pagi_memory.adapters.chroma_clients import ChromaSource
from pagi_memory.domain.errors import IndexUnavailableError
from pagi_memory.domain.model import Hit, Shelf

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

    from pagi_memory.domain.model import Vector

R = TypeVar("R")


class ChromaIndex:
    """`VectorIndex`. Vectors are ours: Chroma's own embedder would download a model."""

    def __init__(self, source: ChromaSource) -> None:
        self._source = source
        # Its calls block; threads keep the event loop free.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="chroma")
        # Whether it answers must not be asked behind all that it has to answer.
        self._watch = ThreadPoolExecutor(1, thread_name_prefix="chroma-health")
        self._client: Client | None = None
        self._collections: dict[Shelf, Collection] = {}

    async def start(self) -> None:
        """Opens the index.

        Raises:
            IndexInUseError: Another process owns the folder.
            IndexUnavailableError: The server does not answer.
        """
        await asyncio.get_running_loop().run_in_executor(self._threads, self._open)

    async def stop(self) -> None:
        """Finishes what was asked for and lets the index go."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._watch.shutdown)
        await asyncio.to_thread(self._source.close)
        self._collections.clear()

    async def check_health(self) -> None:
        """Does nothing where the index answers.

        Raises:
            IndexUnavailableError: It does not.
        """
        await self._ask(lambda client: client.heartbeat(), self._watch)

    async def shelves(self) -> list[Shelf]:
        """See `VectorIndex.shelves`."""
        return list(self._collections)

    async def count(self, shelf: Shelf) -> int | None:
        """See `VectorIndex.count`."""
        if shelf not in self._collections:
            return 0
        try:
            return await self._ask(lambda _: _readable_count(self._collections[shelf]))
        except IndexUnavailableError:
            return None

    async def entries(self, shelf: Shelf) -> set[str]:
        """See `VectorIndex.entries`."""

        def ids(_: Client) -> set[str]:
            collection = self._collections.get(shelf)
            return set(collection.get(include=[])["ids"]) if collection else set()

        return await self._ask(ids)

    def outdate(self, shelf: Shelf) -> None:
        """Does nothing: no vector is kept beside the index."""

    async def is_asked(self, shelf: Shelf) -> bool:
        """See `VectorIndex.is_asked`."""
        return True

    async def clear(self, shelf: Shelf) -> None:
        """See `VectorIndex.clear`."""
        if self._collections.pop(shelf, None) is None:
            return
        try:
            await self._ask(lambda client: client.delete_collection(shelf.collection))
        except IndexUnavailableError:
            await self._ask(lambda _: self._use(self._source.renew()))

    async def apply(self, shelf: Shelf, changes: Mapping[str, Vector | None]) -> None:
        """See `VectorIndex.apply`."""
        learned = {passage_id: vector for passage_id, vector in changes.items() if vector is not None}
        forgotten = [passage_id for passage_id, vector in changes.items() if vector is None]

        def change(client: Client) -> None:
            if learned:
                self._upsert(client, shelf, learned)
            if forgotten and shelf in self._collections:
                self._collections[shelf].delete(ids=forgotten)

        await self._ask(change)

    async def nearest(self, vector: Vector, shelves: Sequence[Shelf], limit: int) -> list[Hit]:
        """See `VectorIndex.nearest`."""

        def query(_: Client) -> list[Hit]:
            hits = []
            for shelf in shelves:
                if collection := self._collections.get(shelf):
                    hits += _nearest(collection, vector, limit)
            return sorted(hits, key=lambda hit: -hit.score)[:limit]

        return await self._ask(query)

    def _upsert(self, client: Client, shelf: Shelf, learned: Mapping[str, Vector]) -> None:
        vectors: list[Any] = list(learned.values())  # narrower than what the package declares
        try:
            # upsert: add() leaves an id that it knows as it is, without a word.
            self._collection(client, shelf).upsert(ids=list(learned), embeddings=vectors)
        except Exception as error:
            # Of a model with vectors of another length: nothing in it can be of use any more.
            if "dimension" not in str(error):
                raise
            client.delete_collection(self._collections.pop(shelf).name)
            self._collection(client, shelf).upsert(ids=list(learned), embeddings=vectors)

    def _open(self) -> None:
        self._use(self._source.open())

    def _use(self, client: Client) -> None:
        self._client = client
        found = {Shelf.of_collection(collection.name): collection for collection in client.list_collections()}
        self._collections = {shelf: collection for shelf, collection in found.items() if shelf}

    def _collection(self, client: Client, shelf: Shelf) -> Collection:
        if shelf not in self._collections:
            self._collections[shelf] = client.get_or_create_collection(
                shelf.collection, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
        return self._collections[shelf]

    async def _ask(self, question: Callable[[Client], R], threads: ThreadPoolExecutor | None = None) -> R:
        def ask() -> R:
            assert self._client, "start() was not called"
            try:
                return question(self._client)
            except BaseException as error:
                # A damaged file makes the native code panic, which is no Exception; a server that is away
                # shows as an error of one of three HTTP libraries.
                if isinstance(error, KeyboardInterrupt | SystemExit | IndexUnavailableError):
                    raise
                raise IndexUnavailableError(f"The vector index cannot be used: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(threads or self._threads, ask)


def _readable_count(collection: Collection) -> int:
    """The count, after a search: a broken collection still counts and cannot be searched."""
    count = collection.count()
    if count:
        one = collection.get(limit=1, include=["embeddings"])["embeddings"]
        assert one is not None, "embeddings were asked for"
        _nearest(collection, one[0], 1)
    return count


def _nearest(collection: Collection, vector: Any, limit: int) -> list[Hit]:
    answer = collection.query(query_embeddings=[vector], n_results=limit, include=["distances"])
    distances = answer["distances"]
    assert distances is not None, "distances were asked for"
    # Cosine distance is 1 - cosine.
    return [Hit(i, 1 - distance) for i, distance in zip(answer["ids"][0], distances[0], strict=True)]
