"""todo on both stores."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.adapters.sqlite_todos import SqliteTodoStore
from pagi_sandbox.domain.errors import ArgumentsError
from pagi_sandbox.domain.service_tools import ServiceToolRunner
from pagi_sandbox.domain.todo_list import TodoListKey
from pagi_sandbox.domain.tool import Effects, ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.todo import MAX_ITEMS, Todo
from pagi_sandbox.testing import InMemoryTodos

CONTEXT = ToolContext(Path(), session_id="s", tenant="acme")


@pytest_asyncio.fixture(params=["memory", "sqlite"], loop_scope="module")
async def todo(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Todo]:
    store = InMemoryTodos() if request.param == "memory" else SqliteTodoStore(tmp_path / "new" / "todos.db")
    await store.start()
    yield Todo(store)
    await store.stop()


def lines(answer: Any) -> list[str]:
    return [f"{item['number']} {'x' if item['done'] else '-'} {item['text']}" for item in answer["items"]]


async def test_a_list_from_its_first_item_to_its_last(todo: Todo) -> None:
    assert await todo.run({"action": "list"}, CONTEXT) == {"items": [], "open": 0}
    added = await todo.run({"action": "add", "items": ["read", " write ", "test"]}, CONTEXT)
    assert lines(added) == ["1 - read", "2 - write", "3 - test"]
    done = await todo.run({"action": "done", "number": 2}, CONTEXT)
    assert (lines(done), done["open"]) == (["1 - read", "2 x write", "3 - test"], 2)
    assert lines(await todo.run({"action": "reopen", "number": 2}, CONTEXT))[1] == "2 - write"
    assert lines(await todo.run({"action": "remove", "number": 3}, CONTEXT)) == ["1 - read", "2 - write"]
    assert lines(await todo.run({"action": "add", "items": ["ship"]}, CONTEXT))[-1] == "4 - ship"


async def test_a_repeat_changes_nothing(todo: Todo) -> None:
    assert todo.effects is Effects.IDEMPOTENT
    for arguments in (
        {"action": "add", "items": ["a", "b", "a"]},
        {"action": "done", "number": 1},
        {"action": "remove", "number": 2},
    ):
        first = await todo.run(arguments, CONTEXT)
        assert await todo.run(arguments, CONTEXT) == first
    assert lines(first) == ["1 x a"]


async def test_an_item_that_is_done_may_come_again(todo: Todo) -> None:
    await todo.run({"action": "add", "items": ["a"]}, CONTEXT)
    await todo.run({"action": "done", "number": 1}, CONTEXT)
    assert lines(await todo.run({"action": "add", "items": ["a"]}, CONTEXT)) == ["1 x a", "2 - a"]


@pytest.mark.parametrize("other", [ToolContext(Path(), "s", tenant="other"), ToolContext(Path(), "t", tenant="acme")])
async def test_sessions_and_tenants_have_lists_of_their_own(todo: Todo, other: ToolContext) -> None:
    await todo.run({"action": "add", "items": ["a"]}, CONTEXT)
    assert (await todo.run({"action": "list"}, other))["items"] == []
    with pytest.raises(ToolFailedError, match="no item 1"):
        await todo.run({"action": "remove", "number": 1}, other)


async def test_what_is_not_there_is_named(todo: Todo) -> None:
    await todo.run({"action": "add", "items": ["a"]}, CONTEXT)
    await todo.run({"action": "remove", "number": 1}, CONTEXT)
    for arguments in ({"action": "done", "number": 1}, {"action": "remove", "number": 7}):
        with pytest.raises(ToolFailedError, match="no item"):
            await todo.run(arguments, CONTEXT)


async def test_a_full_list_takes_nothing_and_says_so(todo: Todo) -> None:
    for start in range(0, MAX_ITEMS, 50):
        await todo.run({"action": "add", "items": [str(start + one) for one in range(50)]}, CONTEXT)
    with pytest.raises(ToolFailedError, match="more than 200 items"):
        await todo.run({"action": "add", "items": ["one more"]}, CONTEXT)
    assert (await todo.run({"action": "list"}, CONTEXT))["open"] == MAX_ITEMS


async def test_lists_outlive_the_process(tmp_path: Path) -> None:
    for _ in range(2):
        store = SqliteTodoStore(tmp_path / "todos.db")
        await store.start()
        assert lines(await Todo(store).run({"action": "add", "items": ["a"]}, CONTEXT)) == ["1 - a"]
        await store.stop()


def test_its_schema_asks_for_what_each_action_needs() -> None:
    check = JsonSchemaArguments().compile(ServiceToolRunner([Todo(InMemoryTodos())]).tools()[0])
    assert check.parse('{"action": "list"}')
    for wrong in ("{}", '{"action": "add"}', '{"action": "done"}', '{"action": "add", "items": [" "]}'):
        with pytest.raises(ArgumentsError):
            check.parse(wrong)


async def test_lists_that_nobody_uses_any_more_are_forgotten(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "todos.db"
    store = SqliteTodoStore(path, now=lambda: now[0])
    await store.start()
    keys = [TodoListKey("acme", f"s{i}") for i in range(250)]
    for key in keys:
        assert await store.add(key, ["a"], 9)
    now[0] = 7_200.0
    await store.items(keys[0])
    assert await store.set_state(keys[1], 1, "done")
    # Looked at and never made: nothing is kept of it.
    await store.items(TodoListKey("acme", "other"))
    assert await store.forget_unused(3_600.0) == 248
    assert [len(await store.items(key)) for key in keys[:4]] == [1, 1, 0, 0]
    assert await store.forget_unused(1e9) == 2
    await store.stop()


async def test_lists_of_a_version_that_kept_them_for_ever_are_used_from_now_on(tmp_path: Path) -> None:
    store = SqliteTodoStore(tmp_path / "todos.db")
    await store.start()
    await store.add(TodoListKey("", "s"), ["a"], 9)
    await store.stop()
    with closing(sqlite3.connect(tmp_path / "todos.db")) as file:
        file.execute("DROP TABLE todo_lists")
    store = SqliteTodoStore(tmp_path / "todos.db")
    await store.start()
    assert await store.forget_unused(time.time() - 60) == 0
    assert await store.forget_unused(time.time() + 60) == 1
    await store.stop()
