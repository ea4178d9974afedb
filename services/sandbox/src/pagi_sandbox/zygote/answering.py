"""Runs a tool in a child and puts its answer, or what stopped it, into bytes."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.tool import Tool, ToolContext, ToolFailedError
from pagi_sandbox.zygote import canary, wire

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Code of every common kind, without an effect.
_NOTHING = {"code": "import sys\ndef f(x):\n    return [x]\nprint(*(f(''))[:0], end='')\nf(1) and None"}
_FORKS = ("fork", "spawn", "Popen", "subprocess")


def warm_up(tools: Mapping[str, Tool]) -> None:
    """Takes the way of a call a few times, in the fork server.

    CPython rewrites code that it runs often, and fills caches. Done once here, no child has to copy the pages for it:
    measured, it takes a fifth off a call.
    """
    for _ in range(16):
        rehearse(tools, "math", {"expression": "(1 + 2) * 3"})
        rehearse(tools, "python", _NOTHING)


def rehearse(tools: Mapping[str, Tool], tool: str = "python", arguments: Mapping[str, Any] | None = None) -> None:
    """Takes the way of a call once, in a child that waits for its work.

    It writes to some hundred pages that it shares with the fork server, and each costs a fault and a copy the first
    time. Now nobody waits for that.
    """
    if not getattr(tools[tool], "rehearsed", True):
        return
    request = {"tool": tool, "arguments": _NOTHING if arguments is None else arguments, "configuration": {}}
    request |= dict.fromkeys(("session_id", "effect_id", "tenant", "trace_id"), "")
    answer(tools, json.loads(json.dumps(request)), processes=0)
    finish()


def answer(tools: Mapping[str, Tool], request: Mapping[str, Any], *, processes: int) -> bytes:
    """The tool's answer, whatever it does.

    Args:
        tools: by name.
        request: which one, with which arguments.
        processes: how many tasks it may have; tells a thread that was refused from one without memory.
    """
    context = ToolContext(
        workspace=Path(),
        session_id=request["session_id"],
        effect_id=request["effect_id"],
        tenant=request["tenant"],
        trace_id=request["trace_id"],
        configuration=request["configuration"],
    )
    try:
        if request["tool"] == canary.NAME:
            output: Mapping[str, Any] = canary.sing(request["arguments"])
        else:
            output = tools[request["tool"]].run(request["arguments"], context)
        return wire.OK + json.dumps(dict(output), allow_nan=False).encode("ascii")
    except ToolFailedError as error:
        return _kind(error, processes) + _bytes(str(error))
    except MemoryError:
        return wire.MEMORY
    except BaseException as error:  # noqa: BLE001 a tool may raise anything; it is the tool's failure, not ours
        traceback.print_exc()
        return _kind(error, processes) + _bytes(f"{type(error).__name__}: {error}")


def finish() -> None:
    """Waits for the threads that the tool started, as an interpreter does before it ends; then prints what it kept."""
    # Not imported by us: importing it makes each fork 0.3 ms slower.
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the tool closed it; what it had printed before is out


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _kind(error: BaseException, processes: int) -> bytes:
    """Which limit a failure comes from, if it does."""
    for one in _chain(error):
        if isinstance(one, MemoryError):
            return wire.MEMORY
        if isinstance(one, OSError) and one.errno in _NO_ROOM:
            return wire.DISK
        if isinstance(one, BlockingIOError) and _forked(one):
            return wire.PROCESSES
        if isinstance(one, RuntimeError) and "can't start new thread" in str(one):
            # The kernel says EAGAIN for both; the C library for a stack that does not fit, too.
            tasks = sum(1 for _ in Path("/proc/self/task").iterdir()) if processes else 0
            return wire.PROCESSES if processes and tasks >= processes - 1 else wire.MEMORY
    return wire.FAILED


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _forked(error: OSError) -> bool:
    """Whether it was a fork that was told to come back later, not a pipe that was empty."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        bool(frames)
        and any(
            word in f"{os.path.basename(frame.filename)} {frame.line}"  # noqa: PTH119 cheaper here
            for frame in frames[-2:]
            for word in _FORKS
        )
    )
