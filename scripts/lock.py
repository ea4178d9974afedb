#!/usr/bin/env python3
"""Pins every dependency with hashes into `requirements/*.txt` (`make lock`); `--check` says which are stale."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dev_env.locks import PYTHON_VERSION, Lock, planned_locks, render, stale_locks

ROOT = Path(__file__).resolve().parent.parent


class LockError(Exception):
    """The locks could not be made; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, offline; exit 1 where a lock is stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of keeping the pins")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return check()
        return lock_all(upgrade=options.upgrade)
    except (LockError, ValueError) as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1


def check() -> int:
    """Says which locks are stale; 0 where none is."""
    faults = stale_locks(ROOT)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print("Run: make lock", file=sys.stderr)
    return 1 if faults else 0


def lock_all(*, upgrade: bool) -> int:
    """Resolves everything together once, so that all locks agree, then writes each with what it needs."""
    planned = planned_locks(ROOT)
    uv = _find_uv()
    (ROOT / "requirements").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        union = Path(folder) / "union.txt"
        if not upgrade:
            union.write_text(_present_pins(planned), encoding="utf-8")  # uv prefers what its output file holds
        everything = Lock("union", tuple(sorted({line for lock in planned for line in lock.requirements})))
        _compile(uv, everything, union)
        for lock in planned:
            resolved = Path(folder) / f"{lock.name}.txt"
            _compile(uv, lock, resolved, constraints=union)
            lock.path(ROOT).write_text(render(lock, resolved.read_text(encoding="utf-8")), encoding="utf-8")
            print(f"requirements/{lock.name}.txt")
    wanted = {lock.path(ROOT) for lock in planned}
    for path in (ROOT / "requirements").glob("*.txt"):
        if path not in wanted:
            path.unlink()
    return 0


def _find_uv() -> str:
    for candidate in (ROOT / ".venv" / "bin" / "uv", shutil.which("uv")):
        if candidate and Path(candidate).is_file():
            return str(candidate)
    raise LockError("uv is missing. `python3 scripts/setup_env.py` installs it.")


def _present_pins(planned: list[Lock]) -> str:
    texts = [lock.path(ROOT).read_text(encoding="utf-8") for lock in planned if lock.path(ROOT).is_file()]
    lines = {line for text in texts for line in re.findall(r"^[a-z0-9][^#\n\\]*", text, re.MULTILINE)}
    return "\n".join(sorted(line.strip() for line in lines)) + "\n"


def _compile(uv: str, lock: Lock, output: Path, *, constraints: Path | None = None) -> None:
    command = [
        uv, "pip", "compile", "-", "--output-file", str(output), "--quiet",
        "--universal", "--python-version", PYTHON_VERSION, "--generate-hashes",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
    ]  # fmt: skip
    if constraints:
        command += ["--constraints", str(constraints)]
    # uv is run outside the repository, so that the root's pyproject.toml is no part of the question.
    done = subprocess.run(
        command,
        input="\n".join(lock.requirements) + "\n",
        text=True,
        cwd=output.parent,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise LockError(f"cannot resolve {lock.name}:\n{done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
