"""Reads the service's memory through /proc/<pid>/mem. Source: proc(5)."""

from pathlib import Path

from probe import TARGET, attempt


def read(pid):
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "[heap]" in line or "rw-p" in line:
            start = int(line.split("-")[0], 16)
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                return len(memory.read(4096))
    raise OSError("nothing is mapped")


attempt("memory of the service", read, TARGET["service"])
attempt("memory of the fork server", read, TARGET["fork_server"])
