"""The planner's own tools: what it can do for a run without the sandbox, offered to the model beside the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from pagi_planner.domain.model import RunRequest, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.state.run_state import RunState


class Scope(Protocol):
    """The run that calls a tool, as the tool may see it: `Work` is one."""

    @property
    def request(self) -> RunRequest:
        """What the run was asked."""

    @property
    def state(self) -> RunState:
        """Where it stands. Only events change it."""

    @property
    def specs(self) -> Mapping[str, ToolSpec] | None:
        """The tools of the sandbox that it may use; None where they were not looked up yet."""

    def needs_approval(self, spec: ToolSpec) -> bool:
        """Whether a person has to allow each call of the tool."""


class OwnTool(Protocol):
    """A tool that runs in the planner."""

    @property
    def spec(self) -> ToolSpec:
        """How a model sees it."""

    @property
    def knows_effects(self) -> bool:
        """Whether a repeat of an effect id gives the first result and does nothing."""

    def is_offered(self, work: Scope) -> bool:
        """Whether this run may call it now. The journal alone decides, so that a resumed run offers the same."""

    async def execute(self, call: ToolCall, work: Scope, effect_id: str) -> ToolOutcome:
        """Runs the tool.

        Args:
            call: Its arguments are a JSON object; whether they fit the schema is for the tool to check.
            work: The run that calls it.
            effect_id: Names the effect.

        Raises:
            InvalidArgumentError: The arguments do not fit.
            PagiError: The tool failed.
        """


class Toolbox:
    """The planner's own tools by name. One of them goes before a tool of the same name in the sandbox.

    Args:
        own: The tools.
    """

    def __init__(self, own: Sequence[OwnTool] = ()) -> None:
        self._own = {tool.spec.name: tool for tool in own}

    @property
    def names(self) -> Collection[str]:
        """Of all the tools."""
        return self._own.keys()

    def offered(self, work: Scope) -> dict[str, ToolSpec]:
        """What this run may call now."""
        return {name: tool.spec for name, tool in self._own.items() if tool.is_offered(work)}

    def bound(self, name: str, work: Scope) -> BoundTool | None:
        """The tool of this name for one run; None where the planner has none."""
        tool = self._own.get(name)
        return None if tool is None else BoundTool(tool, work)


class BoundTool:
    """One of the planner's own tools, called as those of the sandbox are.

    Args:
        tool: It.
        work: The run that calls it.
    """

    def __init__(self, tool: OwnTool, work: Scope) -> None:
        self._tool = tool
        self._work = work

    @property
    def know_effects(self) -> bool:
        """See `OwnTool.knows_effects`."""
        return self._tool.knows_effects

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Runs it; the session is that of the run."""
        return await self._tool.execute(call, self._work, effect_id)
