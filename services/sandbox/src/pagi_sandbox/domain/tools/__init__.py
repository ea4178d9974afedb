"""The tools that come with the sandbox and run in a child process. A new one is added to this list, nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.domain.tools.delete_file import DeleteFile
from pagi_sandbox.domain.tools.fetch_url import FetchUrl
from pagi_sandbox.domain.tools.list_files import ListFiles
from pagi_sandbox.domain.tools.math import Math
from pagi_sandbox.domain.tools.python import Python
from pagi_sandbox.domain.tools.python_monty import MontyPython
from pagi_sandbox.domain.tools.read_file import ReadFile
from pagi_sandbox.domain.tools.shell import Shell
from pagi_sandbox.domain.tools.web_search import WebSearch
from pagi_sandbox.domain.tools.write_file import WriteFile


@dataclass(frozen=True, slots=True)
class BuiltInOptions:
    """What the operator may choose of them. No secret: every tool's process can read it in its own memory.

    Attributes:
        shell: whether there is `shell`.
        preload: modules that the fork server imports for `python`.
        monty: whether `python` is the interpreter of `pydantic-monty`, which needs no isolation.
    """

    shell: bool = False
    preload: tuple[str, ...] = ()
    monty: bool = False


def built_in(options: BuiltInOptions) -> tuple[Tool, ...]:
    """The built-in tools.

    Raises:
        ImportError: an interpreter was chosen that is not installed.
    """
    python = MontyPython() if options.monty else Python(options.preload)
    shell = (Shell(),) if options.shell else ()
    files = (DeleteFile(), ListFiles(), ReadFile(), WriteFile())
    return (*files, FetchUrl(), Math(), python, WebSearch(), *shell)
