"""shell: runs a command line in the child process it is called in."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError

MAX_CHARACTERS = 100_000
_SHELLS = ("/bin/bash", "/bin/sh")


class Shell:
    """Runs a command line."""

    name = "shell"
    description = (
        "Run a command line with bash (sh where there is none), in this conversation's workspace, and see what it "
        "prints and its exit code. For files, text tools and programs that are installed here; there is no network, "
        "no terminal and no input. Files that it writes stay; variables and background processes do not."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "command": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_CHARACTERS,
                "description": "For example: wc -l *.csv | sort -n",
            }
        },
        "required": ["command"],
        "additionalProperties": False,
    }
    effects = Effects.EFFECTFUL
    permissions = (Permission.WORKSPACE_READ, Permission.WORKSPACE_WRITE, Permission.SUBPROCESS)
    minimum_profile = "L1"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"exit_code"}, as a shell tells it: 128 and the signal's number where a signal ended it."""
        command = arguments["command"]
        if "\0" in command:
            raise ToolFailedError("the command holds a NUL character")
        shell = next((path for path in _SHELLS if Path(path).exists()), None)
        if shell is None:
            raise ToolFailedError("this machine has neither /bin/bash nor /bin/sh")
        try:
            pid = os.fork()
        except OSError as error:
            raise ToolFailedError(f"{shell} cannot be started: {error.strerror}") from error
        if pid == 0:
            _become(shell, command)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return {"exit_code": code if code >= 0 else 128 - code}


def _become(shell: str, command: str) -> NoReturn:
    """Turns the process into the shell, with the environment that the jail has set."""
    try:
        # Python ignores these, and a program that is started would inherit that: `yes | head` would never end well.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execv(shell, [shell, "-c", command])  # noqa: S606 what this tool is for, in the jail of its own call
    finally:
        os._exit(126)
