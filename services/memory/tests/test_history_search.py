"""A search of one's own history, by words and by meaning: with the carried model, and with what can fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.domain.errors import EmbeddingUnavailableError
from pagi_memory.domain.history import History
from pagi_memory.domain.model import Turn, TurnRole
from pagi_memory.domain.query_vectors import QueryVectors
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.session import TurnHit
from pagi_memory.domain.sessions import Sessions
from pagi_memory.testing import HashingEmbedder, InMemorySessionStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

# What was asked, what was answered, and how somebody looks for it later: half of them in other words.
SAID = [
    ("How long do I boil eggs so that the yolk stays soft?", "Six minutes.", "cooking time of breakfast eggs"),
    ("Book a table for four at the Italian place on Friday.", "Done, at seven.", "dinner reservation"),
    ("My laptop does not charge any more.", "Try another cable first.", "computer battery trouble"),
    ("Which visa do I need for Japan?", "None for up to 90 days.", "travel documents for Tokyo"),
    ("Write a poem about autumn leaves.", "Red they fall, and slow.", "verses on the fall season"),
    ("What is the capital of Mongolia?", "Ulaanbaatar.", "capital of Mongolia"),
    ("Remind me to call the dentist on Tuesday.", "I will.", "appointment for my teeth"),
    ("Summarise the quarterly sales figures.", "They rose by 4 %.", "quarterly sales"),
    ("How do I remove red wine from a carpet?", "Salt, then cold water.", "stain on the rug"),
    ("Convert 30 miles to kilometres.", "48.3.", "30 miles in kilometres"),
    ("Who wrote the Magic Mountain?", "Thomas Mann.", "author of a German novel"),
    ("My puppy chews on my shoes.", "Offer a toy instead.", "dog bites footwear"),
    ("Explain compound interest to a child.", "Money that earns money.", "how savings grow"),
    ("Which exercises help against back pain?", "Short walks, and stretching.", "workout for a sore spine"),
    ("Fix the failing unit test in the parser.", "The comma was missing.", "failing parser test"),
    ("Plan a week of vegetarian dinners.", "Here are seven.", "meatless meals"),
    ("How far is the moon from the earth?", "384,400 kilometres.", "distance to the moon"),
    ("Translate good morning into Spanish.", "Buenos dias.", "greeting in Spanish"),
    ("What should I plant in a shady garden?", "Ferns and hostas.", "flowers for a dark backyard"),
    ("Draft a letter to my landlord about the heating.", "Dear Sir or Madam.", "complaint that the flat is cold"),
]


async def remembered(vectors: QueryVectors, store: InMemorySessionStore) -> None:
    history = History(store, vectors=vectors)
    for i, (asked, answered, _) in enumerate(SAID):
        await vectors.of(asked)  # as GetContext does
        at = NOON + timedelta(hours=i)
        turns = [Turn(TurnRole.USER, asked, f"r{i}", 0, at), Turn(TurnRole.ASSISTANT, answered, f"r{i}", 1, at)]
        await history.append("", f"s{i % 3}", persona="", turns=turns)


def rank(hits: Sequence[TurnHit], run: str) -> int:
    return next((place for place, hit in enumerate(hits, 1) if hit.turn.run_id == run), 0)


async def test_both_kinds_of_search_find_more_than_words_alone(embedder: OnnxEmbedder) -> None:
    serving, store = ServingModel(embedder), InMemorySessionStore()
    vectors = QueryVectors(serving, size=99)
    await remembered(vectors, store)
    gains = {}
    for name, sessions in (("words", Sessions(store)), ("both", Sessions(store, vectors=vectors, model=serving))):
        ranks = [rank(await sessions.search("", looked), f"r{i}") for i, (_, _, looked) in enumerate(SAID)]
        gains[name] = sum(1 / math.log2(place + 1) for place in ranks if place) / len(SAID)
    # .40 and .83 when the weight was chosen.
    assert gains["both"] > gains["words"] + 0.25
    assert gains["both"] > 0.75


@pytest.fixture
async def fakes() -> tuple[HashingEmbedder, Sessions]:
    fake, store = HashingEmbedder(), InMemorySessionStore()
    serving = ServingModel(fake)
    vectors = QueryVectors(serving, size=99)
    await remembered(vectors, store)
    return fake, Sessions(store, vectors=vectors, model=serving)


async def test_a_match_says_why_it_was_chosen(fakes: tuple[HashingEmbedder, Sessions]) -> None:
    _, sessions = fakes
    best = (await sessions.search("", "capital of Mongolia"))[0]
    assert best.turn.text == "What is the capital of Mongolia?"
    assert best.parts
    assert (best.parts.dense_rank, best.parts.lexical_rank, best.parts.dense) == (1, 1, 1)
    assert best.score == pytest.approx(0.6 * best.parts.lexical + 0.4 * best.parts.dense)
    assert best.parts.cosine > 0.5
    assert best.matched_words == ["capital", "mongolia"]
    assert len(await sessions.search("", "capital of Mongolia", limit=1)) == 1
    assert await sessions.search("", " ") == []


async def test_nothing_is_embedded_when_turns_are_stored() -> None:
    fake, store = HashingEmbedder(), InMemorySessionStore()
    vectors = QueryVectors(ServingModel(fake), size=99)
    await History(store, vectors=vectors).append(
        "", "s", persona="", turns=[Turn(TurnRole.USER, "never asked before", "r", 0, NOON)]
    )
    assert fake.embedded == []


async def test_without_the_model_words_alone_are_searched(
    fakes: tuple[HashingEmbedder, Sessions], caplog: pytest.LogCaptureFixture
) -> None:
    fake, sessions = fakes

    async def gone(texts: object) -> None:
        raise EmbeddingUnavailableError("the endpoint is away")

    fake.embed = gone
    assert (await sessions.search("", "Mongolia"))[0].turn.run_id == "r5"
    assert "by words alone: the endpoint is away" in caplog.text
