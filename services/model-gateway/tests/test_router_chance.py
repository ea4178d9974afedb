"""Routing under chance: whatever targets answer and whoever leaves when, every request ends as it must."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pagi_chassis.errors import PagiError
from pagi_gateway.domain.board import Board
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderFaultError,
    ProviderRejectedError,
    ProviderTimeoutError,
    UnsupportedError,
    WrongShapeError,
)
from pagi_gateway.domain.model import Plan, PlanRequest, ToolCall
from pagi_gateway.domain.router import Router
from pagi_gateway.domain.routes import (
    Balance,
    BreakerRules,
    Choice,
    EjectionRules,
    Fault,
    Habits,
    RateLimits,
    Route,
    Routes,
    Target,
    Timeouts,
)
from pagi_gateway.testing import ManualClock, RecordingProvider, RecordingWatch, asking

# Made anew each time: an error carries the attempts of its request.
ANSWERS: list[Callable[[], Plan | Exception]] = [
    lambda: Plan("all is well"),
    lambda: Plan("all is well"),
    lambda: Plan(tool_calls=(ToolCall("c", "math", '{"a": '),)),
    lambda: ProviderDownError("down"),
    lambda: ProviderDownError("down", retry_after_s=2),
    lambda: ProviderBusyError("busy"),
    lambda: ProviderBusyError("busy", retry_after_s=1),
    lambda: ProviderTimeoutError("slow"),
    lambda: ProviderAnswerError("a page"),
    lambda: WrongShapeError("shape"),
    lambda: ProviderAccessError("key"),
    lambda: ProviderRejectedError("refused"),
    lambda: ModelNotFoundError("no model"),
    lambda: UnsupportedError("cannot"),
    lambda: KeyError("a bug"),
]
TARGET = st.fixed_dictionaries(
    {
        "order": st.integers(1, 2),
        "weight": st.sampled_from([1.0, 3.0]),
        "total_s": st.sampled_from([None, 0.5]),
        "concurrent": st.sampled_from([0, 0, 1]),
        "per_minute": st.sampled_from([0, 0, 4]),
        "answers": st.lists(st.sampled_from(range(len(ANSWERS))), min_size=1, max_size=6),
    }
)
CALLER = st.fixed_dictionaries(
    {
        "how": st.sampled_from(["whole", "stream", "left"]),
        "timeout_s": st.sampled_from([0.0, 0.3, 5.0, 60.0]),
        "cancelled_after": st.sampled_from([None, None, None, 0, 1, 3, 7]),
    }
)
HABITS = st.builds(
    Habits,
    balance=st.sampled_from(Balance),
    attempts=st.integers(1, 5),
    longest_wait_s=st.sampled_from([0.0, 0.5, 3.0]),
    fail_over_on=st.sampled_from([frozenset(Fault), Habits().fail_over_on, frozenset({Fault.DOWN})]),
)


class Slow(RecordingProvider):
    """Lets others have their turn before it answers."""

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        await asyncio.sleep(0)
        return await super().plan(request, timeout_s=timeout_s)


async def asked(router: Router, how: str, timeout_s: float) -> Plan | None:
    request = asking("hello", model="default")
    if how == "whole":
        return await router.plan(request, timeout_s=timeout_s)
    stream = router.stream(request, timeout_s=timeout_s)
    last: Any = None
    try:
        async for event in stream:
            last = event
            if how == "left":
                break
    finally:
        await stream.aclose()
    return last if isinstance(last, Plan) else None


async def scenario(targets: list[dict[str, Any]], habits: Habits, callers: list[dict[str, Any]], seed: int) -> None:
    names = [f"t{number}" for number in range(len(targets))]
    providers = {
        name: Slow([ANSWERS[index]() for index in each["answers"]], name=name, pieces=3)
        for name, each in zip(names, targets, strict=True)
    }
    made = {
        name: Target(
            name,
            name,
            "model-a",
            timeouts=Timeouts(total_s=each["total_s"]),
            limits=RateLimits(requests_per_minute=each["per_minute"], concurrent=each["concurrent"]),
        )
        for name, each in zip(names, targets, strict=True)
    }
    choices = [Choice(name, each["order"], each["weight"]) for name, each in zip(names, targets, strict=True)]
    route = Route("default", tuple(sorted(choices, key=lambda choice: choice.order)), habits)
    rules = BreakerRules(failures=2, rest_s=1), EjectionRules(at_least=2)
    chance, clock, watch = random.Random(seed).random, ManualClock(), RecordingWatch()
    board = Board(
        Routes(made, {"default": route}, "default", habits, *rules), providers, random=chance, now=clock.now()
    )
    router = Router(board, clock=clock, random=chance, watch=watch)
    tasks = [asyncio.create_task(asked(router, each["how"], each["timeout_s"])) for each in callers]
    for turn in range(8):
        for task, each in zip(tasks, callers, strict=True):
            if each["cancelled_after"] == turn:
                task.cancel()
        await asyncio.sleep(0)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    for end, caller in zip(ends, callers, strict=True):
        check(end, caller, habits)
    for live in board.targets.values():
        assert live.in_flight == 0
        assert not live.waiting
        assert 0 <= live.wait_s(clock.now(), 0) < math.inf
    assert all(timeout_s > 0 for provider in providers.values() for timeout_s in provider.timeouts_s)
    assert len(watch.attempts) <= sum(len(provider.requests) for provider in providers.values())


def check(end: Plan | BaseException | None, caller: dict[str, Any], habits: Habits) -> None:
    if isinstance(end, asyncio.CancelledError):
        assert caller["cancelled_after"] is not None
    elif isinstance(end, BaseException):
        assert isinstance(end, PagiError | KeyError), repr(end)
        attempts = end.attempts if isinstance(end, ProviderFaultError) else ()
        assert len(attempts) <= habits.attempts
        assert all(each.outcome != "ok" for each in attempts)
    elif end is None:
        assert caller["how"] == "left"
    else:
        outcomes = [each.outcome for each in end.attempts]
        assert 1 <= len(outcomes) <= habits.attempts
        assert "ok" not in outcomes[:-1]
        # Else it is the answer that was set aside, since none was better.
        assert outcomes[-1] == "ok" or (end.tool_calls and "WrongShape" in outcomes)
        assert caller["timeout_s"] > 0


@settings(max_examples=120, deadline=None)
@given(
    targets=st.lists(TARGET, min_size=1, max_size=4),
    habits=HABITS,
    callers=st.lists(CALLER, min_size=1, max_size=6),
    seed=st.integers(0, 9),
)
def test_every_request_ends_as_it_must(
    targets: list[dict[str, Any]], habits: Habits, callers: list[dict[str, Any]], seed: int
) -> None:
    asyncio.run(scenario(targets, habits, callers, seed))
