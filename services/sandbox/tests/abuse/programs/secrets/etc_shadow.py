"""Reads the password hashes. Source: CWE-552."""

from pathlib import Path

from probe import attempt

attempt("read /etc/shadow", Path("/etc/shadow").read_text)
