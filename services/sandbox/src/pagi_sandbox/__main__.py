"""Entry of the sandbox service: `python -m pagi_sandbox`."""

from __future__ import annotations

from pagi_chassis.lifecycle import run

from pagi_sandbox.bootstrap import build
from pagi_sandbox.settings import SandboxSettings


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    run("sandbox", SandboxSettings, build)


if __name__ == "__main__":
    main()
