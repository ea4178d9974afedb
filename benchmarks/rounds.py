"""Takes the floor and the meshes in turns, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.children import BenchError, Child
from benchmarks.load import LoadGenerator, Order
from benchmarks.ratios import ratio_of
from benchmarks.usage import cpu_s

# A batch is over when what was measured has come to rest: histories, notifications, what is learned and spans go out
# behind an answer.
_POLL_S = 0.1
_LONGEST_REST_S = 20.0
_AT_REST_CPU_S = 0.02
_IDLE_S = 3.0


@dataclass(frozen=True)
class Target:
    """Something that answers `POST /plan`.

    Attributes:
        name: floor, mesh or traced.
        port: Of its HTTP.
        children: Its processes.
        rest_s: How long it may do nothing before it works on what is left.
        share: Of a batch's seconds that it is under load for.
        sessions: Its plans are of these; none: each plan is a session of its own.
        expected: Is in every answer.
        idle: Processor seconds a second of each process while nothing is asked; no plan is charged for them.
    """

    name: str
    port: int
    children: Sequence[Child]
    rest_s: float = _POLL_S
    share: float = 1.0
    sessions: Sequence[str] = ()
    expected: str = ""
    idle: Mapping[str, float] = field(default_factory=dict)

    def at_rest(self) -> Target:
        """The same when it has come to rest, with what it uses then.

        Raises:
            BenchError: It did not come to rest.
        """
        await_rest(self)
        before = cpu_s(self.children)
        time.sleep(_IDLE_S)
        return replace(
            self, idle={name: (used - before[name]) / _IDLE_S for name, used in cpu_s(self.children).items()}
        )

    def of_sessions(self, name: str, sessions: Sequence[str]) -> Target:
        """The same by another name, whose plans are of these sessions."""
        return replace(self, name=name, sessions=sessions)


@dataclass(frozen=True)
class Level:
    """How a number of concurrent plans is measured.

    Attributes:
        concurrency: Plans in flight.
        rounds: Batches for each target.
        seconds: Length of a batch.
        is_known: See `load.Order`.
        most: Plans in a batch.
    """

    concurrency: int
    rounds: int
    seconds: float
    is_known: bool = False
    most: int = 1_000_000

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.concurrency} at once" + (", prompt known" if self.is_known else "")


@dataclass(frozen=True)
class Batch:
    """One target under load for a moment."""

    latencies_ms: Sequence[float]
    plans_a_second: float
    cpu_ms_a_plan: Mapping[str, float]

    @property
    def p50_ms(self) -> float:
        """Median time of a plan."""
        return statistics.median(self.latencies_ms)

    @property
    def cpu_ms(self) -> float:
        """Processor time of a plan over all processes."""
        return sum(self.cpu_ms_a_plan.values())


@dataclass
class Series:
    """The batches of one level, by target; the batches of one index were taken after each other."""

    level: Level
    batches: dict[str, list[Batch]] = field(default_factory=dict)

    def median(self, target: str, figure: Callable[[Batch], float]) -> float:
        """The median of a figure over the batches."""
        return statistics.median(map(figure, self.batches[target]))

    def ratio(self, target: str, base: str, figure: Callable[[Batch], float]) -> float:
        """See `ratios`."""
        return ratio_of(map(figure, self.batches[target]), map(figure, self.batches[base]))

    def has(self, target: str) -> bool:
        """Whether it was measured at this level."""
        return target in self.batches

    def p99_ms(self, target: str) -> float:
        """Over the plans of all batches."""
        latencies = sorted(latency for batch in self.batches[target] for latency in batch.latencies_ms)
        return latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]

    def plans(self, target: str) -> int:
        """How many were measured."""
        return sum(len(batch.latencies_ms) for batch in self.batches[target])


def measure(load: LoadGenerator, targets: Sequence[Target], level: Level) -> Series:
    """Takes the targets in turns, each round beginning with the next one.

    Args:
        load: Makes the plans.
        targets: What to measure.
        level: How.

    Raises:
        BenchError: A plan failed, or a target did not come to rest after a batch.
    """
    series = Series(level, {target.name: [] for target in targets})
    for number in range(level.rounds):
        first = number % len(targets)
        for target in [*targets[first:], *targets[:first]]:
            series.batches[target.name].append(_batch(load, target, level))
    return series


def _batch(load: LoadGenerator, target: Target, level: Level) -> Batch:
    seconds = level.seconds * target.share
    order = Order(
        target.port,
        level.concurrency,
        seconds,
        level.most,
        is_known=level.is_known,
        sessions=target.sessions,
        expected=target.expected,
    )
    before, began = cpu_s(target.children), time.monotonic()
    outcome = load.run(order)
    await_rest(target)
    after, took_s = cpu_s(target.children), time.monotonic() - began
    used = {name: after[name] - before[name] - target.idle.get(name, 0.0) * took_s for name in after}
    plans = len(outcome.latencies_ms)
    return Batch(
        latencies_ms=outcome.latencies_ms,
        plans_a_second=plans / outcome.seconds,
        cpu_ms_a_plan={name: seconds * 1000 / plans for name, seconds in used.items()},
    )


def await_rest(target: Target) -> None:
    """Returns when nothing of the work before is left.

    Raises:
        BenchError: It did not come to rest: what it uses would be taken for what it uses while it is idle.
    """
    time.sleep(max(0.0, target.rest_s - _POLL_S))
    deadline = time.monotonic() + _LONGEST_REST_S
    used = sum(cpu_s(target.children).values())
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        now = sum(cpu_s(target.children).values())
        if now - used <= _AT_REST_CPU_S:
            return
        used = now
    raise BenchError(f"{target.name} did not come to rest within {_LONGEST_REST_S:g} s")
