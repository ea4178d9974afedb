"""One call in the fork server: its descriptors, what came of them, and the verdict."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

from pagi_chassis.errors import UnavailableError

from pagi_sandbox.adapters.fork_answer import Ending, read_ending
from pagi_sandbox.adapters.fork_orders import request_of
from pagi_sandbox.domain.model import Isolation, Stream, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.ports import CallWatcher

# The largest answer that a tool may give; with the largest output it stays below the 16 MiB of a gRPC message.
MAX_ANSWER_BYTES = 4 * 2**20
_CHUNK = 65_536
# What ends sooner is not watched: nobody is waked up for it.
_LASTS_S = 0.025


class ForkCall:
    """Collects what a child writes, until its jailer says that it is gone.

    Everything happens in callbacks of the loop, so that a call whose caller went away is still taken to its end.
    """

    def __init__(
        self,
        call: ToolCall,
        isolation: Isolation,
        kill: Callable[[], None],
        watcher: CallWatcher | None = None,
        lasts: Callable[[], None] = lambda: None,
    ) -> None:
        """`kill` ends everything that the call started; the end is told through `exited`.

        `lasts` is called once it has run for a while.
        """
        self._lasts = lasts
        self._call = call
        self._isolation = isolation
        self._watcher = watcher
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._began = time.perf_counter()
        self._room = call.limits.output_bytes
        self._stopped: tuple[Verdict, str] | None = None
        self._socket, self._their_socket = socket.socketpair()
        self._descriptors: list[int] = []
        self._their_descriptors: list[int] = []
        self._collected: dict[int, bytearray] = {}
        self._streams: dict[int, Stream] = {}
        for stream in (Stream.STDOUT, Stream.STDERR):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._descriptors.append(ours)
            self._streams[ours] = stream
            self._their_descriptors.append(theirs)
        self._socket.setblocking(False)
        self._answer = bytearray()
        self._unsent = memoryview(b"")
        self._writing = False
        self.over = False
        self.truncated = False
        self._begun = False
        self._refused = False
        self.done: asyncio.Future[ToolOutcome] = self._loop.create_future()

    @property
    def theirs(self) -> tuple[socket.socket, int, int]:
        """The child's ends: the call's socket, stdout and stderr."""
        return self._their_socket, self._their_descriptors[0], self._their_descriptors[1]

    def begin(self) -> None:
        """Once the child's ends are handed over: sends the request, listens, and starts the clock."""
        self._close_theirs()
        self._begun = True
        if self._watcher is not None:
            self._watcher.began(self.stop)
        self._loop.add_reader(self._socket.fileno(), self._read_answer)
        for descriptor in self._descriptors:
            self._collected[descriptor] = bytearray()
            self._loop.add_reader(descriptor, self._read_output, descriptor)
        self._unsent = memoryview(request_of(self._call))
        self._send()
        seconds = self._call.limits.timeout_ms / 1000
        self._clock = self._loop.call_later(seconds, self._out_of_time)
        self._patience = self._loop.call_later(_LASTS_S, self._lasts)

    def stop(self, verdict: Verdict, why: str) -> None:
        """Ends the call; the first reason counts."""
        if self._stopped is None and not self.over:
            self._stopped = verdict, why
            self._kill()

    def refused(self) -> None:
        """The child could not put on its isolation; its end will be told."""
        self._refused = True

    def exited(self, ending: Ending) -> None:
        """The child ended, and everything it started is gone."""
        self._drain()
        if self._stopped is None and self._refused:
            self._finish(UnavailableError("the tool's isolation could not be put on; the tool was not started"))
            return
        self._finish(self._outcome(ending))

    def lost(self) -> None:
        """The fork server is gone, and what it did not tell remains unknown."""
        if self._stopped is not None:
            self._drain()
            self._finish(self._outcome_with(*self._stopped))
        elif self._begun:
            self._drain()
            why = "the sandbox's fork server died under the tool; whether it did its work is unknown"
            self._finish(self._outcome_with(Verdict.OUTCOME_UNKNOWN, why))
        else:
            self._finish(UnavailableError("the sandbox's fork server is being restarted; the tool was not started"))

    def discard(self) -> None:
        """Gives the descriptors back; nothing was begun."""
        self._close_theirs()
        self._close()

    # What comes from the child.

    def _read_answer(self) -> bool:
        """Takes one chunk; False where there is none now."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._answer += data
        if len(self._answer) > MAX_ANSWER_BYTES:
            self.stop(Verdict.OUTPUT, f"the tool's answer is larger than {MAX_ANSWER_BYTES} bytes")
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
        return bool(data)

    def _read_output(self, descriptor: int) -> bool:
        """Takes one chunk; False where there is none now."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(descriptor)
            return False
        kept = data[: self._room]
        self._collected[descriptor] += kept
        if self._watcher is not None and kept:
            self._watcher.printed(self._streams[descriptor], kept)
        self._room -= len(data)
        if self._room < 0:
            self._room = 0
            self.truncated = True
            limit = self._call.limits.output_bytes
            self.stop(Verdict.OUTPUT, f"the tool printed more than {limit} bytes and was stopped")
        return not self.truncated

    def _drain(self) -> None:
        """Takes what the child wrote before its end and we have not read yet."""
        for descriptor in self._descriptors:
            while self._read_output(descriptor):
                pass
        while self._read_answer():
            pass

    # What goes to the child.

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = self._unsent[:0]  # the child is gone; its end will be told
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._send)
            self._writing = True
        elif self._writing:
            self._loop.remove_writer(self._socket.fileno())
            self._writing = False

    def _out_of_time(self) -> None:
        self.stop(Verdict.TIMEOUT, f"the tool did not end within {self._call.limits.timeout_ms} ms and was stopped")

    # The end.

    def _outcome(self, ending: Ending) -> ToolOutcome:
        if self._stopped is not None:
            return self._outcome_with(*self._stopped)
        answer = read_ending(ending, bytes(self._answer), self._call.limits)
        return self._outcome_with(answer.verdict, answer.error, answer.output_json)

    def _outcome_with(self, verdict: Verdict, error: str, output_json: str = "") -> ToolOutcome:
        stdout, stderr = (self._collected[one].decode("utf-8", "replace") for one in self._descriptors)
        duration_ms = (time.perf_counter() - self._began) * 1000
        isolation = self._isolation
        return ToolOutcome(
            verdict,
            output_json,
            stdout,
            stderr,
            error,
            duration_ms,
            self.truncated,
            profile=isolation.profile,
            backend=isolation.backend,
            layers=isolation.active(),
        )

    def _finish(self, end: ToolOutcome | UnavailableError) -> None:
        self.over = True
        self._clock.cancel()
        self._patience.cancel()
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._close()
        if self.done.done():
            return  # the caller went away before
        if isinstance(end, ToolOutcome):
            self.done.set_result(end)
        else:
            self.done.set_exception(end)

    def _close(self) -> None:
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _close_theirs(self) -> None:
        self._their_socket.close()
        for descriptor in self._their_descriptors:
            os.close(descriptor)
