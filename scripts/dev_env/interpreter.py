"""The Python that a script needs: that of `.venv`, whichever one it was started with."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def use_venv(root: Path = ROOT) -> None:
    """Starts the running script anew in `.venv` where this Python has no packages of the mesh.

    Raises:
        SystemExit: There is no such environment; the text says how to make it.
    """
    if importlib.util.find_spec("pagi_chassis") is not None:
        return
    venv = root / ".venv"
    python = venv / "bin" / "python"
    if not python.is_file() or Path(sys.prefix).resolve() == venv.resolve():
        raise SystemExit(f"{Path(sys.argv[0]).name}: the mesh is not installed in {venv}; `make setup` does it")
    os.execv(python, [str(python), *sys.orig_argv[1:]])
