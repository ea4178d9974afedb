"""Queries that run together: each gets its own vector, in its turn, and none waits for what is unlike it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.query_batches import QueryBatches


class Model:
    """A token for each character; a vector is the text again. The first run waits until it may go on."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.ran: list[list[str]] = []
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.queries = QueryBatches(self.thread, self.tokens, self.run)

    def tokens(self, text: str) -> list[int]:
        if text == "untold":
            raise ValueError("no text")
        return [ord(character) for character in text]

    def run(self, rows: Sequence[list[int]]) -> list[str]:
        texts = ["".join(map(chr, row)) for row in rows]
        self.ran.append(texts)
        self.begun.set()
        assert self.goes_on.wait(10)
        if "broken" in texts:
            raise OSError("no model")
        return texts

    async def ask(self, *texts: str, meanwhile: Callable[[list[asyncio.Task[str]]], None] = lambda _: None) -> list:
        """Asks while the first run is under way."""
        first = asyncio.create_task(self.queries.embed("first"))
        await asyncio.to_thread(self.begun.wait)
        tasks = [asyncio.create_task(self.queries.embed(text)) for text in texts]
        await asyncio.sleep(0)
        meanwhile(tasks)
        self.goes_on.set()
        assert await first == "first"
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    model = Model()
    yield model
    model.goes_on.set()
    await asyncio.to_thread(model.thread.shutdown)


async def test_those_that_wait_run_together_and_each_gets_its_own(model: Model) -> None:
    texts = [f"query {i}" for i in range(6)]
    assert await model.ask(*texts) == texts
    assert model.ran == [["first"], texts[:4], texts[4:]]
    assert await model.queries.embed("alone") == "alone", "it begins again after a rest"


async def test_unlike_lengths_do_not_run_together_and_none_is_passed_over(model: Model) -> None:
    texts = ["a" * 3, "b" * 50, "c" * 7, "d" * 8, "e" * 46, "f" * 40, "g" * 200, "h" * 200]
    assert await model.ask(*texts) == texts
    assert [[text[0] for text in some] for some in model.ran[1:]] == [
        ["a", "c"],
        ["b", "e"],
        ["d"],
        ["f"],
        ["g"],
        ["h"],
    ]


class AtOnce(Executor):
    """A thread that has ended its work before anybody hears of it."""

    def submit(self, function: Callable[..., None], /, *arguments: object) -> Future[None]:
        future: Future[None] = Future()
        future.set_result(function(*arguments))
        return future


async def test_one_that_asks_just_after_the_thread_had_looked_for_the_last_time_is_answered(model: Model) -> None:
    model.goes_on.set()
    queries = QueryBatches(AtOnce(), model.tokens, model.run)
    async with asyncio.timeout(10):
        assert await asyncio.gather(queries.embed("first"), queries.embed("just after")) == ["first", "just after"]
    assert model.ran == [["first"], ["just after"]]


async def test_a_failure_is_told_to_those_whom_it_concerns(model: Model) -> None:
    outcomes = await model.ask("broken", "untold", "with it", "x" * 30)
    assert [type(outcome) for outcome in outcomes] == [OSError, ValueError, OSError, str]
    assert await model.queries.embed("after") == "after"


async def test_who_has_gone_is_not_embedded(model: Model) -> None:
    outcomes = await model.ask("one", "two", "three", meanwhile=lambda tasks: tasks[1].cancel())
    assert (outcomes[0], outcomes[2]) == ("one", "three")
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert model.ran[1:] == [["one", "three"]]


async def test_after_the_end_it_says_so(model: Model) -> None:
    await asyncio.to_thread(model.thread.shutdown)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await model.queries.embed("late")


async def test_what_runs_together_has_the_vectors_that_it_has_alone(embedder: OnnxEmbedder) -> None:
    texts = [f"What do {i} kettles cost{' now' * (i % 5)}?" for i in range(24)]
    alone = [await embedder.embed_query(text) for text in texts]
    together = await asyncio.gather(*(embedder.embed_query(text) for text in texts))
    assert min(float(one @ other) for one, other in zip(alone, together, strict=True)) > 0.999_998
