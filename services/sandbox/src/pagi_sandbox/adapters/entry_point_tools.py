"""Finds the tools that installed packages register under the entry point group `pagi.tools`.

Only names are read here. The packages are imported by the fork server, never by the service: what they do at import
cannot harm it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

GROUP = "pagi.tools"


@dataclass(frozen=True, slots=True)
class ToolReference:
    """A tool of a package: origin for people, reference as "module:attribute"."""

    origin: str
    reference: str


def find_tools(path: Sequence[str] = ()) -> list[ToolReference]:
    """The registered tools, by name of the entry point.

    Args:
        path: directories to look in besides the interpreter's own.
    """
    found: dict[tuple[str, str], ToolReference] = {}
    for distribution in metadata.distributions(path=[*sys.path, *path]):
        for point in distribution.entry_points:
            if point.group == GROUP:
                origin = f"{distribution.name} {distribution.version} (entry point {point.name!r})"
                # An editable install can be on the path twice; the first is the one that is imported.
                found.setdefault((distribution.name, point.name), ToolReference(origin, point.value))
    return [found[key] for key in sorted(found)]
