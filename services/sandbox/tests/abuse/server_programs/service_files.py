"""Reads and writes what the service keeps: its database, sessions' workspaces, its directory and its log."""

import os
from pathlib import Path

from probe import TARGET, attempt

attempt("read the database", lambda: Path(TARGET["database"]).read_bytes()[:50])
attempt("list the workspaces", os.listdir, TARGET["workspaces"])
attempt("plant a file in the workspaces", Path(TARGET["workspaces"], "planted").write_text, "x")
attempt("read the log", lambda: Path(TARGET["database"]).parents[1].with_suffix(".log").read_bytes()[:50])
attempt("replace the database", os.rename, Path(TARGET["database"]), Path.home() / "stolen.db")
