"""Reads a world-readable file outside the workspace. Source: the first thing that any agent's code tries."""

from pathlib import Path

from probe import TARGET, attempt

attempt("read a file outside", Path(TARGET["secret"]).read_text)
