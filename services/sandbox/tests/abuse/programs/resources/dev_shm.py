"""Writes to /dev/shm: memory that outlives the call."""

from pathlib import Path

from probe import TARGET, attempt

attempt("write to /dev/shm", Path(f"/dev/shm/{TARGET['mark']}").write_bytes, b"left behind")
