"""A memory service as a process, asked over gRPC as the planner does it."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis.grpc_client import GrpcClient

from benchmarks.children import Child, Children, free_ports, wait_until
from benchmarks.retrieval.made_up import Words

SESSION = "measured"
CALLERS = 32
_TIMEOUT_S = 30.0
_READY_S = 60.0
_TURNS = 30
_PLAYBOOKS = 100
_STEP = pb.PlaybookStep(tool="math", arguments_json='{"expression": "7 * 4"}', outcome="28")
_ROLES = (pb.TURN_ROLE_USER, pb.TURN_ROLE_ASSISTANT)
_VERSIONS = {"math": "1", "read_file": "1", "todo": "1"}


class Service:
    """A memory service on a folder that `made_up.fill` made."""

    def __init__(self, child: Child, http_port: int, grpc_port: int, ready_s: float) -> None:
        self.child, self.http_port, self.ready_s = child, http_port, ready_s
        self._grpc_port = grpc_port
        self._runs = itertools.count()

    async def connect(self) -> None:
        """To be called before the questions."""
        self.client = GrpcClient(f"127.0.0.1:{self._grpc_port}")
        self.stub = memory_pb2_grpc.MemoryStub(self.client.channel)

    async def remember(self, words: Words) -> None:
        """A session with turns, and playbooks, as there are where somebody works with it."""
        turns = [pb.Turn(role=_ROLES[number % 2], text=words.text(30)) for number in range(_TURNS)]
        await self._call(
            "StoreSessionHistory", pb.StoreSessionHistoryRequest(session_id=SESSION, run_id="r", turns=turns)
        )
        runs = [
            pb.RunRecord(playbook=pb.RecordPlaybookRequest(run_id=f"p{i}", prompt=words.text(8), steps=[_STEP]))
            for i in range(_PLAYBOOKS)
        ]
        await self._call("RecordRuns", pb.RecordRunsRequest(runs=runs))

    async def context(self, query: str, *, persona: str = "", session: str = SESSION) -> pb.GetContextResponse:
        """A whole context."""
        request = pb.GetContextRequest(
            session_id=session, query=query, persona=persona, top_k=6, tool_versions=_VERSIONS
        )
        answer: pb.GetContextResponse = await self._call("GetContext", request)
        return answer

    async def passages(self, query: str, *bases: Any) -> None:
        """Passages alone, which can be asked of one knowledge base."""
        await self._call("GetRAGContext", pb.GetRAGContextRequest(query=query, top_k=6, knowledge_bases=bases))

    async def plan(self, query: str) -> pb.RunRecord:
        """What a plan asks before its answer; gives what it has to tell afterwards."""
        run_id = f"run-{next(self._runs)}"
        given = await self.context(query, session=run_id)
        turns = [pb.Turn(role=pb.TURN_ROLE_USER, text=query), pb.Turn(role=pb.TURN_ROLE_ASSISTANT, text="28, again.")]
        await self._call(
            "StoreSessionHistory", pb.StoreSessionHistoryRequest(session_id=run_id, run_id=run_id, turns=turns)
        )
        lesson = pb.RecordPlaybookRequest(run_id=run_id, prompt=query, steps=[_STEP], tool_versions={"math": "1"})
        ids = [p.source.removeprefix("playbook:") for p in given.passages if p.source.startswith("playbook:")]
        outcome = pb.RecordPlaybookOutcomeRequest(run_id=run_id, playbook_ids=ids, outcome=pb.RUN_OUTCOME_WIN)
        return pb.RunRecord(playbook=lesson, outcome=outcome if ids else None)

    async def record(self, runs: Sequence[pb.RunRecord]) -> None:
        """Tells of runs."""
        await self._call("RecordRuns", pb.RecordRunsRequest(runs=runs))

    async def _call(self, method: str, request: Any) -> Any:
        return await self.client.call(getattr(self.stub, method), request, timeout_s=_TIMEOUT_S)


@contextmanager
def running(children: Children, folder: Path) -> Iterator[Service]:
    """Runs a service until the block is left."""
    http_port, grpc_port = free_ports(2)
    variables = {
        "MEMORY_PORT": str(http_port),
        "MEMORY_GRPC_PORT": str(grpc_port),
        "KNOWLEDGE_BASES_DIR": str(folder / "knowledge_bases"),
        "HEART_DB_PATH": str(folder / "data/heart.db"),
        "MEMORY_DB_PATH": str(folder / "data/memory.db"),
        "CHROMA_PATH": str(folder / "data/chroma"),
        "LOG_LEVEL": "warning",
    }
    began = time.perf_counter()
    child = children.start("memory", [sys.executable, "-m", "pagi_memory"], variables)
    try:
        if not wait_until(lambda: _is_ready(child, http_port), timeout_s=_READY_S, interval_s=0.01):
            raise child.fault(f"was not ready after {_READY_S:g} s")
        yield Service(child, http_port, grpc_port, time.perf_counter() - began)
    finally:
        children.end([child.process])


def _is_ready(child: Child, port: int) -> bool:
    child.check()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


async def p50_ms(ask: Callable[[str], Awaitable[object]], queries: Sequence[str]) -> float:
    """The median time of one question after the other."""
    times = []
    for query in queries:
        began = time.perf_counter()
        await ask(query)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


async def crowd(ask: Callable[[str], Awaitable[object]], queries: Sequence[str], seconds: float) -> int:
    """Asks with `CALLERS` at once for some seconds; how many were answered."""
    left = iter(queries)
    ends = time.perf_counter() + seconds
    answered = 0

    async def caller() -> None:
        nonlocal answered
        for query in left:
            if time.perf_counter() > ends:
                return
            await ask(query)
            answered += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return answered
