"""Rows that are kept: asked for once, never an old one, never of two states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pagi_memory.adapters.kept_rows import KeptRows


class Table:
    """A database that can be made to answer late."""

    def __init__(self) -> None:
        self.rows = {key: f"{key}1" for key in "abcd"}
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def read(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.asked.append("".join(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        await asyncio.sleep(0)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return found

    def change(self, kept: KeptRows[str, str], key: str) -> None:
        ended = kept.change(lambda row: row.startswith(key))
        self.rows[key] = f"{key}2"
        ended()


async def test_each_row_is_asked_for_once_and_a_change_forgets_what_it_concerns() -> None:
    kept, table = KeptRows[str, str](9), Table()
    assert await kept.of("ab", table.read) == {"a": "a1", "b": "b1"}
    assert await kept.of("abcz", table.read) == {"a": "a1", "b": "b1", "c": "c1"}
    table.change(kept, "b")
    assert await kept.of("abc", table.read) == {"a": "a1", "b": "b2", "c": "c1"}
    assert table.asked == ["ab", "cz", "b"]
    kept.change()()
    assert await kept.of("a", table.read) == {"a": "a1"}
    assert table.asked[3:] == ["a"]


async def test_while_something_changes_the_database_is_asked_for_all_and_nothing_is_kept() -> None:
    kept, table = KeptRows[str, str](9), Table()
    await kept.of("ab", table.read)
    ended, another = kept.change(lambda row: row.startswith("a")), kept.change(lambda _: False)
    assert await kept.of("ab", table.read) == {"a": "a1", "b": "b1"}
    table.rows["a"] = "a2"
    ended()
    assert await kept.of("ac", table.read) == {"a": "a2", "c": "c1"}, "the other one goes on"
    another()
    assert await kept.of("bac", table.read) == {"a": "a2", "b": "b1", "c": "c1"}
    assert table.asked == ["ab", "ab", "ac", "ac"]


async def test_what_was_read_over_a_change_is_not_kept_and_not_mixed_with_what_was() -> None:
    kept, table = KeptRows[str, str](9), Table()
    table.meanwhile = lambda: table.change(kept, "a")
    assert await kept.of("a", table.read) == {"a": "a1"}, "as it was when it was asked for"
    assert await kept.of("a", table.read) == {"a": "a2"}
    table.rows["a"] = "a3"
    table.meanwhile = lambda: table.change(kept, "b")
    assert await kept.of("ab", table.read) == {"a": "a3", "b": "b2"}, "a and b of one state"
    assert table.asked == ["a", "a", "b", "ab"]


async def test_no_more_are_kept_than_it_may() -> None:
    kept, table = KeptRows[str, str](2), Table()
    await kept.of("abc", table.read)
    assert await kept.of("bc", table.read) == {"b": "b1", "c": "c1"}
    assert table.asked == ["abc"]
    await kept.of("a", table.read)
    nothing = KeptRows[str, str](0)
    for _ in range(2):
        assert await nothing.of("d", table.read) == {"d": "d1"}
    assert table.asked == ["abc", "a", "d", "d"]
