"""The lock files under `requirements/`: which there are, what goes into each, and whether each is fresh."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dev_env.distributions import PREFIX, dependency_group, read_distributions, third_party

PYTHON_VERSION = "3.11"
FORBIDDEN = ("torch", "sentence-transformers")  # an extra of memory's, three gigabytes; never in a default set-up
_FORMAT = "1"  # raise it when the way the locks are made changes
_DIGEST = re.compile(r"^# inputs-sha256: ([0-9a-f]{64})$", re.MULTILINE)
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """One lock file: `requirements/<name>.txt`."""

    name: str
    requirements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of everything that decides what the file holds, but for the index's state on the day."""
        lines = "\n".join([_FORMAT, PYTHON_VERSION, *self.requirements])
        return hashlib.sha256(lines.encode()).hexdigest()

    def path(self, root: Path) -> Path:
        """Where the file is."""
        return root / "requirements" / f"{self.name}.txt"


def planned_locks(root: Path) -> list[Lock]:
    """Every lock that the `pyproject.toml` files ask for; `run` holds the union of the services."""
    every = read_distributions(root)
    services = [one for one in every.values() if one.folder.parent.name == "services"]
    needs = {one.folder.name: third_party(one, every) for one in services}
    run = set().union(*needs.values(), dependency_group(root, "mesh"))
    # hatchling needs editables for installations in place and says so only to a frontend that isolates builds.
    build = {"editables>=0.5"} | {
        line for one in every.values() for line in one.build_requires if not line.startswith(PREFIX)
    }
    # The chassis is a library: it has no image of its own.
    needs.pop("chassis", None)
    wanted = {"run": run, "dev": set(dependency_group(root, "dev")), "build": build, "uv": {"uv>=0.9"}, **needs}
    return [Lock(name, tuple(sorted(requirements))) for name, requirements in wanted.items()]


def render(lock: Lock, resolved: str) -> str:
    """The text of a lock file.

    Args:
        lock: What was resolved.
        resolved: What the resolver printed: pins with hashes.

    Raises:
        ValueError: It holds what no lock may hold: a URL, a path or a forbidden package.
    """
    text = f"# Made by `make lock`; do not edit.\n# inputs-sha256: {lock.digest}\n{resolved.strip()}\n"
    if faults := forbidden_content(text):
        raise ValueError(f"requirements/{lock.name}.txt would hold {', '.join(faults)}")
    return text


def forbidden_content(text: str) -> list[str]:
    """What a lock's text holds although it may not: URLs, paths, packages that are never installed by default."""
    faults = [line.strip() for line in text.splitlines() if "://" in line or re.search(r"(^|[\s@=])/\w", line)]
    return faults + [name for name in pins(text) if name in FORBIDDEN]


def pins(text: str) -> dict[str, set[str]]:
    """Project name to pinned versions; more than one where markers choose between them."""
    found: dict[str, set[str]] = {}
    for name, version in _PIN.findall(text):
        found.setdefault(name, set()).add(version)
    return found


def stale_locks(root: Path) -> list[str]:
    """One sentence for each lock that does not fit its inputs or its neighbours; empty: all fresh. Needs no network."""
    planned = planned_locks(root)
    faults = [fault for lock in planned if (fault := _fault(lock, root))]
    expected = {lock.path(root) for lock in planned}
    faults += [
        f"requirements/{path.name} belongs to nothing"
        for path in sorted((root / "requirements").glob("*.txt"))
        if path not in expected
    ]
    return faults or _disagreements(planned, root)


def _fault(lock: Lock, root: Path) -> str:
    path = lock.path(root)
    if not path.is_file():
        return f"requirements/{path.name} is missing"
    text = path.read_text(encoding="utf-8")
    digest = _DIGEST.search(text)
    if digest is None or digest[1] != lock.digest:
        return f"requirements/{path.name} is stale: what it is made from has changed"
    if faults := forbidden_content(text):
        return f"requirements/{path.name} may not hold {', '.join(faults)}"
    return ""


def _disagreements(planned: list[Lock], root: Path) -> list[str]:
    seen: dict[str, tuple[str, set[str]]] = {}
    faults = []
    for lock in planned:
        for name, versions in pins(lock.path(root).read_text(encoding="utf-8")).items():
            first, others = seen.setdefault(name, (lock.name, versions))
            if versions != others:
                faults.append(f"requirements/{lock.name}.txt and {first}.txt pin {name} differently")
    return faults
