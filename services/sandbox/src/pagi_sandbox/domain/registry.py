"""Which tools there are, and who runs each."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from pagi_sandbox.domain.errors import DuplicateToolError, SchemaError, UnknownToolError
from pagi_sandbox.domain.model import LeftOut, ToolSpec
from pagi_sandbox.domain.ports import ArgumentCheck, ArgumentSchemas, ToolRunner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A tool that can be called."""

    spec: ToolSpec
    arguments: ArgumentCheck
    runner: ToolRunner
    configuration: Mapping[str, Any]


class ToolRegistry:
    """Every tool by its name."""

    def __init__(
        self, *, approval: Sequence[str] = (), configurations: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Starts empty.

        Args:
            approval: names of tools of which a person has to allow each call, whatever they say of themselves;
                "*" stands for any characters.
            configurations: what the operator has set for a tool, by its name.
        """
        self._tools: dict[str, RegisteredTool] = {}
        self._approval = approval
        self._configurations = configurations or {}

    def add_all(self, runners: Iterable[ToolRunner], schemas: ArgumentSchemas) -> Sequence[LeftOut]:
        """Takes the tools of every runner; one whose schema is broken is logged and left out.

        Returns:
            What was left out.

        Raises:
            DuplicateToolError: two tools want one name.
        """
        left_out = []
        for runner in runners:
            for spec in runner.tools():
                try:
                    self.add(spec, schemas.compile(spec), runner)
                except SchemaError as error:
                    log.error("tool %r from %s is left out: %s", spec.name, spec.origin, error)
                    left_out.append(LeftOut(spec.origin, str(error)))
        return left_out

    def update(self, runner: ToolRunner, schemas: ArgumentSchemas) -> None:
        """Takes the tools of a runner anew: of one that learns what it can while it runs.

        One whose schema is broken, or whose name another runner's tool has, is logged and left out.
        """
        self._tools = {name: tool for name, tool in self._tools.items() if tool.runner is not runner}
        for spec in runner.tools():
            try:
                self.add(spec, schemas.compile(spec), runner)
            except (SchemaError, DuplicateToolError) as error:
                log.error("tool %r from %s is left out: %s", spec.name, spec.origin, error)

    def add(self, spec: ToolSpec, arguments: ArgumentCheck, runner: ToolRunner) -> None:
        """Takes one tool.

        Raises:
            DuplicateToolError: its name is taken.
        """
        taken = self._tools.get(spec.name)
        if taken is not None:
            raise DuplicateToolError(spec.name, taken.spec.origin, spec.origin)
        asked = spec.requires_approval or any(fnmatchcase(spec.name, pattern) for pattern in self._approval)
        self._tools[spec.name] = RegisteredTool(
            replace(spec, requires_approval=asked), arguments, runner, self._configurations.get(spec.name, {})
        )

    def find(self, name: str) -> RegisteredTool:
        """The tool of that name.

        Raises:
            UnknownToolError: there is none; names those that sound alike.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownToolError(name, difflib.get_close_matches(name[:64], sorted(self._tools)))
        return tool

    def specs(self) -> Sequence[ToolSpec]:
        """Every tool, by name."""
        return [self._tools[name].spec for name in sorted(self._tools)]
