"""Writes to /dev/shm: memory that outlives the call. What it leads to is looked at from outside."""

from pathlib import Path

from probe import TARGET, trying

trying("write to /dev/shm", Path(f"/dev/shm/{TARGET['mark']}").write_bytes, b"left behind")
