"""Starts the agent-planner: `python -m pagi_planner`."""

from __future__ import annotations

from pagi_chassis.lifecycle import run

from pagi_planner.bootstrap import build
from pagi_planner.settings import PlannerSettings


def main() -> None:
    """Runs until a signal ends it."""
    run("agent-planner", PlannerSettings, build)


if __name__ == "__main__":
    main()
