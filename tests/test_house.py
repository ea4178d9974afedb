"""What a machine can check of the rules of the house: imports, rooms, names, sizes, dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "agent-planner": "pagi_planner",
    "model-gateway": "pagi_gateway",
    "memory": "pagi_memory",
    "sandbox": "pagi_sandbox",
    "notification-subscriber": "pagi_notifier",
}
SOURCES = {service: ROOT / "services" / service / "src" / package for service, package in PACKAGES.items()}
CHASSIS = ROOT / "services" / "chassis" / "src" / "pagi_chassis"
REQUIRED = {"__init__.py", "__main__.py", "bootstrap.py", "adapters", "domain", "settings.py", "testing.py", "py.typed"}
EDGES = {"servicer.py", "routes", "subscriber.py"}
ALLOWED = REQUIRED | EDGES | {"convert.py", "schemas.py"}
# Rooms that only one service has: the sandbox's warm parent process, and the weights of memory's embedder.
OWN = {"sandbox": {"zygote"}, "memory": {"weights"}}
MOST_LINES = 400
# Each service has its own pyproject.toml, and so has what they share.
PROJECTS = sorted((ROOT / "services").glob("*/pyproject.toml"))


def python_files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*.py")) if not path.stem.endswith(("_pb2", "_pb2_grpc")))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_keep_the_contract():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", PACKAGES)
def test_each_service_has_the_same_rooms(service):
    rooms = {path.name for path in SOURCES[service].iterdir() if path.name != "__pycache__"}
    assert not REQUIRED - rooms, "rooms that are missing"
    assert not rooms - ALLOWED - OWN.get(service, set()), "rooms that no other service has"
    assert rooms & EDGES, "it has no edge"
    assert {"model.py", "ports.py", "errors.py"} <= {path.name for path in (SOURCES[service] / "domain").iterdir()}


def test_no_file_is_a_dumping_ground():
    names = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)(_|$)|^shared$")
    found = [shown(path) for path in (ROOT / "services").rglob("*") if names.search(path.stem.lower())]
    assert found == []


def test_no_class_is_named_for_its_place_in_a_hierarchy():
    bad = re.compile(r"^_?Base[A-Z]|Impl$|Manager$|Helper$|Utils?$")
    classes = [
        f"{shown(path)}: {node.name}"
        for path in python_files(ROOT / "services", ROOT / "scripts")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and bad.search(node.name)
    ]
    assert classes == []


def test_no_file_is_longer_than_can_be_read_at_once():
    folders = [CHASSIS, *SOURCES.values(), ROOT / "scripts", ROOT / "benchmarks"]
    lengths = {shown(path): len(path.read_text().splitlines()) for path in python_files(*folders)}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_only_settings_read_the_environment():
    # The zygote empties its own, so that no tool inherits anything; a child gets four variables of the jail's, and the
    # canary tries to read those of others.
    zygote = {SOURCES["sandbox"] / "zygote" / name for name in ("__main__.py", "child.py", "canary.py")}
    allowed = {CHASSIS / "settings.py", *zygote}
    readers = [
        shown(path)
        for path in python_files(CHASSIS, *SOURCES.values())
        if re.search(r"\benviron\b|\bgetenv\b", path.read_text()) and path not in allowed
    ]
    assert readers == []


def test_every_setting_is_described():
    code = f"""
import importlib
from pagi_chassis.settings import ServiceSettings
for package in {list(PACKAGES.values())}:
    for kind in vars(importlib.import_module(package + ".settings")).values():
        if isinstance(kind, type) and issubclass(kind, ServiceSettings):
            for name, field in kind.model_fields.items():
                if not field.description:
                    print(kind.__name__, name)
"""
    # In a process of its own: five services' modules need not stay in this one.
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_each_distribution_says_what_it_is(project):
    table = tomllib.loads(project.read_text())
    assert table["project"]["name"].startswith("pagi-")
    assert table["project"]["license"] == "Apache-2.0"
    assert table["project"]["requires-python"] == ">=3.11"
    assert table["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["src"], "else an editable install needs `editables`"
    for dependency in table["project"]["dependencies"]:
        assert dependency.startswith("pagi-") or ">=" in dependency, f"{dependency} has no lower bound"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_each_distribution_declares_what_it_imports_and_nothing_else(project):
    project_table = tomllib.loads(project.read_text())["project"]
    extras = [item for items in project_table.get("optional-dependencies", {}).values() for item in items]
    declared = {distribution_of_requirement(item) for item in project_table["dependencies"]}
    optional = {distribution_of_requirement(item) for item in extras}
    imported = third_party(project.parent / "src")
    assert imported - declared - optional == set(), "imported and not declared"
    assert declared - imported - IMPORTED_BY_OTHERS == set(), "declared and not imported"


# Chosen by a string: uvicorn's `http="httptools"` and `ws="websockets-sansio"`.
IMPORTED_BY_OTHERS = {"httptools", "websockets"}


def distribution_of_requirement(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def third_party(source: Path) -> set[str]:
    """The distributions that the modules of a folder import, those of its own package left out."""
    owners = packages_distributions()
    own = {path.name for path in source.iterdir()}
    found = set()
    for path in python_files(source):
        for name in imports_of(path):
            top = name.split(".")[0]
            if top in own or top in sys.stdlib_module_names:
                continue
            found |= {min(candidates(name, owners), key=len)}
    return found


def candidates(name: str, owners: dict[str, list[str]]) -> set[str]:
    """Who provides a module; a namespace has many owners, so the longest name that is known decides."""
    known = {
        "pagi": "pagi-proto",
        "pagi_chassis": "pagi-chassis",
        "google.protobuf": "protobuf",
        "google.rpc": "googleapis-common-protos",
        "opentelemetry.sdk": "opentelemetry-sdk",
        "opentelemetry.exporter": "opentelemetry-exporter-otlp",
        "opentelemetry": "opentelemetry-api",
    }
    for prefix in sorted(known, key=len, reverse=True):
        if name == prefix or name.startswith(f"{prefix}."):
            return {known[prefix]}
    top = name.split(".")[0]
    # What is not installed (an extra) is taken to be named like its module.
    return {owner.lower().replace("_", "-") for owner in owners.get(top, [top])}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
