"""The tools that come with the sandbox and run in a child process. A new one is added to this list, nowhere else."""

from __future__ import annotations

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.domain.tools.list_files import ListFiles
from pagi_sandbox.domain.tools.math import Math
from pagi_sandbox.domain.tools.python import Python
from pagi_sandbox.domain.tools.read_file import ReadFile
from pagi_sandbox.domain.tools.write_file import WriteFile

BUILT_IN: tuple[Tool, ...] = (ListFiles(), Math(), Python(), ReadFile(), WriteFile())
