"""What a child does between its fork and its end."""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool, ToolContext, ToolFailedError
from pagi_sandbox.zygote import wire


def warm_up(tools: Mapping[str, Tool]) -> None:
    """Takes the way of a call a few times, in the fork server.

    CPython rewrites code that it runs often, and fills caches. Done once here, no child has to copy the pages for it:
    measured, it takes a fifth off a call.
    """
    request = {"tool": "math", "arguments": {"expression": "(1 + 2) * 3"}}
    request |= dict.fromkeys(("session_id", "effect_id", "tenant", "trace_id"), "") | {"configuration": {}}
    for _ in range(16):
        _answer(tools, json.loads(json.dumps(request)))


def serve(call: int, tools: Mapping[str, Tool]) -> NoReturn:
    """Reads the request, runs the tool, answers, and ends the process without ever returning.

    Args:
        call: the descriptor of the call's socket.
        tools: by name.
    """
    status = 1
    try:
        channel = socket.socket(fileno=call)
        request = _read(channel)
        _confine(request)
        answer = _answer(tools, request)
        _join_threads()
        _flush()
        channel.sendall(answer)
        status = 0
    except MemoryError:
        status = wire.EXIT_MEMORY
    finally:
        # Not sys.exit: nothing of the fork server (its exit handlers, its buffers) is the child's to end.
        os._exit(status)


def _read(channel: socket.socket) -> dict[str, Any]:
    (length,) = wire.LENGTH.unpack(_exactly(channel, wire.LENGTH.size))
    request: dict[str, Any] = json.loads(_exactly(channel, length))
    return request


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = channel.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise EOFError("the service went away before the request was whole")
    return data


def _confine(request: dict[str, Any]) -> None:
    os.chdir(request["workspace"])
    memory, seconds = request["memory_bytes"], request["cpu_seconds"]
    # The soft limit of the CPU ends the call with SIGXCPU, which is told apart from a crash; the hard one ends what
    # ignores that. Wall time is the service's to watch; this holds even where the service is gone.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _answer(tools: Mapping[str, Tool], request: dict[str, Any]) -> bytes:
    context = ToolContext(
        workspace=Path(),
        session_id=request["session_id"],
        effect_id=request["effect_id"],
        tenant=request["tenant"],
        trace_id=request["trace_id"],
        configuration=request["configuration"],
    )
    try:
        output = tools[request["tool"]].run(request["arguments"], context)
        return wire.OK + json.dumps(dict(output), allow_nan=False).encode("ascii")
    except ToolFailedError as error:
        return wire.FAILED + str(error).encode("utf-8", "backslashreplace")
    except MemoryError:
        return wire.MEMORY
    except BaseException as error:  # noqa: BLE001 a tool may raise anything; it is the tool's failure, not ours
        traceback.print_exc()
        return wire.FAILED + f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace")


def _join_threads() -> None:
    """Waits for the threads that the tool started, as an interpreter does before it ends."""
    # Not imported by us: importing it makes each fork 0.3 ms slower.
    threading = sys.modules.get("threading")
    if threading is None:
        return
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the tool closed it; what it had printed before is out
