"""Scripts that are started with a Python that has none of the mesh's packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def started(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script in its own folder, by an interpreter without site-packages."""
    script = tmp_path / "some_script.py"
    script.write_text(
        f"import sys, pathlib\nsys.path.insert(0, {str(SCRIPTS)!r})\n"
        f"from dev_env.interpreter import use_venv\nuse_venv(pathlib.Path({str(tmp_path)!r}))\n"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", str(script), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_who_has_not_set_up_is_told_how(tmp_path):
    done = started(tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [f"some_script.py: the mesh is not installed in {tmp_path / '.venv'}; `make setup` does it"],
    )


def test_the_environment_of_the_checkout_goes_on_with_the_same_arguments(tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    done = started(tmp_path, "--rebuild", "x y")
    assert done.stdout == f"-I -S {tmp_path / 'some_script.py'} --rebuild x y\n", done.stderr
