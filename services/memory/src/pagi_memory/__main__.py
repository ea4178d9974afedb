"""Starts the memory service: `python -m pagi_memory`."""

from __future__ import annotations

from pagi_chassis.lifecycle import run

from pagi_memory.bootstrap import build
from pagi_memory.settings import MemorySettings


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    run("memory", MemorySettings, build)


if __name__ == "__main__":
    main()
