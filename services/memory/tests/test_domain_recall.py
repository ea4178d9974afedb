from __future__ import annotations

import logging

import pytest
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_memory.domain.fusion import fuse
from pagi_memory.domain.model import Hit, KnowledgeBase
from pagi_memory.domain.words import MAX_WORDS, query_words


def texts(found: list) -> list[str]:
    return [scored.passage.piece.text for scored in found]


def test_fusion_scales_each_kind_and_weighs_them() -> None:
    dense = [Hit("a", 0.9), Hit("b", 0.5), Hit("c", 0.1)]
    lexical = [Hit("b", 7.0), Hit("d", 3.0)]
    fused = list(fuse(dense, lexical, lexical_weight=0.6))
    assert [(hit.passage_id, round(hit.score, 6)) for hit in fused] == [("b", 0.8), ("a", 0.4), ("c", 0.0), ("d", 0.0)]
    assert (fused[0].dense, fused[0].lexical) == (pytest.approx(0.5), 1.0)


def test_fusion_tells_of_each_in_order_and_equals_by_their_ids() -> None:
    dense = [Hit("b", 0.9), Hit("a", 0.9), Hit("c", 0.5)]
    lexical = [Hit("c", 8.0), Hit("d", 4.0)]
    ranked = list(fuse(dense, lexical, lexical_weight=0.5))
    assert [(hit.passage_id, hit.score) for hit in ranked] == [("a", 0.5), ("b", 0.5), ("c", 0.5), ("d", 0.0)]
    rest = list(fuse(dense, lexical, lexical_weight=0.5, without={"b", "c"}))
    assert rest == [hit for hit in ranked if hit.passage_id in ("a", "d")], "the others are scaled as before"
    places = {hit.passage_id: (hit.dense_rank, hit.lexical_rank, hit.cosine, hit.bm25) for hit in ranked}
    assert places == {"b": (1, 0, 0.9, 0), "a": (2, 0, 0.9, 0), "c": (3, 1, 0.5, 8.0), "d": (0, 2, 0, 4.0)}


def test_fusion_of_one_candidate_gives_it_full_marks() -> None:
    [hit] = fuse([Hit("a", 0.2)], [], lexical_weight=0.6)
    assert (hit.dense, hit.lexical, hit.score) == (1.0, 0.0, pytest.approx(0.4))


def test_query_words_leave_out_stop_words_and_repeats_and_have_a_bound() -> None:
    assert query_words("What IS the dog's dog-food?") == ["dog", "food"]
    assert query_words("the of and") == []
    assert len(query_words(" ".join(f"w{i}" for i in range(500)))) == MAX_WORDS


async def test_finds_what_is_asked_and_says_why(mind) -> None:
    await mind.ingestion.run()
    found = await mind.recall.search("how long does green tea steep")
    assert texts(found)[0] == "Green tea steeps three minutes."
    best = found[0]
    assert best.passage.source == "Domain-KB/tea.md"
    assert best.score == pytest.approx(0.5 * best.lexical + 0.5 * best.dense)
    assert best.lexical == max(scored.lexical for scored in found) > 0
    assert 0.9 < best.dense <= 1
    assert [scored.score for scored in found] == sorted((s.score for s in found), reverse=True)


async def test_searches_only_the_persona_and_the_knowledge_bases_asked_for(mind) -> None:
    await mind.ingestion.run()
    assert texts(await mind.recall.search("walks at seven", persona="dog")) == ["Walks are at seven."]
    assert await mind.recall.search("walks at seven") == []
    assert await mind.recall.search("kettle", knowledge_bases=[KnowledgeBase.DOMAIN]) == []
    assert texts(await mind.recall.search("kettle", knowledge_bases=[KnowledgeBase.BODY])) != []


async def test_the_soul_is_never_searched(mind) -> None:
    await mind.ingestion.run()
    assert "I am the assistant." not in texts(await mind.recall.search("I am the assistant", top_k=100))
    with pytest.raises(InvalidArgumentError) as caught:
        await mind.recall.search("x", knowledge_bases=[KnowledgeBase.SOUL])
    assert caught.value.field == "knowledge_bases"


async def test_unrelated_passages_are_left_out(mind) -> None:
    await mind.ingestion.run()
    assert await mind.recall.search("quantum chromodynamics") == []


@pytest.mark.parametrize("query", ["", "  \n"])
async def test_an_empty_query_finds_nothing_and_embeds_nothing(mind, query: str) -> None:
    await mind.ingestion.run()
    before = len(mind.embedder.embedded)
    assert await mind.recall.search(query) == []
    assert len(mind.embedder.embedded) == before


@pytest.mark.parametrize("top_k", [-1, 101, 10_000])
async def test_top_k_has_bounds(mind, top_k: int) -> None:
    with pytest.raises(InvalidArgumentError, match="between 1 and 100") as caught:
        await mind.recall.search("tea", top_k=top_k)
    assert caught.value.field == "top_k"


async def test_a_query_has_a_bound(mind) -> None:
    await mind.recall.search("x" * 32_768)
    with pytest.raises(InvalidArgumentError, match="32769") as caught:
        await mind.recall.search("x" * 32_769)
    assert caught.value.field == "query"


async def test_an_unknown_persona_is_told_the_known_ones(mind) -> None:
    await mind.ingestion.run()
    with pytest.raises(NotFoundError, match=r"'cat'.*default, dog"):
        await mind.recall.search("tea", persona="cat")
    assert texts(await mind.recall.search("tea", persona="default")) == texts(await mind.recall.search("tea"))


async def test_a_repeated_query_is_embedded_once_while_it_is_kept(mind) -> None:
    await mind.ingestion.run()
    mind.embedder.embedded.clear()
    for query in ["tea", "tea", "dog", "tea", "kettle", "dog"]:
        await mind.recall.search(query)
    # Two are kept: "dog" was the one used longest ago when "kettle" came.
    assert mind.embedder.embedded == ["tea", "dog", "kettle", "dog"]


async def test_with_the_index_down_words_alone_answer(mind, caplog: pytest.LogCaptureFixture) -> None:
    await mind.ingestion.run()
    mind.index.down = True
    with caplog.at_level(logging.WARNING):
        found = await mind.recall.search("green tea")
    assert texts(found)[0] == "Green tea steeps three minutes."
    assert "words alone" in caplog.text


async def test_a_passage_that_only_the_index_knows_is_not_given(mind) -> None:
    await mind.ingestion.run()
    await mind.store.remove("Domain-KB/tea.md")
    assert all(s.passage.source != "Domain-KB/tea.md" for s in await mind.recall.search("green tea", top_k=100))


async def test_a_context_holds_soul_turns_and_passages(mind) -> None:
    await mind.ingestion.run()
    context = await mind.context.gather("", "s", query="walks", persona="dog")
    assert context.soul == "I am Rex."
    assert context.turns == []
    assert texts(context.passages) == ["Walks are at seven."]
    with pytest.raises(NotFoundError):
        await mind.context.gather("", "s", query="", persona="nobody")
