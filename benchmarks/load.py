"""The load generator, a process of its own: keeps a number of plans in flight for a time and says how long each took.

Reads an order a line on standard input, writes its outcome as a line of JSON. Raw HTTP/1.1 on uvloop, one connection a
worker, so that it takes as little as possible of the processors that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from benchmarks.children import BenchError, Child, Children
from benchmarks.script import PLAN

_TIMEOUT_S = 60.0
_EXPECTED = (b'"status":"completed"', b'"degraded":[]')


@dataclass(frozen=True)
class Order:
    """What to do.

    Attributes:
        port: Where `POST /plan` is.
        concurrency: Plans in flight.
        seconds: For so long new ones are begun.
        most: At most so many in all.
        prompt: Its {number} is another one each time.
        is_known: Whether the prompt is always the same. A new one each time meets no cache of embeddings.
        sessions: Taken in turns; none: each plan is a session of its own.
        expected: Is in every answer.
    """

    port: int
    concurrency: int
    seconds: float
    most: int = 1_000_000
    prompt: str = PLAN
    is_known: bool = False
    sessions: Sequence[str] = ()
    expected: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        latencies_ms: Of every plan that was answered well, in the order of their ends.
        seconds: From the first request to the last answer.
        faults: What went wrong, at most a few.
    """

    latencies_ms: list[float]
    seconds: float
    faults: list[str]


class LoadGenerator:
    """The bench's side."""

    def __init__(self, children: Children) -> None:
        self._child: Child = children.start_module("load", "benchmarks.load")

    def run(self, order: Order) -> Outcome:
        """Has an order carried out.

        Raises:
            BenchError: A plan was not answered, or not as it should be.
        """
        outcome = Outcome(**self._child.ask(asdict(order)))
        if outcome.faults:
            raise BenchError(f"{order}: " + "\n".join(outcome.faults))
        return outcome


class _Run:
    """One order in the making."""

    def __init__(self, order: Order, numbers: itertools.count[int]) -> None:
        self._order = order
        self._numbers = numbers
        self._sessions = itertools.cycle(order.sessions)
        self._left = order.most
        self._faults: list[str] = []
        self._latencies: list[float] = []

    async def outcome(self) -> Outcome:
        workers = min(self._order.concurrency, self._order.most)
        connections = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", self._order.port) for _ in range(workers))
        )
        began = time.perf_counter()
        await asyncio.gather(*(self._work(*each, until=began + self._order.seconds) for each in connections))
        seconds = time.perf_counter() - began
        for _, writer in connections:
            writer.close()
        return Outcome(self._latencies, seconds, self._faults[:3])

    async def _work(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, until: float) -> None:
        while self._left > 0 and not self._faults and (began := time.perf_counter()) < until:
            self._left -= 1
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    fault = await self._plan(reader, writer)
            except (OSError, EOFError, TimeoutError) as error:
                fault = f"{type(error).__name__}: {error}"
            if fault:
                self._faults.append(fault)
            else:
                self._latencies.append((time.perf_counter() - began) * 1000)

    async def _plan(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Asks for one plan; what is wrong with the answer, or nothing."""
        number = 0 if self._order.is_known else next(self._numbers)
        question = {"prompt": self._order.prompt.format(number=number)}
        if session := next(self._sessions, ""):
            question["session_id"] = session
        body = json.dumps(question).encode()
        writer.write(
            b"POST /plan HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readexactly(_content_length(head))
        expected = (*_EXPECTED, self._order.expected.encode())
        if not head.startswith(b"HTTP/1.1 200 ") or not all(part in answer for part in expected):
            return f"{head.splitlines()[0].decode()}: {answer[:500].decode(errors='replace')}"
        return ""


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[at : lowered.index(b"\r\n", at)])


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    numbers = itertools.count(1)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        given: dict[str, Any] = json.loads(line)
        outcome = await _Run(Order(**given), numbers).outcome()
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
