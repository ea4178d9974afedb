"""Writes the map of its user namespace, to be root in its own."""

from pathlib import Path

from probe import attempt

attempt("setgroups", Path("/proc/self/setgroups").write_text, "deny")
attempt("uid_map", Path("/proc/self/uid_map").write_text, "0 0 1")
