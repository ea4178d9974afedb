"""shell: runs a command line in the child process it is called in."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError

MAX_CHARACTERS = 100_000
_SHELLS = ("/bin/bash", "/bin/sh")
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Python ignores these, and a program that is started would inherit that: `yes | head` would never end well.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


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
        home = str(context.workspace.absolute())
        environment = {"PATH": _PATH, "HOME": home, "PWD": home, "LANG": "C.UTF-8"}
        try:
            pid = os.posix_spawn(shell, [shell, "-c", command], environment, setsigdef=_DEFAULT_SIGNALS)
        except OSError as error:
            raise ToolFailedError(f"{shell} cannot be started: {error.strerror}") from error
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return {"exit_code": code if code >= 0 else 128 - code}
