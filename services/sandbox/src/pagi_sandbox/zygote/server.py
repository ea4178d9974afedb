"""The fork server's loop: takes descriptors, forks, kills, reaps. One thread, no state but the calls that run."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.zygote import child, wire

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MAX_FILES = 256
# How many processes more than at the start the user may have. The kernel counts all of a user's, so there is no
# smaller bound without a user of the sandbox's own; root is not bound at all.
_MORE_PROCESSES = 512


class ForkServer:
    """Serves one service over one socket until that socket ends."""

    def __init__(self, channel: socket.socket, tools: Mapping[str, Tool], *, max_file_bytes: int) -> None:
        """`channel` is the fork server's end, blocking."""
        self._channel = channel
        self._tools = tools
        self._max_file_bytes = max_file_bytes
        self._calls: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._pid = os.getpid()
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Runs until the service goes away; then ends every call."""
        self._set_up()
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        try:
            while True:
                ready = [descriptor for descriptor, _ in poller.poll()]
                # The dead first: a number that is used again must find its old call gone.
                if self._wakeup in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wakeup, 4096)
                    self._reap()
                if self._channel.fileno() in ready and not self._receive():
                    return
        finally:
            for pid in self._calls.values():
                _kill_group(pid)

    def _set_up(self) -> None:
        # What a tool leaves behind comes back to us to be reaped, instead of to whoever is process 1.
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Same for every call, so set once and inherited.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _lower(resource.RLIMIT_NOFILE, _MAX_FILES)
        _lower(resource.RLIMIT_FSIZE, self._max_file_bytes)
        if os.geteuid() != 0:
            _lower(resource.RLIMIT_NPROC, _tasks_of(os.getuid()) + _MORE_PROCESSES)

    def _receive(self) -> bool:
        message, descriptors, flags, _ = socket.recv_fds(self._channel, 64, 3, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        kind, number = wire.HEADER.unpack(message)
        try:
            if kind == wire.RUN and len(descriptors) == 3 and not flags & socket.MSG_CTRUNC:
                self._fork(number, *descriptors)
            elif kind == wire.KILL and number in self._calls:
                _kill_group(self._calls[number])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork(self, number: int, call: int, stdout: int, stderr: int) -> None:
        try:
            pid = os.fork()
        except OSError:
            # No process to be had: the service hears that the call ended before it began.
            self._say(wire.EXITED, number, wire.STATUS.pack(-1))
            return
        if pid == 0:
            self._become_child(call, stdout, stderr)
        self._calls[number] = pid
        self._numbers[pid] = number
        self._say(wire.FORKED, number, wire.PID.pack(pid))

    def _become_child(self, call: int, stdout: int, stderr: int) -> NoReturn:
        try:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self._pid:
                os._exit(1)  # the fork server died before we could ask to be told
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.closerange(3, call)
            os.closerange(call + 1, _MAX_FILES)
            child.serve(call, self._tools)
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                if not self._calls:
                    _end_strays()
                return
            number = self._numbers.pop(ended.si_pid, None)
            if number is not None:
                # While the leader is not reaped its number cannot be used again, so this meets its group only.
                _kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            if number is not None:
                del self._calls[number]
                self._say(wire.EXITED, number, wire.STATUS.pack(status))

    def _say(self, kind: bytes, number: int, body: bytes) -> None:
        # A service that is gone is noticed by the next receive.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(wire.HEADER.pack(kind, number) + body)


def _kill_group(pid: int) -> None:
    """Ends the process group that the child leads; before its setsid() there is only the child itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
        return
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _end_strays() -> None:
    """Ends what calls that are over left behind in sessions of their own.

    Only where no call runs: as long as one does, nothing tells its processes from those of another.
    """
    with suppress(FileNotFoundError):  # a kernel without CONFIG_PROC_CHILDREN
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            _kill_group(int(pid))
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _tasks_of(uid: int) -> int:
    """How many tasks (threads count) the user has now."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if process.stat().st_uid == uid:
                    count += sum(1 for _ in (process / "task").iterdir())
    return count
