from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_memory.domain.condensing import condensed, estimate_tokens
from pagi_memory.domain.history import History
from pagi_memory.domain.limits import Defaults
from pagi_memory.domain.model import SessionKey, Turn, TurnRole
from pagi_memory.domain.retention import Forgetting
from pagi_memory.domain.session import Digest, Retention, Window
from pagi_memory.domain.standalone_mind import InMemoryPlaybooks
from pagi_memory.domain.summaries import Summaries
from pagi_memory.testing import InMemorySessionStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SessionKey("", "s")


class RecordingSummarizer:
    """Joins; keeps what it was asked."""

    def __init__(self, least_turns: int = 1) -> None:
        self.least_turns = least_turns
        self.asked: list[tuple[str, list[str]]] = []
        self.effects: list[str] = []
        self.away = False
        self.go = asyncio.Event()
        self.go.set()

    async def summarize(self, previous: str, turns: list[Turn], *, max_tokens: int, effect_id: str) -> Digest:
        self.asked.append((previous, [turn.text for turn in turns]))
        self.effects.append(effect_id)
        await self.go.wait()
        if self.away:
            raise UnavailableError("away")
        return Digest(" ".join([previous, *(turn.text for turn in turns)]).strip(), "recording")


def exchange(i: int, answer: str = "") -> list[Turn]:
    at = NOON + timedelta(minutes=i)
    return [
        Turn(TurnRole.USER, f"asked{i}", f"r{i}", 0, at),
        Turn(TurnRole.ASSISTANT, answer or f"said{i}", f"r{i}", 1, at),
    ]


class Heart:
    def __init__(self, summarizer: RecordingSummarizer | None = None, **defaults: int) -> None:
        self.store = InMemorySessionStore()
        self.summarizer = summarizer or RecordingSummarizer()
        bounds = Defaults(**{"max_turns": 4, "max_history_tokens": 1000} | defaults)
        self.summaries = Summaries(self.store, self.summarizer, defaults=bounds)
        self.history = History(self.store, defaults=bounds, summaries=self.summaries)

    async def say(self, *numbers: int) -> None:
        for i in numbers:
            await self.history.append("", "s", persona="", turns=exchange(i))
            await self.summaries.settle()

    async def told(self, **bounds: int) -> tuple[str, list[str]]:
        found = await self.history.recollect("", "s", **bounds)
        return found.summary, [turn.text for turn in found.turns]


async def test_what_no_longer_fits_is_summed_up_once():
    heart = Heart()
    await heart.say(0, 1, 2, 3)
    assert heart.summarizer.asked == [("", ["asked0", "said0"]), ("asked0 said0", ["asked1", "said1"])]
    assert await heart.told() == ("asked0 said0 asked1 said1", ["asked2", "said2", "asked3", "said3"])
    await heart.history.append("", "s", persona="", turns=exchange(3))
    await heart.summaries.roll(KEY)
    assert len(heart.summarizer.asked) == 2
    assert len(set(heart.summarizer.effects)) == 2


class LookedAtStore(InMemorySessionStore):
    """Counts how often somebody looked at what there is to sum up."""

    looks = 0

    async def window(self, key: SessionKey, limit: int) -> Window:
        self.looks += 1
        return await super().window(key, limit)


async def test_nobody_looks_while_what_is_added_fits():
    heart = Heart(max_turns=10)
    heart.store = LookedAtStore()
    heart.summaries = Summaries(heart.store, heart.summarizer, defaults=Defaults(max_turns=10, max_history_tokens=100))
    heart.history = History(heart.store, defaults=Defaults(max_turns=10), summaries=heart.summaries)
    await heart.say(0)
    assert heart.store.looks == 1, "at first nothing is known"
    await heart.say(1, 2, 3, 4)
    assert heart.store.looks == 1
    await heart.say(5)
    assert heart.summarizer.asked == [("", ["asked0", "said0"])]
    looks = heart.store.looks
    # By size, too: the next exchange does not fit beside the others.
    await heart.history.append("", "s", persona="", turns=exchange(6, "x" * 300))
    await heart.summaries.settle()
    assert heart.store.looks > looks
    assert heart.summarizer.asked[-1][1][-1] == "said4"


async def test_what_was_changed_is_summed_up_with_the_next_turns():
    heart = Heart(RecordingSummarizer(least_turns=2), max_turns=2)
    await heart.say(0, 1)
    await heart.told()
    assert await heart.store.edit_turn(KEY, "r0", 0, "changed", NOON)
    assert "changed" in (await heart.told())[0]
    await heart.say(2)
    assert heart.summarizer.asked[-1] == ("", ["changed", "said0", "asked1", "said1"])


async def test_a_session_that_fits_has_no_summary():
    heart = Heart()
    await heart.say(0, 1)
    assert await heart.told() == ("", ["asked0", "said0", "asked1", "said1"])
    assert heart.summarizer.asked == []


async def test_the_newest_turns_fit_the_budget():
    heart = Heart()
    await heart.say(0, 1)
    size = estimate_tokens("said1") + 4
    assert (await heart.told(max_tokens=2 * size + 1))[1] == ["asked1", "said1"]
    assert (await heart.told(max_tokens=size))[1] == ["said1"]
    summary, turns = await heart.told(max_tokens=1)
    assert turns == []
    assert "asked0" in summary
    assert "said1" in summary


async def test_of_a_last_turn_that_alone_does_not_fit_the_beginning_is_given():
    heart = Heart()
    await heart.say(0)
    long = Turn(TurnRole.ASSISTANT, "First: ä" + "ä" * 20_000, "long", 0, NOON + timedelta(hours=1))
    await heart.history.append("", "s", persona="", turns=[long])
    told = await heart.history.recollect("", "s", max_tokens=500)
    [turn] = told.turns
    assert turn.text.startswith("First: ä")
    assert turn.text.endswith("ä…")
    assert 490 < estimate_tokens(turn.text) + 4 <= 500
    assert "asked0" in told.summary
    assert "First" not in told.summary, "it is said once"


async def test_nothing_is_missing_while_the_summary_is_behind():
    heart = Heart(RecordingSummarizer(least_turns=100))
    await heart.say(0, 1, 2, 3)
    summary, turns = await heart.told()
    assert heart.summarizer.asked == []
    assert turns[0] == "asked2"
    assert [word for word in ("asked0", "said0", "asked1", "said1") if word in summary] == [
        "asked0",
        "said0",
        "asked1",
        "said1",
    ]


async def test_a_summarizer_that_is_away_is_asked_again_with_the_next_turns():
    heart = Heart()
    heart.summarizer.away = True
    await heart.say(0, 1, 2)
    assert "asked0" in (await heart.told())[0]
    heart.summarizer.away = False
    await heart.say(3)
    assert heart.summarizer.asked[-1] == ("", ["asked0", "said0", "asked1", "said1"])
    assert (await heart.told())[0] == "asked0 said0 asked1 said1"


async def test_a_summarizer_that_goes_on_failing_is_asked_seldom_and_then_done_without():
    heart = Heart(RecordingSummarizer(least_turns=4), max_turns=2)
    heart.summarizer.away = True
    for i in range(10):
        await heart.say(i)
        # A context is asked for before each run: it must not make the next look come sooner.
        assert "asked0" in "".join([*(await heart.told())[1], (await heart.told())[0]])
    assert [len(turns) for _, turns in heart.summarizer.asked] == [4, 8, 12, 16]
    await heart.say(10)
    assert [len(turns) for _, turns in heart.summarizer.asked][4:] == [20]
    window = await heart.store.window(KEY, 2)
    assert (window.summary.made_by, window.pending) == ("extract", window.newest)
    summary, turns = await heart.told()
    assert ("asked0" in summary, "asked9" in summary, turns) == (True, True, ["asked10", "said10"])
    heart.summarizer.away = False
    await heart.say(11, 12)
    assert heart.summarizer.asked[-1] == (summary, ["asked10", "said10", "asked11", "said11"])


async def test_no_run_waits_for_a_summary():
    heart = Heart()
    heart.summarizer.go.clear()
    for i in range(4):
        await heart.history.append("", "s", persona="", turns=exchange(i))
    assert (await heart.told())[1] == ["asked2", "said2", "asked3", "said3"]
    heart.summarizer.go.set()
    await heart.summaries.settle()
    assert (await heart.told())[0] == "asked0 said0 asked1 said1"
    await heart.summaries.stop()


async def test_turns_that_change_while_they_are_summed_up_are_summed_up_anew():
    heart = Heart()
    await heart.say(0, 1)
    heart.summarizer.go.clear()
    await heart.history.append("", "s", persona="", turns=exchange(2))
    while not heart.summarizer.asked:
        await asyncio.sleep(0)
    await heart.store.edit_turn(KEY, "r0", 0, "secret no more", NOON)
    heart.summarizer.go.set()
    await heart.summaries.settle()
    assert (await heart.told())[0] == "secret no more said0"


async def test_many_rounds_end_with_one_summary_of_all():
    heart = Heart(max_turns=2)
    await heart.say(*range(30))
    told = [text for _, texts in heart.summarizer.asked for text in texts]
    assert told == [f"{kind}{i}" for i in range(29) for kind in ("asked", "said")]


def test_condensing_keeps_the_most_telling_lines_in_their_order():
    turns = [turn for i in range(40) for turn in exchange(i, f"The answer about penguins and ice number {i}. More.")]
    turns += [Turn(TurnRole.TOOL_PLAN, "math {}", "r99", 0, NOON), Turn(TurnRole.USER, "zebra", "r99", 1, NOON)]
    text = condensed("", turns, max_tokens=200)
    assert estimate_tokens(text) <= 200
    lines = text.splitlines()
    assert all("penguins" in line for line in lines)
    assert lines == sorted(lines, key=lambda line: int(line.split("asked")[1].split()[0]))
    again = condensed(text, exchange(50, "About penguins and ice."), max_tokens=200)
    assert estimate_tokens(again) <= 200
    assert "asked50" in again


def test_a_condensed_run_names_its_tools_and_cuts_at_sentences():
    run = [
        Turn(TurnRole.USER, "What is 1+2?", "r", 0, NOON),
        Turn(TurnRole.TOOL_PLAN, 'math {"expression": "1+2"}', "r", 1, NOON),
        Turn(TurnRole.TOOL_OUTPUT, "3", "r", 2, NOON),
        Turn(TurnRole.ASSISTANT, "It is three. " + "x" * 2000, "r", 3, NOON),
    ]
    assert condensed("", run, max_tokens=400) == (
        "- 2026-03-01 | user: What is 1+2? | assistant: It is three. | tools: math"
    )
    assert condensed("", [], max_tokens=10) == ""
    assert condensed("", run, max_tokens=1) == ""
    for text in ("", " ", "\n" * 9, "x" * 100_000, "\ud800"):
        condensed("", [Turn(role, text, "r", 0, NOON) for role in TurnRole], max_tokens=50)


async def test_forgetting_goes_on_while_the_store_is_away(caplog: pytest.LogCaptureFixture):
    class FlakyStore(InMemorySessionStore):
        calls = 0
        twice = asyncio.Event()

        async def expire(self, retention: Retention, now: datetime) -> int:
            self.calls += 1
            if self.calls == 1:
                raise UnavailableError("away")
            self.twice.set()
            return await super().expire(retention, now)

    class Runs(InMemoryPlaybooks):
        """Has three thousand to forget."""

        left = 3
        until = asyncio.Event()

        async def forget_runs(self, *, before: datetime, most: int) -> int:
            assert (before, most) == (NOON + timedelta(days=2 - 90), 1_000_000)
            self.left -= 1
            if self.left < 0:
                self.until.set()
            return 1_000 if self.left >= 0 else 0

    store, runs = FlakyStore(), Runs(lambda: "model-1")
    await store.append(KEY, "default", exchange(0))
    forgetting = Forgetting(store, Retention(days=1), runs, pause_s=0.01, now=lambda: NOON + timedelta(days=2))
    await forgetting.start()
    async with asyncio.timeout(5):
        await store.twice.wait()
        await runs.until.wait()
    await forgetting.stop()
    assert await store.session(KEY) is None
    assert "still there" in caplog.text


async def test_sessions_that_do_not_expire_leave_runs_to_be_forgotten_and_each_failure_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(InMemorySessionStore):
        async def expire(self, retention: Retention, now: datetime) -> int:
            raise UnavailableError("a lock")

    class Full(InMemoryPlaybooks):
        asked = asyncio.Event()

        async def forget_runs(self, *, before: datetime, most: int) -> int:
            self.asked.set()
            raise OSError("a full disk")

    runs = Full(lambda: "model-1")
    forgetting = Forgetting(Away(), Retention(days=1), runs)
    await forgetting.start()
    async with asyncio.timeout(5):
        await runs.asked.wait()
    await forgetting.stop()
    assert "sessions that have expired are still there: a lock" in caplog.text
    assert "counted runs that are too old or too many are still known" in caplog.text
    assert "OSError: a full disk" in caplog.text
