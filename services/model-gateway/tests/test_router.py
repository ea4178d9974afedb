"""Routing by itself: fakes answer, time passes when a test says so."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pagi_chassis.errors import PagiError
from pagi_gateway.adapters.prometheus_routing import PrometheusRouting
from pagi_gateway.domain.board import Board
from pagi_gateway.domain.capabilities import Capabilities, Support
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
    TargetsBusyError,
    TargetsDownError,
    UnsupportedError,
    WrongShapeError,
)
from pagi_gateway.domain.live_target import Expected
from pagi_gateway.domain.model import Circuit, FinishReason, Plan, PlanRequest, TextDelta, ToolCall, Usage
from pagi_gateway.domain.rate_limits import Left, RateReport
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
from prometheus_client import REGISTRY

GOOD = Plan(text="all is well", usage=Usage(10, 2, reported=True))
DOWN = ProviderDownError("it is down")
ASKED = asking("hello", model="default")


@dataclass
class House:
    """A router over fakes."""

    providers: dict[str, RecordingProvider]
    clock: ManualClock
    watch: RecordingWatch
    router: Router
    made: list[Routes] = field(default_factory=list)

    async def ask(self, how: str = "whole", request: PlanRequest = ASKED, timeout_s: float = 60) -> Plan:
        if how == "whole":
            return await self.router.plan(request, timeout_s=timeout_s)
        events = [event async for event in self.router.stream(request, timeout_s=timeout_s)]
        assert isinstance(events[-1], Plan)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == events[-1].text
        return events[-1]

    def asked(self, name: str) -> int:
        return len(self.providers[name].requests)

    def live(self, name: str) -> Any:
        return self.router.board.targets[name]

    def quiet(self) -> bool:
        """Nothing is under way."""
        return all(live.in_flight == 0 for live in self.router.board.targets.values())


def house(
    *choices: Choice,
    habits: Habits | None = None,
    targets: dict[str, dict[str, Any]] | None = None,
    chance: Any = None,
    aliases: dict[str, Route] | None = None,
    breaker: BreakerRules | None = None,
    ejection: EjectionRules | None = None,
    **answers: Sequence[Plan | Exception],
) -> House:
    """Targets a, b, ... with the answers that they play; an alias `default` over all of them, one after the other."""
    providers = {name: RecordingProvider(list(plays), name=f"p-{name}") for name, plays in answers.items()}
    made = {name: Target(name, f"p-{name}", "model-a", **(targets or {}).get(name, {})) for name in answers}
    entries = choices or tuple(Choice(name, order) for order, name in enumerate(answers))
    default = Route("default", entries, habits or Habits())
    routes = Routes(
        made,
        {"default": default, **(aliases or {})},
        "default",
        habits or Habits(),
        breaker or BreakerRules(),
        ejection or EjectionRules(),
    )
    clock, watch = ManualClock(), RecordingWatch()
    chance = chance or random.Random(7).random
    board = Board(routes, providers, random=chance, now=clock.now())
    return House(providers, clock, watch, Router(board, clock=clock, random=chance, watch=watch))


both = pytest.mark.parametrize("how", ["whole", "stream"])


@both
async def test_the_first_that_can_answers_and_every_attempt_is_listed(how: str) -> None:
    it = house(a=[DOWN], b=[ProviderBusyError("full")], c=[GOOD])
    plan = await it.ask(how)
    assert plan.text == "all is well"
    assert [(each.target, each.provider, each.model, each.outcome, each.message) for each in plan.attempts] == [
        ("a", "p-a", "model-a", "ProviderDown", "it is down"),
        ("b", "p-b", "model-a", "ProviderBusy", "full"),
        ("c", "p-c", "model-a", "ok", ""),
    ]
    assert plan.attempts[2].usage == GOOD.usage
    assert all(each.started_unix_ms == 1_000_000 for each in plan.attempts)
    assert [(asked, attempt.target, more) for asked, attempt, more in it.watch.attempts] == [
        ("default", "a", True),
        ("default", "b", True),
        ("default", "c", False),
    ]
    assert it.clock.slept == []
    assert it.quiet()


FAILS_OVER: list[tuple[Exception, bool]] = [
    (ProviderTimeoutError("slow"), True),
    (ProviderBusyError("limits the rate", retry_after_s=9), True),
    (ProviderDownError("failed (500)"), True),
    (ProviderAnswerError("an HTML page"), True),
    (WrongShapeError("not of the schema"), True),
    (ProviderAccessError("a dead key"), True),
    (UnsupportedError("cannot read images"), True),
    (ProviderRejectedError("refused (400)"), False),
    (ModelNotFoundError("no such model"), False),
]


@both
@pytest.mark.parametrize(("error", "goes_on"), FAILS_OVER, ids=[type(error).__name__ for error, _ in FAILS_OVER])
async def test_which_faults_fail_over(how: str, error: Exception, goes_on: bool) -> None:
    it = house(a=[error], b=[GOOD])
    if goes_on:
        assert (await it.ask(how)).text == "all is well"
    else:
        with pytest.raises(type(error)) as caught:
            await it.ask(how)
        assert caught.value is error
        assert [each.target for each in error.attempts] == ["a"]  # type: ignore[attr-defined]
    assert it.asked("b") == goes_on
    assert it.quiet()


@pytest.mark.parametrize("fault", list(Fault))
async def test_faults_can_be_left_out(fault: Fault) -> None:
    errors: dict[Fault, PagiError] = {
        Fault.TIMEOUT: ProviderTimeoutError("x"),
        Fault.RATE_LIMIT: ProviderBusyError("x"),
        Fault.DOWN: DOWN,
        Fault.WRONG_SHAPE: WrongShapeError("x"),
        Fault.ACCESS: ProviderAccessError("x"),
        Fault.NOT_FOUND: ModelNotFoundError("x"),
    }
    for chosen, asked in ((frozenset(Fault) - {fault}, 0), (frozenset({fault}), 1)):
        it = house(a=[errors[fault]], b=[GOOD], habits=Habits(fail_over_on=chosen))
        if asked:
            await it.ask()
        else:
            with pytest.raises(type(errors[fault])):
                await it.ask()
        assert it.asked("b") == asked


async def test_what_no_target_can_do_is_told_as_it_is_and_costs_no_attempt() -> None:
    it = house(a=[UnsupportedError("a cannot")], b=[UnsupportedError("b cannot")])
    with pytest.raises(UnsupportedError, match="a cannot") as caught:
        await it.ask()
    assert caught.value.attempts == ()
    mixed = house(a=[UnsupportedError("a cannot")], b=[DOWN], habits=Habits(attempts=1))
    with pytest.raises(TargetsDownError, match="a: a cannot; b: it is down"):
        await mixed.ask()


@both
async def test_all_fail(how: str) -> None:
    it = house(a=[DOWN], b=[ProviderTimeoutError("slow")], habits=Habits(attempts=2))
    with pytest.raises(TargetsDownError, match="no target of 'default' answered: a: it is down; b: slow") as caught:
        await it.ask(how)
    assert [each.outcome for each in caught.value.attempts] == ["ProviderDown", "ProviderTimeout"]
    busy = house(
        a=[ProviderBusyError("x", retry_after_s=30)],
        b=[ProviderBusyError("y", retry_after_s=9)],
        habits=Habits(attempts=2),
    )
    with pytest.raises(TargetsBusyError) as told:
        await busy.ask(how)
    assert told.value.retry_after_s == pytest.approx(9)


async def test_a_lone_target_is_asked_again_after_a_pause_and_says_itself_what_is_wrong() -> None:
    it = house(a=[DOWN, ProviderDownError("still")], habits=Habits(attempts=2))
    with pytest.raises(ProviderDownError, match="still") as caught:
        await it.ask()
    assert len(caught.value.attempts) == 2
    (pause,) = it.clock.slept
    assert 0.1 <= pause <= 0.3
    mends = house(a=[DOWN, GOOD])
    assert [each.outcome for each in (await mends.ask()).attempts] == ["ProviderDown", "ok"]


async def test_the_attempts_are_bounded() -> None:
    it = house(a=[DOWN], b=[DOWN], habits=Habits(attempts=5, longest_wait_s=60))
    with pytest.raises(TargetsDownError):
        await it.ask()
    assert it.asked("a") + it.asked("b") == 5


@both
async def test_retry_after_is_honoured(how: str) -> None:
    it = house(a=[ProviderBusyError("limits the rate", retry_after_s=7), GOOD], b=[GOOD])
    await it.ask(how)
    for _ in range(3):
        await it.ask(how)
    assert (it.asked("a"), it.asked("b")) == (1, 4), "it rests"
    it.clock.time += 7.1
    await it.ask(how)
    assert it.asked("a") == 2


@both
async def test_the_shortest_wait_is_told_where_all_rest(how: str) -> None:
    it = house(
        a=[ProviderBusyError("x", retry_after_s=30), GOOD],
        b=[ProviderBusyError("y", retry_after_s=9), GOOD],
        habits=Habits(attempts=2),
    )
    with pytest.raises(TargetsBusyError):
        await it.ask(how)
    it.clock.time += 1
    with pytest.raises(TargetsBusyError, match=r"nobody can be asked .* the next 8.0 s") as caught:
        await it.ask(how)
    assert caught.value.retry_after_s == pytest.approx(8)
    assert caught.value.attempts == ()
    assert it.asked("a") + it.asked("b") == 2, "nobody was asked"


async def test_a_short_rest_is_waited_for() -> None:
    it = house(a=[ProviderBusyError("x", retry_after_s=1.5), GOOD], habits=Habits(longest_wait_s=2))
    assert (await it.ask()).text == "all is well"
    assert sum(it.clock.slept) == pytest.approx(1.5)
    short = house(a=[ProviderBusyError("x", retry_after_s=1.5), GOOD], habits=Habits(longest_wait_s=1))
    with pytest.raises(ProviderBusyError):
        await short.ask()
    assert short.clock.slept == []


async def test_a_rest_without_a_time_grows() -> None:
    it = house(a=[ProviderBusyError("x")], b=[GOOD])
    rests = []
    for _ in range(9):
        await it.ask()
        rests.append(it.live("a").wait_s(it.clock.now(), 0))
        it.clock.time += rests[-1] + 0.01
    assert [round(rest) for rest in rests] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_the_callers_time_bounds_all_attempts() -> None:
    it = house(a=[DOWN], b=[GOOD], targets={"a": {"timeouts": Timeouts(total_s=5)}})
    await it.ask(timeout_s=20)
    assert (it.providers["a"].timeouts_s, it.providers["b"].timeouts_s) == ([5], [20])
    late = house(a=[DOWN], b=[GOOD])

    async def slow(*_: Any, timeout_s: float) -> Plan:
        late.clock.time += timeout_s
        raise ProviderTimeoutError("a was slow")

    late.providers["a"].plan = slow  # type: ignore[method-assign,assignment]
    with pytest.raises(ProviderTimeoutError, match="a was slow"):
        await late.ask(timeout_s=3)
    assert late.asked("b") == 0
    assert late.live("a").window.counts(late.clock.now()) == (1, 0), "the caller gave it too little time"


async def test_no_pause_is_longer_than_the_callers_time() -> None:
    it = house(a=[ProviderBusyError("x", retry_after_s=1.5), GOOD])
    with pytest.raises(ProviderBusyError):
        await it.ask(timeout_s=1)
    assert it.clock.slept == []


@both
async def test_the_breaker_opens_lets_one_probe_pass_and_closes(how: str) -> None:
    it = house(a=[DOWN] * 3 + [DOWN, GOOD], b=[GOOD], breaker=BreakerRules(failures=3, rest_s=10))
    for _ in range(6):
        await it.ask(how)
    assert it.asked("a") == 3
    assert it.watch.circuits[-1] == ("a", Circuit.OPEN)
    it.clock.time += 10.1
    await it.ask(how)
    assert it.asked("a") == 4, "the probe, which fails"
    it.clock.time += 10.1
    await it.ask(how)
    assert it.asked("a") == 4, "the rest has doubled"
    it.clock.time += 10
    assert (await it.ask(how)).attempts[0].target == "a"
    assert it.watch.circuits[-1] == ("a", Circuit.CLOSED)
    await it.ask(how)
    assert it.asked("a") == 6


async def test_all_breakers_open() -> None:
    it = house(a=[DOWN], breaker=BreakerRules(failures=1, rest_s=10), habits=Habits(attempts=1))
    with pytest.raises(ProviderDownError):
        await it.ask()
    it.clock.time += 4
    with pytest.raises(TargetsDownError, match=r"next 6.0 s .a: rests for 6.0 s after: it is down") as caught:
        await it.ask()
    assert caught.value.retry_after_s == pytest.approx(6)
    assert it.asked("a") == 1


@both
async def test_a_probe_that_is_cancelled_leaves_room_for_another(how: str) -> None:
    it = house(a=[DOWN, GOOD], b=[GOOD], breaker=BreakerRules(failures=1, rest_s=10))
    await it.ask(how)
    it.clock.time += 11
    it.providers["a"].gate = asyncio.Event()
    probe = asyncio.create_task(it.ask(how))
    while it.asked("a") < 2:
        await asyncio.sleep(0)
    await it.ask(how)
    assert it.asked("a") == 2, "one probe at a time"
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert it.quiet()
    it.providers["a"].gate.set()
    await it.ask(how)
    assert it.asked("a") == 3


async def test_a_dead_key_is_asked_last() -> None:
    it = house(a=[ProviderAccessError("a dead key"), GOOD], b=[GOOD, DOWN, GOOD])
    await it.ask()
    await it.ask()
    assert (it.asked("a"), it.asked("b")) == (2, 2), "it was asked again only where b was down"
    lone = house(a=[ProviderAccessError("a dead key")])
    for _ in range(3):
        with pytest.raises(ProviderAccessError, match="a dead key"):
            await lone.ask()
    assert lone.asked("a") == 3, "and alone it says itself what is wrong, without a second call"


async def test_who_fails_more_than_the_others_is_ejected_for_a_while() -> None:
    chance = random.Random(3)
    it = house(
        Choice("a"),
        Choice("b"),
        Choice("c"),
        a=[DOWN, GOOD] * 100,
        b=[GOOD],
        c=[GOOD],
        chance=chance.random,
        ejection=EjectionRules(at_least=10, error_share=0.4, rest_s=30),
    )
    for _ in range(60):
        await it.ask()
    assert it.watch.ejections == [("default", "a")]
    asked = it.asked("a")
    for _ in range(20):
        await it.ask()
    assert it.asked("a") == asked
    (info,) = [each for each in await it.router.models(timeout_s=1) if each.name == "default"]
    assert [each.ejected for each in info.targets] == [True, False, False]
    it.clock.time += 31
    for _ in range(20):
        await it.ask()
    assert it.asked("a") > asked


async def test_nobody_is_ejected_where_all_are_as_bad_and_at_most_a_share_is() -> None:
    rules = EjectionRules(at_least=5, error_share=0.4, at_most=0.5)
    it = house(Choice("a"), Choice("b"), a=[DOWN, GOOD] * 50, b=[DOWN, GOOD] * 50, ejection=rules)
    for _ in range(60):
        await it.ask()
    assert it.watch.ejections == []
    bad = [DOWN, GOOD] * 50
    many = house(*map(Choice, "abcd"), a=bad, b=bad, c=bad, d=[GOOD], ejection=rules, habits=Habits(attempts=4))
    for _ in range(200):
        await many.ask()
    now = many.clock.now()
    (route,) = many.router.board.aliases
    assert sum(route.is_ejected(target, now) for target in route.members) <= 2


@pytest.mark.parametrize(("names", "ejected"), [("abcdefgh", 2), ("abcde", 1)])
async def test_at_most_a_share_is_ejected_at_once(names: str, ejected: int) -> None:
    rules = EjectionRules(at_least=5, error_share=0.6, at_most=0.25)
    answers: dict[str, list[Plan | Exception]] = {name: [DOWN if name in "ab" else GOOD] for name in names}
    it = house(*map(Choice, names), ejection=rules, breaker=BreakerRules(failures=99), **answers)
    for _ in range(100):
        await it.ask()
    assert len(it.watch.ejections) == ejected


async def test_the_load_is_shared_by_weight() -> None:
    it = house(Choice("a", weight=3), Choice("b", weight=1), a=[GOOD], b=[GOOD])
    seen = Counter([(await it.ask()).attempts[0].target for _ in range(2000)])
    assert 0.72 < seen["a"] / 2000 < 0.78


async def test_the_least_busy_is_asked() -> None:
    it = house(
        Choice("a", weight=2), Choice("b", weight=1), a=[GOOD], b=[GOOD], habits=Habits(balance=Balance.LEAST_BUSY)
    )
    gate = asyncio.Event()
    for provider in it.providers.values():
        provider.gate = gate
    tasks = [asyncio.create_task(it.ask()) for _ in range(30)]
    while it.asked("a") + it.asked("b") < 30:
        await asyncio.sleep(0)
    assert (it.live("a").in_flight, it.live("b").in_flight) == (20, 10)
    gate.set()
    await asyncio.gather(*tasks)
    assert it.quiet()


async def test_requests_with_one_cache_key_go_to_one_target() -> None:
    it = house(*map(Choice, "abc"), a=[GOOD], b=[GOOD], c=[GOOD])

    async def who(key: str) -> str:
        request = PlanRequest(ASKED.messages, model="default", cache_key=key)
        return (await it.ask(request=request)).attempts[0].target

    homes = {key: await who(key) for key in map(str, range(60))}
    assert {await who("7") for _ in range(10)} == {homes["7"]}
    assert min(Counter(homes.values()).values()) >= 8
    it.live(homes["7"]).limits.learn(it.clock.now(), RateReport(requests=Left(0, 60)))
    assert await who("7") != homes["7"], "its home has no room"
    moved = [key for key, home in homes.items() if home != homes["7"] and await who(key) != home]
    assert moved == [], "nobody else moves"


async def test_a_call_that_would_be_refused_goes_elsewhere_or_waits() -> None:
    it = house(a=[GOOD], b=[GOOD])
    it.live("a").learn(it.clock.now(), RateReport(requests=Left(1, 10, 10)))
    assert [(await it.ask()).attempts[0].target for _ in range(3)] == ["a", "b", "b"]
    it.clock.time += 1.2  # the nine that are missing come back in 10 s
    assert (await it.ask()).attempts[0].target == "a"
    lone = house(a=[GOOD], targets={"a": {"limits": RateLimits(requests_per_minute=60)}})
    for _ in range(60):
        await lone.ask()
    assert lone.clock.slept == []
    await lone.ask()
    assert sum(lone.clock.slept) == pytest.approx(1, abs=0.01)


async def test_tokens_are_guessed_and_corrected() -> None:
    it = house(a=[GOOD], b=[GOOD], targets={"a": {"limits": RateLimits(tokens_per_minute=1000)}})
    large = asking("word " * 760, model="default")  # some 950 tokens
    assert (await it.ask(request=large)).attempts[0].target == "a"
    assert (await it.ask(request=large)).attempts[0].target == "a", "the first used but 12"
    it.live("a").learn(it.clock.now(), RateReport(tokens=Left(100, 30)))
    assert (await it.ask(request=large)).attempts[0].target == "b"
    assert (await it.ask(request=ASKED)).attempts[0].target == "a"


async def test_no_more_calls_at_once_than_a_target_may_have() -> None:
    it = house(a=[GOOD], targets={"a": {"limits": RateLimits(concurrent=2)}}, habits=Habits(longest_wait_s=1e9))
    gate = it.providers["a"].gate = asyncio.Event()
    most = 0
    tasks = [asyncio.create_task(it.ask(timeout_s=1e9)) for _ in range(7)]
    for _ in range(40):
        await asyncio.sleep(0)
        most = max(most, it.live("a").in_flight)
    tasks[5].cancel()
    gate.set()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks].count(True) == 1
    assert (most, it.asked("a")) == (2, 6)
    assert it.quiet()
    assert not it.live("a").waiting
    full = house(a=[GOOD], targets={"a": {"limits": RateLimits(concurrent=1)}}, habits=Habits(longest_wait_s=0.2))
    full.providers["a"].gate = asyncio.Event()
    first = asyncio.create_task(full.ask())
    await asyncio.sleep(0)
    with pytest.raises(TargetsBusyError, match="1 calls are under way"):
        await full.ask()
    first.cancel()


class Patient(ManualClock):
    """Waits for the signal, however long it takes; the first who waits is cancelled in the moment that it comes."""

    async def wait(self, signal: asyncio.Future[None], seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not self.slept:
            self.slept.append(seconds)
            signal.add_done_callback(lambda _: task.cancel())
        await signal


async def test_who_waits_for_room_is_woken() -> None:
    it = house(a=[GOOD], targets={"a": {"limits": RateLimits(concurrent=1)}})
    clock = Patient()
    router = Router(it.router.board, clock=clock, random=random.random, watch=it.watch)
    gate = it.providers["a"].gate = asyncio.Event()
    tasks = [asyncio.create_task(router.plan(ASKED, timeout_s=60)) for _ in range(5)]
    while it.asked("a") < 1 or len(it.live("a").waiting) < 4:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(asyncio.wait(tasks), 5)
    assert [task.cancelled() for task in tasks] == [False, True, False, False, False], "its room was the next one's"


BAD_CALL = Plan(tool_calls=(ToolCall("c", "math", '{"expression": "2+'),), finish_reason=FinishReason.TOOL_CALLS)
GOOD_CALL = Plan(tool_calls=(ToolCall("c", "math", '{"expression": "2+2"}'),), finish_reason=FinishReason.TOOL_CALLS)


async def test_arguments_that_are_not_json_are_asked_of_another() -> None:
    it = house(a=[BAD_CALL], b=[GOOD_CALL])
    plan = await it.ask()
    assert plan.tool_calls == GOOD_CALL.tool_calls
    assert [each.outcome for each in plan.attempts] == ["WrongShape", "ok"]
    worse = house(a=[BAD_CALL], b=[DOWN], c=[ProviderTimeoutError("slow")])
    plan = await worse.ask()
    assert plan.tool_calls == BAD_CALL.tool_calls, "it is better than none, and is paid for"
    assert [each.outcome for each in plan.attempts] == ["WrongShape", "ProviderDown", "ProviderTimeout"]
    lone = house(a=[BAD_CALL])
    assert (await lone.ask()).attempts[0].outcome == "ok"
    last = house(a=[BAD_CALL], b=[GOOD_CALL], habits=Habits(attempts=1))
    assert (await last.ask()).tool_calls == BAD_CALL.tool_calls
    off = house(a=[BAD_CALL], b=[GOOD_CALL], habits=Habits(fail_over_on=frozenset({Fault.DOWN})))
    assert (await off.ask()).tool_calls == BAD_CALL.tool_calls


async def test_a_stream_that_broke_is_never_put_together_from_two() -> None:
    it = house(a=[GOOD], b=[GOOD])
    broken = ProviderTimeoutError("sent nothing for 5 s")

    async def breaks(*_: Any, timeout_s: float) -> Any:
        yield TextDelta("all ")
        yield TextDelta("is ")
        raise broken

    it.providers["a"].stream = breaks  # type: ignore[method-assign,assignment]
    got: list[str] = []

    async def listen() -> None:
        async for event in it.router.stream(ASKED, timeout_s=5):
            got.append(event.text)

    with pytest.raises(ProviderTimeoutError) as caught:
        await listen()
    assert got == ["all ", "is "]
    assert caught.value is broken
    assert broken.received == Plan("all is ", finish_reason=FinishReason.OTHER, model="model-a", provider="p-a")
    assert [each.outcome for each in broken.attempts] == ["ProviderTimeout"]
    assert it.asked("b") == 0
    assert it.live("a").window.counts(it.clock.now()) == (1, 1)
    assert it.quiet()


async def test_a_listener_that_leaves_ends_the_call() -> None:
    it = house(a=[DOWN], b=[GOOD])
    stream = it.router.stream(ASKED, timeout_s=5)
    assert isinstance(await anext(stream), TextDelta)
    assert it.live("b").in_flight == 1
    await stream.aclose()
    assert it.providers["b"].left_early == 1
    assert it.quiet()


async def test_names_lead_to_aliases_targets_and_models() -> None:
    it = house(
        a=[GOOD],
        b=[GOOD],
        aliases={"judge": Route("judge", (Choice("b"),))},
        targets={},
    )

    async def who(model: str) -> str:
        return (await it.ask(request=asking("x", model=model))).attempts[0].target

    assert [await who(name) for name in ("", "default", "judge", "a", "b")] == ["a", "a", "b", "a", "b"]
    assert {await who("model-a") for _ in range(30)} == {"a", "b"}
    with pytest.raises(ModelNotFoundError, match="there is no model 'gpt-9'; the aliases are default, judge"):
        await it.ask(request=asking("x", model="gpt-9"))
    infos = await it.router.models(timeout_s=1)
    assert [(info.name, info.provider, info.is_default) for info in infos] == [
        ("default", "", True),
        ("judge", "", False),
        ("a", "p-a", False),
        ("b", "p-b", False),
        ("model-a", "", False),
    ]


async def test_how_it_is_with_a_target_is_listed() -> None:
    it = house(a=[ProviderBusyError("limits the rate", retry_after_s=7)], b=[GOOD])
    await it.ask()
    a, b = (await it.router.models(timeout_s=1))[0].targets
    assert (a.name, a.provider, a.model, a.order, a.circuit) == ("a", "p-a", "model-a", 0, Circuit.CLOSED)
    assert a.resting_s == pytest.approx(7)
    assert a.last_error is not None
    assert (a.last_error.outcome, a.last_error.message) == ("ProviderBusy", "limits the rate")
    assert (b.resting_s, b.last_error) == (0, None)


async def test_another_board_keeps_what_is_known_of_targets_that_stay() -> None:
    it = house(a=[ProviderBusyError("x", retry_after_s=70), GOOD], b=[GOOD])
    await it.ask()
    before = it.router.board
    gate = it.providers["b"].gate = asyncio.Event()
    on_its_way = asyncio.create_task(it.ask())
    await asyncio.sleep(0)
    c = RecordingProvider([Plan("from c")], name="p-c")
    targets = {"a": before.routes.targets["a"], "c": Target("c", "p-c", "model-a")}
    routes = Routes(targets, {"default": Route("default", (Choice("a", 0), Choice("c", 1)))}, "default")
    sources = {"a": it.providers["a"], "c": c}
    it.router.use(Board(routes, sources, random=random.random, now=it.clock.now(), before=before))
    assert (await it.ask()).text == "from c", "a still rests"
    assert it.router.board.targets["a"] is before.targets["a"]
    gate.set()
    assert (await on_its_way).text == "all is well", "who was on the way ends as it began"


async def test_a_fault_of_ours_is_not_a_fault_of_the_target() -> None:
    it = house(a=[KeyError("a bug")], b=[GOOD])
    with pytest.raises(KeyError):
        await it.ask()
    assert it.live("a").window.counts(it.clock.now()) == (0, 0)
    assert it.quiet()


async def test_an_alias_can_do_what_any_of_its_targets_can_in_the_smallest_room() -> None:
    it = house(a=[GOOD], b=[GOOD], c=[GOOD])
    can = {
        "a": Capabilities(images=Support.NO, seed=Support.NO, stop=Support.EMULATED, context_tokens=200_000),
        "b": Capabilities(images=Support.YES, seed=Support.UNKNOWN, context_tokens=8_000, max_output_tokens=500),
        "c": Capabilities(),
    }
    for name, provider in it.providers.items():
        provider.capabilities = lambda model, name=name: can[name]  # type: ignore[method-assign,misc]
    (alias, a, *_) = await it.router.models(timeout_s=1)
    told = alias.capabilities
    assert (told.images, told.seed, told.stop) == (Support.YES, Support.UNKNOWN, Support.EMULATED)
    assert (told.context_tokens, told.max_output_tokens) == (8_000, 500)
    assert a.capabilities == can["a"]


async def test_a_request_asks_for_its_own_model_though_a_file_comes_while_it_waits() -> None:
    target = Target("env", "p-a", "model-a")
    provider = RecordingProvider([DOWN, GOOD], name="p-a")
    clock, watch, chance = ManualClock(), RecordingWatch(), random.Random(7).random
    board = Board(Routes({"env": target}, {}, "env"), {"env": provider}, random=chance, now=clock.now())
    router = Router(board, clock=clock, random=chance, watch=watch)
    asked = asyncio.create_task(router.plan(asking("hello", model="model-b"), timeout_s=60))
    while not provider.requests:
        await asyncio.sleep(0)
    router.use(house(a=[GOOD]).router.board)
    await asked
    assert [request.model for request in provider.requests] == ["model-b", "model-b"]


class FailsAfterwards(RecordingProvider):
    """Gives its answer, then fails."""

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> Any:
        async for event in super().stream(request, timeout_s=timeout_s):
            yield event
        raise DOWN


async def test_a_failure_after_the_answer_is_none() -> None:
    it = house(a=[GOOD])
    it.live("a").source = FailsAfterwards([GOOD], name="p-a")
    assert (await it.ask("stream")).text == GOOD.text
    assert it.quiet()
    assert [attempt.outcome for _, attempt, _ in it.watch.attempts] == ["ok"]


@both
@pytest.mark.parametrize(
    "error",
    [ProviderRejectedError("no: 'my secret'"), WrongShapeError("'my secret'"), ProviderAnswerError("my secret")],
)
async def test_what_one_caller_asked_or_was_answered_is_told_to_no_other(how: str, error: PagiError) -> None:
    it = house(a=[error], habits=Habits(attempts=1), targets={"a": {"limits": RateLimits(concurrent=1)}})
    with pytest.raises(PagiError, match="my secret"):
        await it.ask(how)
    ((state,),) = [info.targets for info in it.router.board.infos(0.0) if info.name == "default"]
    assert state.last_error is not None
    assert state.last_error.message
    assert "secret" not in state.last_error.message


def test_requests_of_the_board_before_are_awaited_though_the_breakers_rules_are_others() -> None:
    before = house(a=[GOOD]).router.board
    source = before.targets["a"].source
    with Expected(before.targets.values()):
        routes = replace(before.routes, breaker=BreakerRules(failures=9))
        board = Board(routes, {"a": source}, random=random.random, now=0.0, before=before)
        board = Board(before.routes, {"a": source}, random=random.random, now=0.0, before=board)
        assert board.targets["a"].awaited == 1
    assert board.targets["a"].awaited == 0


class FailsLate(RecordingProvider):
    """Fails when the gate opens."""

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        self.requests.append(request)
        assert self.gate is not None
        await self.gate.wait()
        raise DOWN


async def test_the_circuit_of_a_target_that_left_the_file_is_told_no_more() -> None:
    it = house(a=[DOWN], b=[GOOD], breaker=BreakerRules(failures=1))
    slow = it.live("a").source = FailsLate([DOWN], gate=asyncio.Event())
    late = asyncio.create_task(it.ask())
    while not slow.requests:
        await asyncio.sleep(0)
    it.router.use(house(b=[GOOD]).router.board)
    assert sorted(it.watch.gone) == ["a", "b"]
    assert slow.gate is not None
    slow.gate.set()
    assert (await late).text == GOOD.text
    assert it.watch.circuits == []


def test_the_metric_of_a_target_that_left_goes_with_it() -> None:
    watch = PrometheusRouting()
    watch.circuit("leaves-soon", Circuit.OPEN)
    assert REGISTRY.get_sample_value("pagi_gateway_circuit_open", {"target": "leaves-soon"}) == 1
    watch.forgotten("leaves-soon")
    watch.forgotten("never-was")
    assert REGISTRY.get_sample_value("pagi_gateway_circuit_open", {"target": "leaves-soon"}) is None
