#!/usr/bin/env python3
"""Runs the whole mesh on this machine: a Redis-protocol server and the five services, each its own process.

Ctrl-C stops everything. Needs .venv, which `python3 scripts/setup_env.py` makes (`make run-dev` does both).
"""

from __future__ import annotations

import argparse
import queue
import sys
from pathlib import Path

from dev_mesh import launch, status
from dev_mesh.console import Console
from dev_mesh.detached import start_detached
from dev_mesh.errors import MeshError
from dev_mesh.services import PROFILES

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=PROFILES, default="core", help="which services (default: core)")
    parser.add_argument("--mtls", action="store_true", help="mutual TLS between the services, certificates made")
    parser.add_argument("--ready-timeout", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--detach", action="store_true", help="return when all is ready, and leave it running")
    action.add_argument("--status", action="store_true", help="show what runs; 0: all ready, 1: not all, 3: nothing")
    action.add_argument("--stop", action="store_true", help="stop what runs")
    options = parser.parse_args(arguments)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    console = Console(sys.stdout, on_closed=lambda: signals.put(0))
    lock, state = launch.lock_and_state(ROOT)
    if options.status:
        return status.show(state, console)
    if options.stop:
        return status.stop(state, lock, console)
    if options.detach:
        given = sys.argv[1:] if arguments is None else arguments
        return start_detached([__file__, *(one for one in given if one != "--detach")], ROOT, console)
    launch.catch_signals(signals)
    try:
        return launch.run(launch.Options(ROOT, options.mtls, options.ready_timeout), console, signals)
    except MeshError as error:
        console.progress("")
        console.warn(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
