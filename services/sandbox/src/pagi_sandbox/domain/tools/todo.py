"""todo: a list of what is to be done in this conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.todo_list import TodoListKey, TodoStore
from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError

MAX_ITEMS = 200
_STATES = {"done": "done", "reopen": "open", "remove": "removed"}


class Todo:
    """Keeps a list. A ServiceTool: its database holds every session's lists, so no tool's process has it."""

    name = "todo"
    description = (
        "Keep a to-do list for this conversation, to plan work of several steps and to remember what is left. Every "
        "call answers with the whole list. Add the steps first; mark each one done when it is finished. The list "
        f"outlives this turn; it takes {MAX_ITEMS} items, and an open item of the same text is not added twice."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "action": {"enum": ["list", "add", *_STATES], "description": "What to do; list only shows it."},
            "items": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 1000, "pattern": "\\S"},
                "minItems": 1,
                "maxItems": 50,
                "description": "For add: what is to be done, one text for each step.",
            },
            "number": {"type": "integer", "minimum": 1, "maximum": 2**31, "description": "Which item; not for add."},
        },
        "required": ["action"],
        "additionalProperties": False,
        "allOf": [
            {"if": {"properties": {"action": {"const": "add"}}}, "then": {"required": ["items"]}},
            {"if": {"properties": {"action": {"enum": list(_STATES)}}}, "then": {"required": ["number"]}},
        ],
    }
    effects = Effects.IDEMPOTENT
    permissions = (Permission.SERVICE,)
    minimum_profile = "L0"

    def __init__(self, todos: TodoStore) -> None:
        """Keeps lists in the given store."""
        self._todos = todos

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"items": [{"number", "text", "done"}], "open": how many are not done}."""
        action, key = arguments["action"], TodoListKey(context.tenant, context.session_id)
        if action == "add" and not await self._todos.add(key, [text.strip() for text in arguments["items"]], MAX_ITEMS):
            raise ToolFailedError(f"the list would have more than {MAX_ITEMS} items; remove those that are done")
        number = int(arguments.get("number", 0))
        if action in _STATES and not await self._todos.set_state(key, number, _STATES[action]):
            raise ToolFailedError(f"the list has no item {number}; list shows those there are")
        items = await self._todos.items(key)
        shown = [{"number": item.number, "text": item.text, "done": item.done} for item in items]
        return {"items": shown, "open": sum(not item.done for item in items)}
