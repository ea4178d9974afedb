"""What remembering effects and keeping budgets adds to a call of the model gateway (`make bench-gateway`).

One process, a provider that answers at once, the same request over and over with new effect ids. The roads take turns,
so that what else the machine does falls on all of them. The unit of the ratio is a bare gRPC call of the same service
in the same process and run.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi.gateway.v1 import gateway_pb2_grpc
from pagi_chassis.testing import serving
from pagi_gateway.adapters.prometheus_figures import PrometheusFigures
from pagi_gateway.adapters.sqlite_answers import Bounds, SqliteAnswers
from pagi_gateway.adapters.sqlite_file import SqliteFile
from pagi_gateway.adapters.sqlite_spending import SqliteSpending
from pagi_gateway.domain.budgeted_provider import BudgetedProvider
from pagi_gateway.domain.budgets import Budget, BudgetRules, Limits, Per, Window
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.domain.model import Caller, Message, Plan, PlanRequest, Role, ToolSpec, Usage
from pagi_gateway.domain.once import OnceByEffect
from pagi_gateway.domain.ports import Answerer, Provider
from pagi_gateway.domain.prices import ModelPrice, PricedModel, Prices, Rate
from pagi_gateway.servicer import SERVICE_NAME, ModelGatewayServicer
from pagi_gateway.testing import FixedPrices, RecordingProvider

_MODEL = PricedModel("recording", "model-a")
_ANSWER = Plan("all is well " * 20, usage=Usage(500, 50, 0.001, reported=True))
_MESSAGES = tuple(Message(Role.USER if n % 2 else Role.ASSISTANT, "word " * 100) for n in range(9))
_RULES = BudgetRules(
    (
        Budget("month", Window.MONTH, Limits(10**15, 10**12, None), Per.ALL),
        Budget("tenant", Window.DAY, Limits(10**15, 10**12, 10**9), Per.TENANT),
        Budget("key", Window.MINUTE, Limits(None, 10**12, 10**9), Per.KEY),
    )
)
_ROUNDS, _CALLS = 40, 50
_AIM_US = 100.0


class _AtOnce(RecordingProvider):
    """Answers at once, and keeps nothing."""

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        return _ANSWER


@asynccontextmanager
async def _roads(folder: Path) -> AsyncIterator[tuple[SqliteFile, dict[str, Answerer]]]:
    file, figures = SqliteFile(folder / "gateway.db", variable="MODEL_GATEWAY_DB_PATH"), PrometheusFigures()
    ledger = SqliteAnswers(file, "effects", Bounds(86_400, 100_000, 256 << 20))
    spending = SqliteSpending(file)
    async with AsyncExitStack() as stack:
        for component in (file, ledger, spending):
            await component.start()
            stack.push_async_callback(component.stop)

        def budgeted() -> Provider:
            prices = Prices(FixedPrices({_MODEL: ModelPrice(Rate(1.0), Rate(4.0))}))
            provider = BudgetedProvider(_AtOnce(), spending, prices, lambda _: [_MODEL], figures)
            provider.use(_RULES)
            return provider

        bare, counted = Gateway(_AtOnce(), longest_s=60), Gateway(budgeted(), longest_s=60)
        yield (
            file,
            {
                "neither": bare,
                "effect ledger": OnceByEffect(bare, ledger, figures),
                "three budgets": counted,
                "both": OnceByEffect(counted, ledger, figures),
            },
        )


async def measure() -> dict[str, float]:
    """The p50 of each road and of a gRPC call, in microseconds."""
    numbers = itertools.count()

    def asked() -> PlanRequest:
        effect_id = f"run/{next(numbers)}/0"
        tools, caller = (ToolSpec("math", "calculates"),), Caller("acme", "ci", "run")
        return PlanRequest(_MESSAGES, tools, "model-a", effect_id=effect_id, caller=caller)

    with TemporaryDirectory() as folder:
        async with (
            _roads(Path(folder)) as (file, roads),
            serving(
                gateway_pb2_grpc.add_ModelGatewayServicer_to_server,
                ModelGatewayServicer(roads["neither"]),
                SERVICE_NAME,
            ) as client,
        ):
            stub = gateway_pb2_grpc.ModelGatewayStub(client.channel)
            request = pb.GetPlanRequest(messages=[pb.Message(role=pb.ROLE_USER, text="hello")], model="model-a")
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "gRPC": lambda: client.call(stub.GetPlan, request, timeout_s=5)
            }
            for name, road in roads.items():
                calls[name] = lambda road=road: road.plan(asked(), timeout_s=30)  # type: ignore[misc]
            taken: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(_ROUNDS):
                for name, call in calls.items():
                    taken[name] += await _timed(call)
                    await file.flushed()
    return {name: statistics.median(each) * 1e6 for name, each in taken.items()}


async def _timed(call: Callable[[], Awaitable[object]]) -> Sequence[float]:
    taken = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(0)
    return taken


def main() -> None:
    """Prints the table."""
    figures = uvloop.run(measure())
    lines = ["| added to a call | p50 µs | of a bare gRPC call |", "|---|---|---|"]
    for name in ("effect ledger", "three budgets", "both"):
        added = figures[name] - figures["neither"]
        lines.append(f"| {name} | {added:.0f} | {added / figures['gRPC']:.2f} |")
    met = "✓" if figures["both"] - figures["neither"] < _AIM_US else "✗"
    lines.append(f"\nA bare gRPC call took {figures['gRPC']:.0f} µs. Aim: both under {_AIM_US:.0f} µs {met}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
