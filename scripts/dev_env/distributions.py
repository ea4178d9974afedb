"""The distributions of this repository and what they declare in their `pyproject.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

PREFIX = "pagi-"  # a requirement that starts so is one of ours and never comes from an index


@dataclass(frozen=True)
class Distribution:
    """One local distribution: `proto` or a folder of `services`."""

    folder: Path
    name: str
    dependencies: tuple[str, ...]
    build_requires: tuple[str, ...]


def requirement_name(requirement: str) -> str:
    """The normalised project name (PEP 503) at the start of a requirement (PEP 508)."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    if match is None:
        raise ValueError(f"no project name in the requirement {requirement!r}")
    return re.sub(r"[-_.]+", "-", match[1]).lower()


def pyprojects(root: Path) -> list[Path]:
    """Every `pyproject.toml` of a local distribution, in a stable order."""
    return [*sorted(root.glob("proto/pyproject.toml")), *sorted(root.glob("services/*/pyproject.toml"))]


def read_distributions(root: Path) -> dict[str, Distribution]:
    """The local distributions by name.

    Raises:
        ValueError: A `pyproject.toml` that is not valid; the message names the file.
    """
    found = {}
    for path in pyprojects(root):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            project = table["project"]
            distribution = Distribution(
                folder=path.parent,
                name=requirement_name(project["name"]),
                dependencies=tuple(project.get("dependencies", ())),
                build_requires=tuple(table.get("build-system", {}).get("requires", ())),
            )
        except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        found[distribution.name] = distribution
    return found


def dependency_group(root: Path, group: str) -> tuple[str, ...]:
    """The requirements of a PEP 735 group of the root `pyproject.toml`; empty where there is no such group."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return tuple(table.get("dependency-groups", {}).get(group, ()))


def third_party(distribution: Distribution, every: dict[str, Distribution]) -> set[str]:
    """What a distribution needs from an index: its own requirements and those of the local ones it uses.

    Raises:
        ValueError: It names a local distribution that does not exist.
    """
    needed: set[str] = set()
    waiting, seen = [distribution], {distribution.name}
    while waiting:
        current = waiting.pop()
        for requirement in current.dependencies:
            name = requirement_name(requirement)
            if not name.startswith(PREFIX):
                needed.add(requirement)
            elif name not in every:
                raise ValueError(f"{current.folder}/pyproject.toml needs {name}, which is not in this repository")
            elif name not in seen:
                seen.add(name)
                waiting.append(every[name])
    return needed
