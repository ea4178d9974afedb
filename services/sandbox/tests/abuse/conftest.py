"""Says at the end how the campaigns went."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The suite's own modules: `abuse.campaign` and others.
sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def python() -> Iterator[Path]:
    """An interpreter that an ordinary user can run."""
    # Not above: where they are to be found was told only now.
    from abuse.campaign import ORDINARY_UIDS
    from abuse.readable_python import NoReadableInterpreterError, readable_interpreter

    folder = Path(tempfile.mkdtemp(prefix="pagi-abuse-python-"))
    folder.chmod(0o755)
    try:
        yield readable_interpreter(folder / "python", ORDINARY_UIDS[0] if os.geteuid() == 0 else os.geteuid())
    except NoReadableInterpreterError as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many programs did no harm, by user and profile, and which a missing layer let through."""
    from abuse.campaign import SUMMARY

    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.section("abuse of the sandbox")
    for line in lines:
        terminalreporter.write_line(line)
