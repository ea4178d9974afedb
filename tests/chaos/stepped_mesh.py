"""The services around a planner: the ledgers of gateway and sandbox as they are, on a wire that breaks when told to.

What a provider answers, what a tool does and what memory says waits at a gate until the machine lets it happen, has
it fail or leaves it hanging. A service dies with what it had begun; what its ledger had noted stays.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pagi.gateway.v1 import gateway_pb2
from pagi.sandbox.v1 import sandbox_pb2
from pagi_chassis import correlation
from pagi_chassis import errors as chassis_errors
from pagi_chassis.correlation import Correlation
from pagi_chassis.errors import InvalidArgumentError, PagiError, UnavailableError
from pagi_gateway.convert import event_to_proto, plan_request_from_proto, plan_to_proto
from pagi_gateway.domain.errors import ProviderRejectedError
from pagi_gateway.domain.model import Delta, ModelInfo, Plan, PlanRequest, Role, TextDelta
from pagi_gateway.domain.once import OnceByEffect as AnswerOnce
from pagi_gateway.testing import InMemoryAnswerLedger, RecordingFigures
from pagi_sandbox.convert import outcome_to_proto, request_from_proto
from pagi_sandbox.domain.model import ToolOutcome, Verdict
from pagi_sandbox.domain.once import OnceByEffect as EffectOnce
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.testing import InMemoryLedger
from scripts_of_runs import ASIDES, TOOLS, Script, TooLong, name_in, script_of
from stepping import InOrder, SteppedLoop, Time

# A client tries again for so long where a repeat is harmless, after so long each (seconds).
PATIENCE_S = 2.0
PAUSE_S = 0.25
PIECE = 24
_EFFECTS = {
    "effectful": sandbox_pb2.EFFECTS_EFFECTFUL,
    "idempotent": sandbox_pb2.EFFECTS_IDEMPOTENT,
    "read_only": sandbox_pb2.EFFECTS_READ_ONLY,
}


class Broken(Exception):
    """The connection broke: the caller does not know what came of the call."""


@dataclass(frozen=True)
class Caller:
    """Which planner calls, and in which run."""

    owner: str
    run_id: str


@dataclass(eq=False)
class Gate:
    """Something that is about to happen.

    Attributes:
        service: Where.
        what: For whoever reads a failure.
        opened: Lets it happen.
    """

    service: str
    what: str
    opened: asyncio.Future[None]
    is_hanging: bool = False


@dataclass
class Service:
    """One process beside the planners.

    Attributes:
        in_flight: The calls that it works on.
        next_fault: The next call fails with it, once.
    """

    name: str
    in_flight: InOrder = field(default_factory=InOrder)
    next_fault: PagiError | None = None


class Mesh:
    """Gateway, sandbox, and whatever else a planner calls, in one loop of their own.

    Args:
        time: Of all loops.
        arrived: Is told of each call by effect id as it arrives: service, effect id, caller, and the tool's call.
        did: Is told what an effectful tool has done: effect id and arguments.
    """

    def __init__(self, time: Time, arrived: Callable[..., None], did: Callable[[str, dict[str, Any]], None]) -> None:
        self.loop = SteppedLoop(time)
        self.gates: list[Gate] = []
        self.scripts: dict[str, Script] = {}
        # How often the provider has come to the end of an answer, by effect id.
        self.answered: Counter[str] = Counter()
        # How often the gateway has lost what it had answered.
        self.forgot = 0
        # How often a service has died.
        self.crashes = 0
        self.services = {name: Service(name) for name in ("gateway", "sandbox", "memory", "others")}
        self._arrived = arrived
        self._did = did
        self._answers = InMemoryAnswerLedger()
        self._effects = InMemoryLedger()
        self._start_gateway()
        self._start_sandbox()

    def open(self, place: int) -> None:
        """Lets one thing happen."""
        gate = self._passable()[place % len(self._passable())]
        gate.opened.set_result(None)
        self.loop.settle()

    def fail(self, place: int, error: Exception) -> None:
        """One thing fails in place of happening."""
        gate = self._passable()[place % len(self._passable())]
        gate.opened.set_exception(error)
        self.loop.settle()

    def hang(self, place: int) -> None:
        """One thing does not happen until whoever waits for it leaves."""
        self._passable()[place % len(self._passable())].is_hanging = True

    def heal(self) -> None:
        """Nothing hangs or is about to fail any more."""
        for gate in self.gates:
            gate.is_hanging = False
        for service in self.services.values():
            service.next_fault = None

    @property
    def waiting(self) -> int:
        """How many things wait to happen."""
        return len(self._passable())

    def crash(self, name: str, *, forgets: bool = False) -> int:
        """A service dies and is there again: whoever called it hears that the connection broke. Returns how many."""
        self.crashes += 1
        if name == "gateway":
            # What it had answered and not yet on its disk is lost with it.
            self.forgot += forgets
            self._answers = InMemoryAnswerLedger({} if forgets else dict(self._answers.answers))
            self._start_gateway()
        elif name == "sandbox":
            effects, self._effects = self._effects.effects, InMemoryLedger()
            self._effects.effects = dict(effects)
            self._start_sandbox()
        return self.break_off(name)

    def break_off(self, name: str) -> int:
        """The connections to a service break. Returns how many calls were on them."""
        calls = [*self.services[name].in_flight]
        for call in calls:
            call.cancel()
        self.loop.settle()
        return len(calls)

    def serve(self, name: str, begin: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
        """Begins a call."""
        service = self.services[name]
        task: asyncio.Task[Any] = self.loop.create_task(self._served(service, begin))
        service.in_flight.add(task)
        task.add_done_callback(service.in_flight.discard)
        return task

    async def _served(self, service: Service, begin: Callable[[], Awaitable[Any]]) -> Any:
        if fault := service.next_fault:
            service.next_fault = None
            raise fault
        return await begin()

    async def gate(self, service: str, what: str) -> None:
        """Waits until the machine lets it happen."""
        gate = Gate(service, what, self.loop.create_future())
        self.gates.append(gate)
        try:
            await gate.opened
        finally:
            self.gates.remove(gate)

    def _passable(self) -> list[Gate]:
        return [gate for gate in self.gates if not gate.is_hanging and not gate.opened.done()]

    def _start_gateway(self) -> None:
        self._answering = AnswerOnce(_Provider(self), self._answers, RecordingFigures())

    def _start_sandbox(self) -> None:
        self._executing = EffectOnce(self._effects)

    async def get_plan(self, request: gateway_pb2.GetPlanRequest, caller: Caller) -> gateway_pb2.GetPlanResponse:
        """As the gateway's RPC."""
        self._arrived("gateway", request.effect_id, caller, None)
        return plan_to_proto(await self._answering.plan(plan_request_from_proto(request)))

    async def stream_plan(
        self, request: gateway_pb2.StreamPlanRequest, caller: Caller
    ) -> AsyncIterator[gateway_pb2.StreamPlanResponse]:
        """As the gateway's RPC."""
        self._arrived("gateway", request.plan.effect_id, caller, None)
        async with aclosing(self._answering.stream(plan_request_from_proto(request.plan))) as events:
            async for event in events:
                yield event_to_proto(event)

    async def list_tools(self, _: sandbox_pb2.ListToolsRequest, caller: Caller) -> sandbox_pb2.ListToolsResponse:
        """As the sandbox's RPC."""
        return sandbox_pb2.ListToolsResponse(
            tools=[
                sandbox_pb2.Tool(
                    name=name,
                    description=f"the tool {name}",
                    parameters_schema_json='{"type": "object"}',
                    effects=_EFFECTS[effects],
                    requires_approval=is_asked,
                )
                for name, (effects, is_asked) in TOOLS.items()
            ]
        )

    async def execute_tool(
        self, request: sandbox_pb2.ExecuteToolRequest, caller: Caller
    ) -> sandbox_pb2.ExecuteToolResponse:
        """As the sandbox's RPC."""
        self._arrived("sandbox", request.effect_id, caller, request)
        arguments = json.loads(request.arguments_json)

        async def work(begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
            await begin()
            await self.gate("sandbox", f"{request.tool} {request.effect_id}")
            if TOOLS[request.tool][0] == "effectful":
                self._did(request.effect_id, arguments)
            output = {"line": arguments.get("line", ""), "text": "much " * (4_000 if request.tool == "long" else 1)}
            return ToolOutcome(Verdict.OK, json.dumps(output))

        asked = request_from_proto(request, Correlation())
        return outcome_to_proto(await self._executing.run(asked, Effects(TOOLS[request.tool][0]), work))


class _Provider:
    """Says what the scripts say, when it is let."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """The answer in whole."""
        plan = self._begin(request)
        await self._mesh.gate("gateway", f"plan {request.effect_id}")
        self._mesh.answered[request.effect_id] += 1
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """The answer in pieces."""
        plan = self._begin(request)
        for start in range(0, len(plan.text), PIECE):
            await self._mesh.gate("gateway", f"words of {request.effect_id}")
            yield TextDelta(plan.text[start : start + PIECE])
        await self._mesh.gate("gateway", f"end of {request.effect_id}")
        self._mesh.answered[request.effect_id] += 1
        yield plan

    async def models(self, *, timeout_s: float) -> list[ModelInfo]:
        """None is listed."""
        return []

    def _begin(self, request: PlanRequest) -> Plan:
        _, kind, *_ = request.effect_id.split("/")
        if kind in ASIDES:
            return Plan(ASIDES[kind], model="m", provider="p")
        step = int(kind)
        asked = [_text(message) for message in request.messages if message.role is Role.USER]
        try:
            return script_of(name_in(asked), self._mesh.scripts).plan(step)
        except TooLong:
            raise ProviderRejectedError("this model's maximum context length is 10 tokens") from None


def _text(message: Any) -> str:
    return message.text if hasattr(message, "text") else "".join(getattr(part, "text", "") for part in message.content)


class Wire:
    """A planner's client of one service, in the place of a gRPC client.

    Args:
        mesh: Where the service is.
        service: Its name.
        owner: Which planner this is.
    """

    def __init__(self, mesh: Mesh, service: str, loop: SteppedLoop, owner: str) -> None:
        self.channel = _Paths()
        self._mesh = mesh
        self._service = service
        self._loop = loop
        self._owner = owner
        self.is_cut = False
        self._coming = InOrder()

    def lose_answers(self) -> None:
        """The connection breaks with every answer that is on its way."""
        for answer in [*self._coming]:
            if not answer.done():
                answer.set_exception(Broken())

    async def call(
        self, method: str, request: Any, *, timeout_s: float, repeatable: bool = False, patience_s: float | None = None
    ) -> Any:
        """As `GrpcClient.call`."""
        rpc, caller = getattr(self._mesh, _RPCS[method]), self._caller()
        return await self.ask(lambda: rpc(request, caller), repeatable=repeatable, patience_s=patience_s)

    async def ask(
        self, begin: Callable[[], Awaitable[Any]], *, repeatable: bool = False, patience_s: float | None = None
    ) -> Any:
        """Makes a call, again where its connection breaks and a repeat is harmless."""
        give_up = self._loop.time() + (PATIENCE_S if patience_s is None else patience_s)
        while True:
            try:
                return await self._once(begin)
            except Broken as error:
                if not repeatable or self._loop.time() + PAUSE_S >= give_up:
                    raise self._away() from error
            await asyncio.sleep(PAUSE_S)

    def _away(self) -> UnavailableError:
        error = UnavailableError(f"the connection to {self._service} broke")
        error.is_away = True
        return error

    async def stream(self, method: str, request: Any, *, timeout_s: float) -> AsyncGenerator[Any, None]:
        """As `GrpcClient.stream`."""
        came: asyncio.Queue[Any] = asyncio.Queue()
        caller = self._caller()

        async def pump() -> None:
            async with aclosing(getattr(self._mesh, _RPCS[method])(request, caller)) as events:
                async for event in events:
                    self._deliver(came.put_nowait, event)

        task = self._mesh.serve(self._service, pump)
        task.add_done_callback(lambda task: self._deliver(came.put_nowait, _end_of(task)))
        try:
            while True:
                if isinstance(event := await came.get(), BaseException):
                    if isinstance(event, Broken):
                        raise self._away()
                    if not isinstance(event, StopAsyncIteration):
                        raise event
                    return
                yield event
        finally:
            self._leave(task)

    def _caller(self) -> Caller:
        return Caller(self._owner, correlation.current().run_id)

    async def _once(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        if self.is_cut:
            raise UnavailableError("this process is dead")
        answer: asyncio.Future[Any] = self._loop.create_future()
        task = self._mesh.serve(self._service, begin)
        task.add_done_callback(lambda task: self._deliver(_settle, answer, task))
        self._coming.add(answer)
        try:
            return await answer
        finally:
            self._coming.discard(answer)
            self._leave(task)

    def _deliver(self, receive: Callable[..., None], *what: Any) -> None:
        if not self.is_cut:
            self._loop.call_soon(receive, *what)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            task.cancel()


class _Paths:
    """A channel whose methods are their own paths."""

    def __getattr__(self, _: str) -> Callable[..., str]:
        return lambda path, *args, **kwargs: path


_RPCS = {
    "/pagi.gateway.v1.ModelGateway/GetPlan": "get_plan",
    "/pagi.gateway.v1.ModelGateway/StreamPlan": "stream_plan",
    "/pagi.sandbox.v1.ToolService/ListTools": "list_tools",
    "/pagi.sandbox.v1.ToolService/ExecuteTool": "execute_tool",
}


def _end_of(task: asyncio.Task[Any]) -> Any:
    """How a call ended, as it comes over the wire: an error, or the result."""
    if task.cancelled():
        return Broken()
    return _on_the_wire(error) if (error := task.exception()) else StopAsyncIteration()


def _settle(answer: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    if answer.done():
        return
    if task.cancelled():
        answer.set_exception(Broken())
    elif error := task.exception():
        answer.set_exception(_on_the_wire(error))
    else:
        answer.set_result(task.result())


def _on_the_wire(error: BaseException) -> BaseException:
    """The error as its status tells it: which type of the services' own it was is lost."""
    if not isinstance(error, PagiError):
        return error
    kind: Any = next(each for each in type(error).__mro__ if each.__module__ == chassis_errors.__name__)
    told: PagiError = kind(error.message)
    if isinstance(told, InvalidArgumentError):
        told.field = getattr(error, "field", "")
    return told
