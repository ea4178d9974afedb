"""python, for systems without Landlock: an interpreter of a part of the language that can reach nothing by itself.

`pydantic-monty` runs the code in a worker process, a program in Rust without Python's libraries. It has no limits but
those that it is given: they are taken from those of the child that this tool runs in, which hold the worker besides.
"""

from __future__ import annotations

import resource
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.python import MAX_VALUE, Python

_WORKSPACE = "/workspace"
# Address space that the worker's own code and threads take, and what is left to the code at least.
_OWN_BYTES, _LEAST_BYTES = 96 * 2**20, 16 * 2**20
_MOST_BYTES = 512 * 2**20
_MOST_S = 600.0
_DEPTH = 1000
# Each use of a file, and each sleep, is one.
_SUSPENSIONS = 100_000


class MontyPython:
    """Runs Python code in Monty."""

    name = "python"
    parameters: Mapping[str, Any] = Python.parameters
    description = (
        "Run Python code in a small interpreter with a part of the language and of the standard library: functions, "
        "classes, comprehensions, async, and of modules mainly math, re, json, datetime, random, collections, "
        "itertools and pathlib. Not there: most other modules (ModuleNotFoundError tells), installed packages, "
        "processes, threads, environment variables, network, input. Files are read and written with open() and "
        "pathlib in this conversation's workspace, the current directory. What it prints is captured; the value of a "
        "final expression comes back as value. Nothing else is kept between calls."
    )
    effects = Effects.EFFECTFUL
    permissions = (Permission.WORKSPACE_READ, Permission.WORKSPACE_WRITE)
    minimum_profile = "L0"
    # It starts threads and a process, which neither the fork server nor a child that is not jailed yet may have.
    rehearsed = False

    def __init__(self) -> None:
        """Loads the library, in the fork server; its import starts no thread.

        Raises:
            ImportError: the extra `monty` is not installed.
        """
        import pydantic_monty  # an extra, so only where it was asked for

        self._monty = pydantic_monty
        program = Path(sysconfig.get_path("scripts"), "monty")
        self._program = program if program.is_file() else None

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"value": repr of the final expression, or null}; an exception fails with its traceback."""
        monty = self._monty
        try:
            with (
                monty.Monty(binary_path=self._program, min_processes=1, max_processes=1) as pool,
                monty.MountDir(
                    host_path=context.workspace,
                    virtual_path=_WORKSPACE,
                    mode="read-write",
                    write_bytes_limit=_limit(resource.RLIMIT_FSIZE, _MOST_BYTES),
                ) as mount,
                pool.checkout(
                    script_name="<code>", limits=_limits(), os_policy={"sleep_system_max": _MOST_S}
                ) as session,
            ):
                value = session.feed_run(arguments["code"], print_callback=_print, mount=mount, cwd=_WORKSPACE)
        except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
            raise _told(error) from error
        except monty.MontyError as error:
            raise ToolFailedError(f"the interpreter's process ended: {error}") from error
        return {"value": None if value is None else _cut(repr(value))}


def _limits() -> dict[str, Any]:
    """Whatever Monty can bound, for without a bound it has none.

    Its memory ends before the address space does, so that the code gets a MemoryError. Its clock measures wall time
    while code runs; on a busy machine that is many times the processor time, whose end is the jailer's to see, as the
    end of the call's wall time is the service's.
    """
    seconds = min(10.0 * _limit(resource.RLIMIT_CPU, int(_MOST_S)), _MOST_S)
    return {
        "max_memory": max(_limit(resource.RLIMIT_AS, _MOST_BYTES + _OWN_BYTES) - _OWN_BYTES, _LEAST_BYTES),
        "max_feed_duration_secs": seconds,
        "max_turn_duration_secs": seconds,
        "max_total_sleep_secs": _MOST_S,
        "max_recursion_depth": _DEPTH,
        "max_suspensions": _SUSPENSIONS,
    }


def _limit(which: int, otherwise: int) -> int:
    soft, _ = resource.getrlimit(which)
    return otherwise if soft == resource.RLIM_INFINITY else soft


def _print(stream: str, text: str) -> None:
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(text)
    target.flush()


def _told(error: Any) -> BaseException:
    """What the code's own exception is for the caller."""
    inner = error.exception()
    if isinstance(inner, MemoryError):
        return inner
    if isinstance(inner, SystemExit):
        return ToolFailedError(f"the code ended itself with sys.exit({inner.code!r})")
    return ToolFailedError(_cut(error.display()))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... ({len(text)} characters)"
