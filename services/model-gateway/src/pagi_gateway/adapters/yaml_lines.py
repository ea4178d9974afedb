"""Reads YAML strictly and remembers the line of everything in it, so that a fault can be named by its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Place = tuple[str | int, ...]
_MERGE = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """The text is no YAML, or not of the plain kind that is read here; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Lined:
    """A value of plain types, and the line (from 1) of each place in it."""

    value: Any
    lines: Mapping[Place, int]

    def line_of(self, place: Sequence[str | int]) -> int:
        """The line of a place; of what is around it where the place itself is not written."""
        return self.lines[self.written(place)]

    def written(self, place: Sequence[str | int]) -> Place:
        """The place without the members that are not in the text (they have names in a schema only)."""
        found: Place = ()
        for member in place:
            if (*found, member) in self.lines:
                found = (*found, member)
        return found


def read_yaml(text: str) -> Lined:
    """Reads one document.

    Raises:
        YamlError: It is none, has a key twice, or a key that is no text.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"this is not YAML: {error.problem or error.context}", mark.line + 1 if mark else 1) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(f"this is not YAML: {error}", 1) from error
    if node is None:
        return Lined({}, {(): 1})
    reader = _Reader()
    return Lined(reader.read(node, ()), reader.lines)


class _Reader:
    """Turns nodes into values. A node that is written once and used again (an anchor) is read once a use."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self._scalars = yaml.SafeLoader("")
        self._within: set[int] = set()

    def read(self, node: yaml.Node, place: Place, *, line: int | None = None) -> Any:
        self.lines[place] = line = node.start_mark.line + 1 if line is None else line
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._within:
            raise YamlError("this is a part of itself", line)
        # Anchors used by anchors grow without bound, and no file that a person wrote has so much in it.
        if len(self.lines) > 100_000:
            raise YamlError("there is too much in this file", line)
        self._within.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.read(each, (*place, number)) for number, each in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._within.discard(id(node))

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        assert isinstance(node, yaml.MappingNode)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                raise YamlError("<< is not read here; write the members out", line)
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise YamlError('a key must be a text; put it in "quotes"', line)
            if key in found:
                raise YamlError(f"{key!r} is here for the second time", line)
            found[key] = self.read(value_node, (*place, key), line=line)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise YamlError(f"this value cannot be read: {error}", node.start_mark.line + 1) from error
