"""How large a schema is once its references are followed.

A schema of thirty lines that each refer twice to the next has a billion parts, and a validator visits them all, in the
service. Who refers to itself is not counted again: how often that is followed depends on the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

# A visit takes some ten nanoseconds.
_MOST = 100_000
# References that are no JSON pointer, and so are not followed here.
_MOST_OPEN = 16
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def check_expansion(schema: Mapping[str, Any]) -> None:
    """Refuses a schema that is too large to be checked in a moment.

    Raises:
        ValueError: it is.
        RecursionError: one of its chains of references is too long to be followed.
    """
    _Expansion(schema).count(schema)


class _Expansion:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        # By pointer; 0 while it is being counted.
        self._counts: dict[str, int] = {"": 0}
        self._open = 0

    def count(self, node: object) -> int:
        """How many parts it has."""
        if isinstance(node, Mapping):
            total = 1 + sum(map(self.count, node.values()))
            total += sum(self._behind(node[key]) for key in _REFERENCES if isinstance(node.get(key), str))
            # Below another base, pointers lead elsewhere.
            if node is not self._root and isinstance(node.get("$id"), str):
                raise ValueError("a part of it has an $id of its own, which is not supported")
        elif isinstance(node, list):
            total = 1 + sum(map(self.count, node))
        else:
            return 0
        if total > _MOST:
            raise ValueError(f"with its references followed it has more than {_MOST} parts")
        return total

    def _behind(self, reference: str) -> int:
        pointer = unquote(reference[1:])
        if reference != "#" and not reference.startswith("#/"):
            self._open += 1
            if self._open > _MOST_OPEN:
                raise ValueError(f"more than {_MOST_OPEN} of its references are no JSON pointers")
            return 1
        if pointer not in self._counts:
            self._counts[pointer] = 0
            self._counts[pointer] = self.count(self._at(pointer))
        return self._counts[pointer]

    def _at(self, pointer: str) -> object:
        node: Any = self._root
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping):
                node = node.get(name)
            elif isinstance(node, Sequence) and not isinstance(node, str) and name.isdecimal():
                node = node[int(name)] if int(name) < len(node) else None
            else:
                return None  # it leads nowhere: for the validator to say
        return node
