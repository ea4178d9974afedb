from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_memory.domain.errors import StoreUnavailableError
from pagi_memory.domain.model import Shelf
from pagi_memory.domain.playbook import (
    NewPlaybook,
    Outcome,
    PlaybookState,
    PlaybookStep,
    RunRecord,
    RunResult,
    Trial,
    task_of,
    worth,
)
from pagi_memory.domain.serving_model import ServingModel
from pagi_memory.domain.task_index import TaskIndex
from pagi_memory.testing import HashingEmbedder, InMemoryVectorIndex

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Mind:
    """Playbooks over fakes, with a clock that goes on by a second at each look."""

    def __init__(self, playbooks_of: Callable[..., Any], **bounds: float) -> None:
        self.embedder = HashingEmbedder()
        self.now = NOON
        self.fakes = playbooks_of(self.embedder, now=self._tick, **bounds)
        self.playbooks, self.learning = self.fakes.playbooks, self.fakes.learning

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    async def learn(self, prompt: str, run: str = "r1", tool: str = "math", tenant: str = "", **more) -> str:
        steps = more.pop("steps", [PlaybookStep(tool, "{}", "ok")])
        made_id, _ = await self.learning.record(tenant, NewPlaybook(run, "", prompt, steps, **more))
        return made_id

    async def count(self, tenant: str, run: str, ids: Sequence[str], outcome: Outcome) -> int:
        return await self.learning.count_outcome(tenant, Trial(run, ids, outcome))

    async def fitting(self, query: str, tenant: str = "", **more) -> list[str]:
        found = await self.playbooks.fitting(tenant, query, persona="default", limit=9, **more)
        return [each.playbook.id for each in found]


@pytest.fixture
def mind_of(playbooks_of: Callable[..., Any]) -> Callable[..., Mind]:
    return partial(Mind, playbooks_of)


@pytest.fixture
def mind(mind_of: Callable[..., Mind]) -> Mind:
    return mind_of()


@pytest.mark.parametrize(
    ("wins", "losses", "bound"), [(0, 0, 0), (1, 0, 0.2065), (3, 0, 0.4385), (30, 0, 0.8865), (5, 5, 0.2366)]
)
def test_worth_is_the_lower_bound_of_wilson(wins: int, losses: int, bound: float):
    assert worth(wins, losses) == pytest.approx(bound, abs=1e-4)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@example(wins=0, losses=11)
def test_worth_is_a_share_that_wins_raise_and_losses_lower(wins: int, losses: int):
    assert 0 <= worth(wins, losses) <= 1
    assert worth(wins + 1, losses) >= worth(wins, losses)
    assert worth(wins, losses + 1) <= worth(wins, losses) + 1e-12
    assert worth(wins, losses) <= wins / (wins + losses) if wins + losses else True


def test_a_task_is_the_same_whatever_its_punctuation():
    assert task_of("What is 12*7?") == task_of("  what IS 12 * 7") != task_of("What is 12*8?")
    assert task_of("?!") == "?!"


async def test_the_same_task_again_updates_one_playbook(mind):
    first = await mind.learn("Add 1 and 2.", "r1", cost_usd=0.5)
    assert await mind.learn("add 1 AND 2", "r2", cost_usd=0.25) == first
    assert await mind.learning.record("", NewPlaybook("r2", "", "add 1 and 2", [PlaybookStep("x", "", "")])) == (
        first,
        False,
    )
    [playbook] = (await mind.playbooks.find("")).playbooks
    assert (playbook.wins, playbook.prompt, playbook.cost_usd) == (2, "add 1 AND 2", 0.25)


async def test_nearly_the_same_meaning_with_the_same_tools_is_the_same_task(mind_of):
    mind = mind_of(same_task=0.9)
    first = await mind.learn("convert seven large red files into nine small green tables quickly", "r1")
    near = "convert seven large red files into nine small green tables quickly today"
    assert await mind.learn(near, "r2", tool="shell") != first
    assert await mind.learn(near + " carefully", "r3") == first


async def test_those_set_aside_hide_none_that_is_active(mind):
    for i in range(70):
        # Each has a tool of its own: they are not one task.
        made = await mind.learn(f"sort the big red list {i}", f"r{i}", tool=f"tool{i}")
        await mind.playbooks.change("", made, state=PlaybookState.SET_ASIDE)
    active = await mind.learn("sort the big red list by length, quickly", "last", tool="shell")
    assert await mind.fitting("sort the big red list") == [active]


async def test_relevance_is_weighed_by_worth(mind_of):
    mind = mind_of(least_relevance=0.3)
    young = await mind.learn("boil green tea water", "r1")
    proven = await mind.learn("boil black tea water", "r2", tool="shell")
    for i in range(20):
        await mind.count("", f"w{i}", [proven], Outcome.WIN)
    assert await mind.fitting("boil green tea water") == [proven, young]
    assert await mind.fitting("feed the dog") == []
    assert await mind.fitting("") == []


async def test_one_that_keeps_losing_is_set_aside_and_can_be_restored(mind):
    losing = await mind.learn("boil tea")
    for i in range(5):
        counted = await mind.count("", f"l{i}", [losing, losing, "gone"], Outcome.LOSS)
        assert counted == 1
        assert await mind.count("", f"l{i}", [losing], Outcome.LOSS) == 0
        assert await mind.fitting("boil tea") == ([losing] if i < 2 else [])
    [aside] = (await mind.playbooks.find("", state=PlaybookState.SET_ASIDE)).playbooks
    assert aside.reason == "lost 3 of 4 runs"
    restored = await mind.playbooks.change("", losing, state=PlaybookState.ACTIVE)
    assert (restored.state, restored.wins, restored.losses, restored.reason) == (PlaybookState.ACTIVE, 1, 0, "")
    assert await mind.fitting("boil tea") == [losing]
    assert (await mind.playbooks.change("", losing, state=PlaybookState.SET_ASIDE)).reason == "set aside by hand"
    await mind.playbooks.forget("", losing)
    with pytest.raises(NotFoundError):
        await mind.playbooks.get("", losing)


async def test_one_whose_tools_have_changed_is_set_aside_until_its_task_succeeds_again(mind):
    versions = {"math": "1", "unused": "1"}
    made = await mind.learn("boil tea", tool_versions=versions)
    assert (await mind.playbooks.get("", made)).tool_versions == {"math": "1"}
    for same in (None, {}, {"math": "1"}, {"unused": "2"}, {"math": ""}):
        assert await mind.fitting("boil tea", tool_versions=same) == [made]
    assert await mind.fitting("boil tea", tool_versions={"math": "2"}) == []
    assert (await mind.playbooks.get("", made)).reason == "changed since: math"
    assert await mind.fitting("boil tea", tool_versions={"math": "1"}) == []
    await mind.learn("boil tea", "r2", tool_versions={"math": "2"})
    assert await mind.fitting("boil tea", tool_versions={"math": "2"}) == [made]


async def test_tenants_do_not_see_each_other(mind):
    ours = await mind.learn("boil tea")
    theirs = await mind.learn("boil tea", tenant="acme")
    assert ours != theirs
    assert await mind.fitting("boil tea", tenant="acme") == [theirs]
    assert await mind.count("acme", "r9", [ours], Outcome.LOSS) == 0
    for call in (
        mind.playbooks.get("acme", ours),
        mind.playbooks.forget("acme", ours),
        mind.playbooks.change("acme", ours, notes="x"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_another_embedding_model_finds_them_too(mind):
    made = await mind.learn("boil tea")
    mind.embedder.identity = "hashing-2"
    assert await mind.fitting("boil tea") == [], "nothing of two models is compared"
    await mind.fakes.tasks.bring_in_step()
    assert await mind.fitting("boil tea") == [made]
    assert await mind.learn("Boil tea!", "r2") == made


async def test_the_least_worthy_give_way_where_there_are_too_many(mind_of):
    mind = mind_of(most=3)
    words = ["alpha beta", "gamma delta", "epsilon zeta", "eta theta"]
    ids = [await mind.learn(text, f"r{i}", tool=f"t{i}") for i, text in enumerate(words[:3])]
    await mind.count("", "l", [ids[1]], Outcome.LOSS)
    ids.append(await mind.learn(words[3], "r3", tool="t3"))
    assert {playbook.id for playbook in (await mind.playbooks.find("")).playbooks} == {ids[0], ids[2], ids[3]}


async def test_lists_go_on_and_search(mind):
    ids = [await mind.learn(text, f"r{text}", tool=text) for text in ("alpha", "beta", "gamma")]
    page = await mind.playbooks.find("", limit=2)
    rest = await mind.playbooks.find("", limit=2, page_token=page.next_token)
    assert [p.id for p in [*page.playbooks, *rest.playbooks]] == ids[::-1]
    assert rest.next_token == ""
    assert [p.id for p in (await mind.playbooks.find("", query="beta")).playbooks] == [ids[1]]


STEP = PlaybookStep("math", "{}", "ok")


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (NewPlaybook("", "", "x", [STEP]), "run_id"),
        (NewPlaybook("r", "", " ", [STEP]), "prompt"),
        (NewPlaybook("r", "../x", "x", [STEP]), "persona"),
        (NewPlaybook("r", "", "x", []), "steps"),
        (NewPlaybook("r", "", "x", [STEP] * 51), "steps"),
        (NewPlaybook("r", "", "x", [PlaybookStep("", "{}", "")]), "steps[0].tool"),
        (NewPlaybook("r", "", "x", [STEP], {"a\0": "1"}), "tool_versions"),
        (NewPlaybook("r", "", "x", [STEP], {str(i): "1" for i in range(201)}), "tool_versions"),
    ],
)
async def test_what_cannot_be_learned_names_its_field(new: NewPlaybook, field: str, mind):
    with pytest.raises(InvalidArgumentError) as caught:
        await mind.learning.record("", new)
    assert caught.value.field == field


async def test_what_is_long_is_cut_and_what_no_database_holds_is_replaced(mind):
    made = await mind.learn("\ud800\0" + "x" * 5_000, steps=[PlaybookStep("math", "y" * 5_000, "z" * 5_000)])
    playbook = await mind.playbooks.get("", made)
    assert playbook.prompt.startswith("?\ufffdx")
    assert (len(playbook.prompt), len(playbook.steps[0].arguments_json), len(playbook.steps[0].outcome)) == (
        2_000,
        1_000,
        300,
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [({"prompt": " "}, "prompt"), ({"prompt": "x" * 2_001}, "prompt"), ({"notes": "x" * 2_001}, "notes")],
)
async def test_what_cannot_be_changed_names_its_field(change: dict[str, str], field: str, mind):
    made = await mind.learn("boil tea")
    with pytest.raises(InvalidArgumentError) as caught:
        await mind.playbooks.change("", made, **change)
    assert caught.value.field == field
    assert (await mind.playbooks.change("", made, prompt="boil water", notes=" n ")).notes == "n"
    assert await mind.fitting("boil water") == [made]


async def test_many_runs_at_once_are_kept_each_by_itself(mind: Mind):
    made = await mind.learn("boil tea")
    runs = [
        RunRecord(NewPlaybook("r2", "", "feed dog", [STEP])),
        RunRecord(NewPlaybook("r3", "", " ", [STEP])),
        RunRecord(NewPlaybook("r4", "", "Boil tea!", [STEP]), Trial("r4", [made, "gone"], Outcome.WIN)),
        RunRecord(trial=Trial("r5", [made], Outcome.LOSS)),
        RunRecord(trial=Trial("r6", [made], None)),
        RunRecord(NewPlaybook("r7", "", "x", [STEP]), Trial("r8", [made], Outcome.WIN)),
        RunRecord(),
        RunRecord(NewPlaybook("r9", "", "feed the DOG", [STEP])),
        RunRecord(trial=Trial("r10", [str(i) for i in range(101)], Outcome.WIN)),
    ]
    results = await mind.learning.record_runs("", runs)
    told = [r.field if isinstance(r, InvalidArgumentError) else (r.created, r.counted) for r in results]
    assert told == [
        (True, 0),
        "prompt",
        (False, 0),
        (False, 1),
        "outcome",
        "outcome.run_id",
        "runs",
        (False, 0),
        "playbook_ids",
    ]
    assert (results[2].playbook_id, results[0].playbook_id) == (made, results[7].playbook_id)
    again = await mind.learning.record_runs("", runs)
    assert [r for r in again if isinstance(r, RunResult) and (r.created or r.counted)] == []
    counts = {p.prompt: (p.wins, p.losses) for p in (await mind.playbooks.find("")).playbooks}
    assert counts == {"Boil tea!": (2, 1), "feed the DOG": (2, 0)}
    assert await mind.learning.record_runs("", []) == []


async def test_nearly_the_same_tasks_of_runs_that_come_together_are_one(mind_of):
    mind = mind_of(same_task=0.9)
    near = "convert seven large red files into nine small green tables quickly"
    runs = [RunRecord(NewPlaybook(f"r{i}", "", text, [STEP])) for i, text in enumerate([near, f"{near} today"])]
    first, second = await mind.learning.record_runs("", runs)
    assert first.playbook_id == second.playbook_id
    assert [first.created, second.created] == [True, False]
    dog = RunRecord(NewPlaybook("r9", "dog", f"{near} now", [STEP]))
    [other] = await mind.learning.record_runs("", [dog])
    assert other.created, "another persona's"


async def test_one_that_loses_in_many_runs_at_once_is_set_aside(mind: Mind):
    made = await mind.learn("boil tea")
    runs = [RunRecord(trial=Trial(f"l{i}", [made], Outcome.LOSS)) for i in range(4)]
    await mind.learning.record_runs("", runs)
    assert (await mind.playbooks.get("", made)).state is PlaybookState.SET_ASIDE


async def test_the_vector_of_a_lesson_is_the_one_of_the_request(mind: Mind):
    await mind.fitting("boil tea")
    await mind.learn("boil tea")
    await mind.learn("boil tea", "r2", tenant="acme")
    assert mind.embedder.embedded == ["boil tea"]


async def test_too_many_runs_are_refused_as_a_whole(mind: Mind):
    with pytest.raises(InvalidArgumentError, match="at most 500"):
        await mind.learning.record_runs("", [RunRecord()] * 501)


class Locked(InMemoryVectorIndex):
    """Its store cannot be read at the first look."""

    looks = 0

    async def is_asked(self, shelf: Shelf) -> bool:
        self.looks += 1
        if self.looks == 1:
            raise StoreUnavailableError("the file is locked")
        return True


async def test_a_store_that_cannot_be_read_while_changes_gather_does_not_end_the_following(
    mind: Mind, caplog: pytest.LogCaptureFixture
):
    fakes, index, model = mind.fakes, Locked(), ServingModel(mind.embedder)
    pauses = {"pause_s": 0, "patience_s": 60, "retry_s": 0.001}
    tasks = TaskIndex(fakes.store, index, fakes.ledger, fakes.indexing, model, **pauses)
    await tasks.start()
    for prompt in ("boil tea", "feed dog"):
        await mind.learn(prompt, run=prompt)
        tasks.changed("", "default")
        async with asyncio.timeout(5):
            while fakes.ledger.behind:
                await asyncio.sleep(0.001)
    await tasks.stop()
    assert "is behind: the file is locked" in caplog.text
