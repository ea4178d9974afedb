"""What runs inside bubblewrap: `python -I -m pagi_sandbox.zygote.within <JSON>`; not for people to start.

Its first process is process 1 of the namespace: it forks the one that runs the tool, reaps what that leaves behind, and
tells the jailer how it ended. The second puts on the layers that bubblewrap does not have (limits, Landlock where the
kernel has it, the rest of our filter), and only then loads the tool and reads what a model wrote.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.domain.tools import BuiltInOptions, built_in
from pagi_sandbox.zygote import child, kernel, landlock, namespaces, seccomp, sight, wire
from pagi_sandbox.zygote.answering import answer, finish
from pagi_sandbox.zygote.bubblewrap import CALL, ENDED, JAILED, REPORT, STDERR, STDOUT
from pagi_sandbox.zygote.jail import limit
from pagi_sandbox.zygote.loading import resolve


def main() -> NoReturn:
    """Runs until the tool ends; the kernel then ends whatever else there is in the namespace."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    sys.path.extend(path for path in told["tools"]["path"] if path not in sys.path)
    # bwrap has set it.
    child.forget("PWD")
    # Without a handler no signal from inside reaches process 1; and its memory and descriptors are closed to the tool.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    waiting, go = os.pipe2(os.O_CLOEXEC)
    worker = os.fork()
    if worker == 0:
        os.close(go)
        os.read(waiting, 1)
        _work(told)
    # Not before the fork: the jailer has to be able to look into the tool.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    for descriptor in (go, waiting, CALL, STDOUT, STDERR):
        os.close(descriptor)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            os.write(REPORT, ENDED.pack(status))
            os._exit(0)


def _work(told: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            _confine(told)
        except (OSError, ValueError):
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os.write(REPORT, JAILED)
        os.dup2(STDOUT, 1)
        os.dup2(STDERR, 2)
        os.closerange(CALL + 1, child.MAX_FILES)
        _serve(told)
        status = 0
    except MemoryError:
        status = wire.EXIT_MEMORY
    finally:
        os._exit(status)


def _confine(told: dict[str, Any]) -> None:
    os.setsid()
    os.umask(0o077)
    # Process 1 counts too.
    limit(told, 1)
    if told["landlock"]:
        rules = landlock.Ruleset(told["landlock"], tcp=not told["network"])
        for path in (*sight.read_only(network=told["network"]), "/proc"):
            rules.allow(path, landlock.READ)
        for path in sight.DEVICES:
            rules.allow(path, landlock.READ_FILE | landlock.WRITE_FILE)
        rules.allow(told["tmp"], landlock.READ_WRITE)
        if told["workspace"]:
            rules.allow(namespaces.WORKSPACE, landlock.READ_WRITE if told["writes"] else landlock.READ)
        rules.enforce()
    seccomp.load(seccomp.close())


def _serve(told: dict[str, Any]) -> None:
    channel = socket.socket(fileno=CALL)
    source = told["tools"]
    options = BuiltInOptions(source["shell"], tuple(source["preload"]), source["monty"])
    tools = _Tools(built_in(options), source["references"])
    if told["pure"]:
        child.answer_all(channel, tools)
    request = child.read_request(channel)
    answered = answer(tools, request, processes=told["processes"])
    finish()
    channel.sendall(answered)


class _Tools(dict[str, Tool]):
    """A package's code is loaded here only, where its tool is called; what it then does is the tool's failure."""

    def __init__(self, own: Iterable[Tool], references: Mapping[str, str]) -> None:
        super().__init__((tool.name, tool) for tool in own)
        self._references = references

    def __missing__(self, name: str) -> Tool:
        tool: Tool = resolve(self._references[name])
        return tool


if __name__ == "__main__":
    main()
