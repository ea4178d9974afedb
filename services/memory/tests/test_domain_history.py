from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from pagi_chassis.errors import InvalidArgumentError
from pagi_memory.domain.history import History
from pagi_memory.domain.limits import Defaults, checked_id
from pagi_memory.domain.model import Turn, TurnRole
from pagi_memory.testing import InMemorySessionStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def turn(text: str, position: int = 0, run: str = "r1", at: datetime = NOON) -> Turn:
    return Turn(TurnRole.USER, text, run, position, at)


@pytest.fixture
def history() -> History:
    return History(InMemorySessionStore(), defaults=Defaults(max_turns=2))


async def test_the_newest_come_oldest_first(history: History) -> None:
    for i in range(4):
        await history.append("", "s", persona="", turns=[turn(f"t{i}", run=f"r{i}", at=NOON + timedelta(minutes=i))])
    assert [t.text for t in await history.newest("", "s")] == ["t2", "t3"]
    assert [t.text for t in await history.newest("", "s", max_turns=3)] == ["t1", "t2", "t3"]


async def test_a_clock_that_goes_back_does_not_change_the_order_within_a_run(history: History) -> None:
    turns = [turn("asked", 0), turn("answered", 1, at=NOON - timedelta(seconds=5))]
    await history.append("", "s", persona="", turns=turns)
    assert [t.text for t in await history.newest("", "s")] == ["asked", "answered"]


@pytest.mark.parametrize("bad", ["", "a/b", "a\\b", ".", "..", "x" * 201, "a\nb", "a\x00b", "\x7f"])
async def test_session_ids_are_checked(history: History, bad: str) -> None:
    for call in (history.newest("", bad), history.append("", bad, persona="", turns=[turn("x")])):
        with pytest.raises(InvalidArgumentError) as caught:
            await call
        assert caught.value.field == "session_id"


@pytest.mark.parametrize("good", ["x" * 200, "a.b", "...", "Jörg 7", "🙂"])
async def test_other_session_ids_are_taken(history: History, good: str) -> None:
    assert await history.newest("", good) == []


@pytest.mark.parametrize(
    ("persona", "turns", "field"),
    [
        ("", [], "turns"),
        ("", [turn("x", i) for i in range(1001)], "turns"),
        ("", [turn("x", run="")], "run_id"),
        ("", [turn("x" * 1_048_577)], "turns[0].text"),
        ("../etc", [turn("x")], "persona"),
    ],
)
async def test_what_is_stored_is_checked(history: History, persona: str, turns: list[Turn], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await history.append("", "s", persona=persona, turns=turns)
    assert caught.value.field == field


@pytest.mark.parametrize("max_turns", [-1, 1001])
async def test_max_turns_has_bounds(history: History, max_turns: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await history.newest("", "s", max_turns=max_turns)
    assert caught.value.field == "max_turns"


def test_an_id_holds_no_character_that_is_no_text() -> None:
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cs"):
            with pytest.raises(InvalidArgumentError):
                checked_id(f"a{character}b", "id")
        elif code < 0x3000:
            assert checked_id(f"a{character}b", "id")
