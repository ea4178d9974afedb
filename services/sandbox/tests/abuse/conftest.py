"""Says at the end how the campaigns went."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The suite's own modules: `abuse.campaign` and others.
sys.path.insert(0, str(Path(__file__).parents[1]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many programs did no harm, by user and profile, and which a missing layer let through."""
    from abuse.campaign import SUMMARY

    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.section("abuse of the sandbox")
    for line in lines:
        terminalreporter.write_line(line)
