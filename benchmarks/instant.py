"""A planner's surroundings that answer at once, for what is measured in one process: the plan of `script`.

Sizes are those of that plan in the mesh: 3.8 KB of context in the journal, three model calls, two tool calls.
"""

from __future__ import annotations

import asyncio

from pagi_planner import Effects, ModelAnswer, ModelRequest, RunRequest, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.model import Context, Exchange, Passage, Usage

PROMPT = "What do 1,000 kettles cost at 7 pounds each, with the postage?"
_TOOL_CALLS = 2
_PASSAGE = Passage("p" * 32, "It whistles when the water is hot. " * 13, 0.8, "Domain-KB", "kettles.md", ("Kettles",))
_CONTEXT = Context("s" * 900, passages=(_PASSAGE,) * 3)


class InstantModel:
    """Calls a tool in its first answers, then answers; or does not answer at all."""

    def __init__(self) -> None:
        self.silent = False

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """The next step."""
        if self.silent:
            await asyncio.Event().wait()
        usage = Usage(2_400, 30)
        step = int(request.effect_id.split("/")[-2])
        if step <= _TOOL_CALLS:
            call = ToolCall(f"call-{step}", "math", '{"expression": "(100 + 50) * 2"}')
            return ModelAnswer("", (call,), usage, "tool_calls", "m", "p")
        return ModelAnswer("The kettles cost 300 pounds, and 312 with the postage.", (), usage, "stop", "m", "p")


class InstantTools:
    """One tool."""

    know_effects = True

    def __init__(self) -> None:
        self.needs_approval = False

    async def specs(self) -> tuple[ToolSpec, ...]:
        """The tool."""
        schema = '{"type": "object", "properties": {"expression": {"type": "string"}}}'
        return (ToolSpec("math", "works it out", schema, Effects.READ_ONLY, "1", self.needs_approval),)

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Has always the same result."""
        return ToolOutcome("ok", {"result": 300, "expression": "(100 + 50) * 2"})


class InstantMemory:
    """Always recalls the same, and keeps nothing."""

    async def recall(self, request: RunRequest) -> Context:
        """Three passages."""
        return _CONTEXT

    async def remember(self, exchange: Exchange) -> None:
        """Forgets."""
