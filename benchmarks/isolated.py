"""Isolated calls in turns with what they are measured by: a bare interpreter, and a bare gRPC echo."""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.children import Children
from benchmarks.ratios import Pairs
from benchmarks.sandbox import Sandbox, start_sandbox, stub_at
from benchmarks.usage import own_pss_mib, tree_pss_mib

CONCURRENCY = 8
_PRINT = "print(1)"
_NUMPY = "import numpy; print(numpy.arange(10).sum())"
_MATH = {"expression": "(100 + 50) * 2"}
_WARM_UP = 20
# Spares are made anew, and what a call left is taken away, behind its answer.
_REST_S = 1.0

Timed = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Turns:
    """How much is measured.

    Attributes:
        rounds: At most.
        calls: Of each kind in a round, one after the other.
        seconds: No round but the first begins later.
        flood_s: For so long eight are in flight, in each round of three.
    """

    rounds: int
    calls: int
    seconds: float
    flood_s: float


@dataclass(frozen=True)
class SandboxFigures:
    """What was measured of the sandbox.

    Attributes:
        highest: The profile that the system grants.
        print_ms: `print(1)` by profile, and the bare interpreter.
        math_ms: `math`, and a gRPC echo.
        numpy_ms: One line that uses numpy, loaded ahead, and the bare interpreter; None where numpy is not installed.
        rates: Calls of `print(1)` a second by profile, and bare interpreters a second, eight at once.
        fork_server_mib: PSS of the fork server alone.
        with_spares_mib: And of all that it has forked ahead of calls.
    """

    highest: str
    print_ms: Mapping[str, Pairs]
    math_ms: Pairs
    numpy_ms: Pairs | None
    rates: Mapping[str, Pairs]
    fork_server_mib: float
    with_spares_mib: float


def measure_sandbox(folder: Path, turns: Turns) -> SandboxFigures:
    """Starts a sandbox in each profile, and measures them.

    Args:
        folder: For data and logs.
        turns: How much.

    Raises:
        BenchError: A sandbox did not start, or a call failed.
    """
    with Children(folder) as children:
        return uvloop.run(_measure(children, folder, turns))


async def _measure(children: Children, folder: Path, turns: Turns) -> SandboxFigures:
    highest = await start_sandbox(children, folder, "sandbox-highest")
    await _warm_up(highest)
    # While no other sandbox shares its pages.
    alone, with_spares = own_pss_mib(highest.fork_server), tree_pss_mib(highest.fork_server)
    asked = [start_sandbox(children, folder, f"sandbox-{profile}", profile=profile) for profile in ("L1", "L2")]
    if importlib.util.find_spec("numpy"):
        asked.append(start_sandbox(children, folder, "sandbox-numpy", preload="numpy"))
    of_l1, of_l2, *others = await asyncio.gather(*asked)
    # A profile that is asked for and not granted is a lower one.
    by_profile = {sandbox.profile: sandbox for sandbox in (of_l1, of_l2, highest)}
    with_numpy = others[0] if others else None
    await asyncio.gather(*map(_warm_up, (of_l1, of_l2, *others)))
    child = children.start_module("echo", "benchmarks.floor_server")
    echo = Sandbox("echo", child, stub_at(int(child.listen()["port"])))
    rates = {profile: Pairs() for profile in by_profile}
    for _ in range(min(3, turns.rounds)):
        bare = await asyncio.to_thread(_bare_rate, turns.flood_s)
        for profile, pairs in rates.items():
            pairs.base.append(bare)
            pairs.ours.append(await _rate(by_profile[profile], turns.flood_s))
    await asyncio.sleep(_REST_S)
    calls = {f"print {profile}": _printing(sandbox) for profile, sandbox in by_profile.items()}
    calls |= {"bare print": lambda: _bare(_PRINT), "math": lambda: highest.call("math", _MATH)}
    calls |= {"echo": lambda: echo.call("math", _MATH)}
    if with_numpy:
        calls |= {"numpy": lambda: with_numpy.call("python", {"code": _NUMPY}), "bare numpy": lambda: _bare(_NUMPY)}
    seen = await _in_turns(calls, turns)
    return SandboxFigures(
        highest.profile,
        {profile: Pairs(seen["bare print"], seen[f"print {profile}"]) for profile in by_profile},
        Pairs(seen["echo"], seen["math"]),
        Pairs(seen["bare numpy"], seen["numpy"]) if with_numpy else None,
        rates,
        alone,
        with_spares,
    )


def _printing(sandbox: Sandbox) -> Timed:
    return lambda: sandbox.call("python", {"code": _PRINT})


async def _in_turns(calls: Mapping[str, Timed], turns: Turns) -> dict[str, list[float]]:
    """The median of each kind of call in each round, in milliseconds; every call meets the same moments."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    until = time.monotonic() + turns.seconds
    for number in range(turns.rounds):
        if number and time.monotonic() > until:
            break
        took: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(turns.calls):
            names.append(names.pop(0))
            for name in names:
                took[name].append(await calls[name]())
        for name, values in took.items():
            seen[name].append(statistics.median(values))
    return seen


async def _bare(code: str) -> float:
    """Milliseconds of an interpreter, the one that the sandbox runs in; nothing else goes on meanwhile."""
    began = time.perf_counter()
    _run_bare(code)
    return (time.perf_counter() - began) * 1000


def _run_bare(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)


def _bare_rate(seconds: float) -> float:
    until = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            _run_bare(_PRINT)
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        done = sum(pool.map(work, range(CONCURRENCY)))
    return done / (time.perf_counter() - began)


async def _rate(sandbox: Sandbox, seconds: float) -> float:
    began = time.perf_counter()
    done = 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            await sandbox.call("python", {"code": _PRINT})
            done += 1

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return done / (time.perf_counter() - began)


async def _warm_up(sandbox: Sandbox) -> None:
    for _ in range(_WARM_UP):
        await sandbox.call("python", {"code": _PRINT})
    await sandbox.call("math", _MATH)
    await asyncio.sleep(_REST_S)
