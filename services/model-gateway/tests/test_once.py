"""Effects once: a call in flight is joined, an answer is remembered, and a call that all have left is ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pagi_gateway.domain.content import Part, PartKind, Reasoning
from pagi_gateway.domain.effects import EffectName, fingerprint_of
from pagi_gateway.domain.errors import InvalidPlanRequestError, ProviderDownError, ProviderTimeoutError
from pagi_gateway.domain.model import (
    Caller,
    Delta,
    Effort,
    Message,
    Plan,
    PlanRequest,
    ReasoningDelta,
    ResponseFormat,
    Role,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    ToolUse,
    Usage,
)
from pagi_gateway.domain.once import OnceByEffect
from pagi_gateway.testing import InMemoryAnswerLedger, RecordingFigures, RecordingProvider, asking

ASKED = replace(asking("hello", model="model-a"), effect_id="run/1/0")
ANSWER = Plan(text="all is well", usage=Usage(7, 3, 0.25, reported=True))
PIECES = [TextDelta("all "), TextDelta("is w"), TextDelta("ell")]


@dataclass
class House:
    """A provider behind effects."""

    provider: RecordingProvider = field(default_factory=lambda: RecordingProvider([ANSWER]))
    ledger: InMemoryAnswerLedger = field(default_factory=InMemoryAnswerLedger)
    figures: RecordingFigures = field(default_factory=RecordingFigures)

    def __post_init__(self) -> None:
        self.once = OnceByEffect(self.provider, self.ledger, self.figures)

    def close(self) -> asyncio.Event:
        """Answers wait until the returned gate opens; a stream sends its first piece before."""
        self.provider.gate = asyncio.Event()
        return self.provider.gate

    def plan(self, request: PlanRequest = ASKED, timeout_s: float = 5.0) -> asyncio.Task[Plan]:
        return asyncio.create_task(self.once.plan(request, timeout_s=timeout_s))

    def listen(self, request: PlanRequest = ASKED, timeout_s: float = 5.0) -> Listener:
        return Listener(self.once.stream(request, timeout_s=timeout_s))

    @property
    def asked(self) -> int:
        return len(self.provider.requests)


class Listener:
    """A stream that is read in a task."""

    def __init__(self, events: AsyncGenerator[Delta | Plan, None]) -> None:
        self.heard: list[Delta | Plan] = []
        self._events = events
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> list[Delta | Plan]:
        try:
            async for event in self._events:
                self.heard.append(event)
        finally:
            await self._events.aclose()
        return self.heard


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def replayed(plan: Plan) -> Plan:
    return replace(plan, model="model-a", provider="recording", replayed=True)


async def test_a_repeat_gets_the_first_answer_whole_or_streamed() -> None:
    house = House()
    first = await house.plan()
    assert (first.text, first.replayed) == ("all is well", False)
    assert await house.plan() == replayed(ANSWER)
    assert await house.listen().task == [TextDelta("all is well"), replayed(ANSWER)]
    assert (house.asked, house.figures.effects) == (1, ["asked", "replayed", "replayed"])


async def test_a_streams_answer_is_remembered_and_replayed_in_every_kind_of_delta() -> None:
    plan = Plan("yes", (ToolCall("c", "math", "{}"),), reasoning=(Reasoning("first"), Reasoning(" then")))
    house = House(RecordingProvider([plan]))
    await house.listen().task
    assert (await house.plan()).replayed
    heard = await house.listen().task
    assert heard[:3] == [ReasoningDelta("first then"), TextDelta("yes"), ToolCallDelta(0, "c", "math", "{}")]
    assert heard[3:] == [replayed(plan)]
    assert house.asked == 1


async def test_without_an_effect_id_every_call_is_made() -> None:
    house = House()
    plain = replace(ASKED, effect_id="")
    assert not (await house.plan(plain)).replayed
    assert not (await house.plan(plain)).replayed
    assert (await house.listen(plain).task)[:-1] == PIECES
    assert (house.asked, house.ledger.answers, house.figures.effects) == (3, {}, [])


async def test_tenants_do_not_share_effects() -> None:
    house = House()
    for tenant in ("", "acme", "bolt", "acme"):
        await house.plan(replace(ASKED, caller=Caller(tenant)))
    assert house.asked == 3


@pytest.mark.parametrize("first", ["plan", "stream"])
@pytest.mark.parametrize("second", ["plan", "stream"])
async def test_a_call_in_flight_is_joined_not_repeated(first: str, second: str) -> None:
    house = House()
    gate = house.close()
    calls = []
    for number, how in enumerate((first, second, second)):
        calls.append(house.plan() if how == "plan" else house.listen().task)
        await until(lambda n=number: len(house.figures.effects) == n + 1)
    gate.set()
    ends = [heard if isinstance(heard, Plan) else heard[-1] for heard in await asyncio.gather(*calls)]
    assert [end.text for end in ends] == ["all is well"] * 3
    assert [end.replayed for end in ends] == [False, True, True]
    assert (house.asked, house.figures.effects) == (1, ["asked", "joined", "joined"])


async def test_who_joins_a_stream_gets_what_has_come_and_then_the_rest_live() -> None:
    house = House()
    gate = house.close()
    early = house.listen()
    await until(lambda: early.heard)
    late = house.listen()
    await until(lambda: late.heard)
    assert early.heard == late.heard == PIECES[:1]
    gate.set()
    assert await early.task == [*PIECES, replace(replayed(ANSWER), replayed=False)]
    assert await late.task == [*PIECES, replayed(ANSWER)]


async def test_a_stream_that_joins_a_whole_answer_gets_it_in_deltas() -> None:
    house = House()
    gate = house.close()
    first = house.plan()
    await until(lambda: house.asked)
    late = house.listen()
    await asyncio.sleep(0)
    gate.set()
    await first
    assert await late.task == [TextDelta("all is well"), replayed(ANSWER)]


@pytest.mark.parametrize("how", ["plan", "stream"])
async def test_the_call_goes_on_when_the_first_caller_leaves_and_ends_with_the_last(how: str) -> None:
    house = House()
    house.close()
    tasks = []
    for number in range(3):
        tasks.append(house.plan() if how == "plan" else house.listen().task)
        await until(lambda n=number: len(house.figures.effects) == n + 1)
    for task in tasks[:2]:
        task.cancel()
        await asyncio.wait([task])
        assert house.provider.left_early == 0
        assert not tasks[2].done()
    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    # The provider was left before the last caller's call returned.
    assert house.provider.left_early == 1
    house.provider.gate = None
    assert not (await house.plan()).replayed
    assert house.asked == 2


async def test_the_one_who_stays_gets_the_answer_and_so_does_a_repeat() -> None:
    house = House()
    gate = house.close()
    first, second = house.listen(), house.listen()
    await until(lambda: first.heard and second.heard)
    first.task.cancel()
    await asyncio.wait([first.task])
    gate.set()
    assert (await second.task)[-1] == replayed(ANSWER)
    assert await house.plan() == replayed(ANSWER)
    assert house.asked == 1


async def test_errors_are_shared_and_not_remembered() -> None:
    house = House(RecordingProvider([ProviderDownError("gone"), ANSWER]))
    calls = [house.plan(), house.plan(), house.listen().task]
    assert [str(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == ["gone"] * 3
    assert house.asked == 1
    assert not (await house.plan()).replayed


CHANGES: list[dict[str, object]] = [
    {"messages": (Message(Role.USER, "other"),)},
    {"messages": (Message(Role.USER, "hello", parts=(Part(PartKind.IMAGE, data=b"1"),)),)},
    {"tools": (ToolSpec("math"),)},
    {"model": "model-b"},
    {"max_output_tokens": 5},
    {"temperature": 0.0},
    {"response_format": ResponseFormat("{}")},
    {"stop": ("x",)},
    {"seed": 1},
    {"top_p": 0.5},
    {"leave_out": True},
    {"effort": Effort.LOW},
    {"tool_use": ToolUse.NONE},
    {"tool_name": "math"},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
async def test_the_same_id_for_another_request_is_refused(change: dict[str, object]) -> None:
    house = House()
    gate = house.close()
    other = replace(ASKED, **change)
    first = house.plan()
    await until(lambda: house.asked)
    for meanwhile in (True, False):
        with pytest.raises(InvalidPlanRequestError, match="names another request already") as caught:
            await house.plan(other)
        assert caught.value.field == "effect_id"
        with pytest.raises(InvalidPlanRequestError, match="names another request already"):
            await house.listen(other).task
        if meanwhile:
            gate.set()
            await first
    assert house.asked == 1


def test_who_asks_and_what_it_may_cost_do_not_make_another_request() -> None:
    same = replace(
        ASKED, caller=Caller("t", "k", "r"), max_cost_usd=1.0, effect_id="x", cache_key="k", cache_tools=True
    )
    assert fingerprint_of(same) == fingerprint_of(ASKED)


async def test_an_id_that_is_too_long_is_refused() -> None:
    house = House()
    with pytest.raises(InvalidPlanRequestError, match="at most 256 characters, not 257"):
        await house.plan(replace(ASKED, effect_id="x" * 257))
    await house.plan(replace(ASKED, effect_id="x" * 256))


async def test_a_short_time_of_the_first_caller_does_not_cut_off_who_joined() -> None:
    house = House()
    gate = house.close()
    first, second = house.plan(timeout_s=0.02), house.listen()
    with pytest.raises(ProviderTimeoutError):
        await first
    await until(lambda: house.asked == 2)
    gate.set()
    assert (await second.task)[-1] == replace(replayed(ANSWER), replayed=False)
    assert house.provider.timeouts_s[1] > 4


async def test_a_stream_that_has_begun_is_not_begun_anew_for_who_joined() -> None:
    house = House()
    house.close()
    first = house.listen(timeout_s=0.05)
    await until(lambda: first.heard)
    second = house.listen()
    await until(lambda: second.heard)
    for listener in (first, second):
        with pytest.raises(ProviderTimeoutError):
            await listener.task
        assert listener.heard == PIECES[:1]
    assert house.asked == 1


async def test_who_joined_waits_no_longer_than_it_has_time_and_the_call_goes_on() -> None:
    house = House()
    gate = house.close()
    first = house.plan(timeout_s=math.inf)
    await until(lambda: house.asked)
    for late in (house.plan(timeout_s=0.01), house.listen(timeout_s=0.01).task):
        with pytest.raises(ProviderTimeoutError):
            await late
    gate.set()
    assert (await first).text == "all is well"
    assert house.asked == 1


async def test_a_listener_that_does_not_read_holds_the_provider_back_unless_another_reads() -> None:
    house = House()
    slow = house.once.stream(ASKED, timeout_s=5)
    assert await anext(slow) == PIECES[0]
    pulled: list[int] = []
    for _ in range(20):
        await asyncio.sleep(0)
        pulled.append(len(house.once._running[EffectName("", "run/1/0")]._events))
    assert set(pulled) == {1}
    assert (await house.listen().task)[-1] == replayed(ANSWER)
    assert [event async for event in slow][-1] == replace(replayed(ANSWER), replayed=False)


class Stepped(RecordingProvider):
    """Sends the next delta of every stream when it is told to, and ends with the fifth."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.running = 0
        self._next = asyncio.Event()

    async def step(self) -> None:
        self.steps += 1
        self._next.set()
        self._next = asyncio.Event()
        await settled()

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        async with aclosing(self.stream(request, timeout_s=timeout_s)) as events:
            *_, plan = [event async for event in events]
        assert isinstance(plan, Plan)
        return plan

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        self.requests.append(request)
        self.running += 1
        try:
            begun = self.steps
            for number in range(5):
                while self.steps <= begun + number:
                    await self._next.wait()
                yield TextDelta(str(number))
            yield Plan("01234")
        finally:
            self.running -= 1


async def settled() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["listen", "plan", "leave", "step"]), st.integers(0, 9)), max_size=25))
async def test_in_any_order_who_stays_hears_all_and_nobody_is_asked_in_vain(steps: list[tuple[str, int]]) -> None:
    provider = Stepped()
    once = OnceByEffect(provider, InMemoryAnswerLedger(), RecordingFigures())
    callers: list[asyncio.Task[Any]] = []
    for step, which in steps:
        if step == "step":
            await provider.step()
        elif step == "leave" and callers:
            left = callers.pop(which % len(callers))
            left.cancel()
            await asyncio.wait([left])
        elif step == "listen":
            callers.append(Listener(once.stream(ASKED, timeout_s=60)).task)
        elif step == "plan":
            callers.append(asyncio.create_task(once.plan(ASKED, timeout_s=60)))
        await settled()
        # One call for all who wait, and none where nobody does.
        assert provider.running == any(not caller.done() for caller in callers)
    for _ in range(5):
        await provider.step()
    for caller in callers:
        heard = await caller
        whole = heard if isinstance(heard, Plan) else heard[-1]
        assert whole.text == "01234"
        if not isinstance(heard, Plan):
            assert "".join(delta.text for delta in heard[:-1]) == "01234"
    assert provider.running == 0
