"""Processes for tests: started from source text, heard line by line, never left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest


class Process:
    """A Python program in a process of its own."""

    def __init__(self, program: Path, *arguments: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=program.parent,
            env={"PYTHONUNBUFFERED": "1", **environment},
        )
        self.lines: list[str] = []

    def hear(self, text: str) -> str:
        """Reads up to the first line that holds the text."""
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"it ended without {text!r}: {self.lines}\n{self.popen.stderr.read()}")

    def end(self) -> tuple[int, str]:
        """Waits for the end; its status and what it wrote to standard error."""
        # Not communicate(): it would miss what hear() has read ahead.
        self.lines += self.popen.stdout.read().splitlines()
        return self.popen.wait(), self.popen.stderr.read()


@pytest.fixture
def start(tmp_path):
    """start(source, *arguments, **environment) -> Process"""
    processes = []

    def start(source: str, *arguments: object, **environment: str) -> Process:
        program = tmp_path / "program.py"
        program.write_text(dedent(source))
        processes.append(Process(program, *map(str, arguments), **environment))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        with process.popen:
            pass
