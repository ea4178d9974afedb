"""Whole runs of the real planner under random faults, one step at a time (Hypothesis, stateful).

The planner is the real one: domain, journal in a file, recovery, two of them on one store. So are the ledgers of
gateway and sandbox. What a provider, a tool or memory does happens when the machine lets it; see docs/runs.md,
*How this is tested*.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pagi_chassis.errors import (
    CancelledByCallerError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PagiError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from pagi_planner import RunRequest
from pagi_planner.domain.errors import (
    AWAY,
    DecidedError,
    JournalError,
    RunEndedError,
    RunNotFoundError,
    UnknownCallError,
)
from pagi_planner.domain.model import Decision, Judging, Mode, RunStatus
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.time_travel.fork import Change
from scripts_of_runs import NAMED, TURNS, Script, script_of
from stepped_client import Client
from stepped_planner import Planner, World
from stepping import FULL_AT_COMMIT, FULL_AT_ONCE

ALL = bool(os.environ.get("CHAOS_ALL"))
LASTS_S = 120.0
MOST_MOVES = 20_000
# Long enough for what is handed on behind a run's end, and for those who were cut off to come again.
ROUNDS_AT_REST = 3
AT_REST_S = 12.0
FAULTS = (
    UnavailableError,
    DeadlineExceededError,
    ResourceExhaustedError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    FailedPreconditionError,
    PermissionDeniedError,
    UnauthenticatedError,
)
THIS_IS = "this is a fault"
MOST_RUNS = 4
MOST_RUNS_WITH_FORKS = 10
MOST_MOVES_TO_A_GATE = 100
TURNS_OF_A_RUN = st.lists(st.sampled_from(TURNS), max_size=3)
MODES = st.sampled_from([Mode.REACT, Mode.REACT, Mode.REACT, Mode.PLAN, Mode.CHAT])
MOVES = st.integers(0, 30)
COUNTED: Counter[str] = Counter()


@dataclass(eq=False)
class Asked:
    """What a client has asked for.

    Attributes:
        key: Empty: none.
        run_ids: Of the runs that it was told it has begun.
    """

    script: Script
    request: RunRequest
    key: str
    run_ids: set[str] = field(default_factory=set)


class WholeRuns(RuleBasedStateMachine):
    """Runs begin, go on, are cut off, taken up, cancelled, decided on, forked and watched, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="pagi-whole-runs-"))
        self.world = World(self.folder)
        self.asked: list[Asked] = []
        self.clients: list[Client] = []
        self.cancelled: set[str] = set()
        self.denied: set[str] = set()
        # What was done to the world that explains how a run ended.
        self.errors: set[str] = set()
        self.times_full = 0
        self.answers_lost = False
        self.was_refused = False
        self.times_jumped = 0

    @initialize(turns=TURNS_OF_A_RUN, mode=MODES, judge=st.booleans(), keyed=st.booleans(), watched=st.booleans())
    def begin_the_first(self, turns: list[str], mode: Mode, judge: bool, keyed: bool, watched: bool) -> None:
        self._begin(turns, mode, judge, keyed, watched, "")

    # Progress.

    @rule(
        turns=TURNS_OF_A_RUN,
        mode=MODES,
        judge=st.booleans(),
        keyed=st.booleans(),
        session=st.sampled_from(["", "shared"]),
        watched=st.booleans(),
        which=st.integers(0, 1),
    )
    @precondition(lambda self: len(self.asked) < MOST_RUNS and self.world.running)
    def begin(
        self, turns: list[str], mode: Mode, judge: bool, keyed: bool, session: str, watched: bool, which: int
    ) -> None:
        self._begin(turns, mode, judge, keyed, watched, session, which)

    @rule(which=st.integers(0, 4), at=st.integers(0, 1))
    @precondition(lambda self: any(each.key for each in self.asked) and self.world.running)
    def ask_again(self, which: int, at: int) -> None:
        keyed = [each for each in self.asked if each.key]
        self._ask(keyed[which % len(keyed)], self._planner(at), watched=False)

    @rule(moves=st.integers(1, 40))
    def go_on(self, moves: int) -> None:
        self._go_on(moves, None)

    @rule(moves=st.integers(1, 60), order=st.integers(1, 1_000))
    def go_on_in_any_order(self, moves: int, order: int) -> None:
        self._go_on(moves, random.Random(order))

    @rule(moves=st.integers(40, 150), order=st.integers(0, 1_000))
    def go_on_and_on(self, moves: int, order: int) -> None:
        self._go_on(moves, random.Random(order) if order else None)

    @rule(times=st.integers(1, 5))
    @precondition(lambda self: self.is_busy)
    def wait(self, times: int) -> None:
        for _ in range(times):
            self.world.pass_time()

    # What befalls planners.

    @rule(which=st.integers(0, 1), moves=st.integers(0, 30), order=st.integers(0, 1_000))
    @precondition(lambda self: self.is_busy)
    def kill_planner(self, which: int, moves: int, order: int) -> None:
        self._go_on(moves, random.Random(order) if order else None)
        self._count("planner killed")
        self.answers_lost = True
        self.world.kill(self.world.planners[which % len(self.world.planners)])
        if not self.world.running:
            self.world.start()

    @rule()
    @precondition(lambda self: len(self.world.planners) < 2)
    def start_another_planner(self) -> None:
        self.world.start()

    @rule(which=st.integers(0, 1), lapses=st.booleans())
    @precondition(lambda self: len(self.world.running) > 1 and self.is_busy)
    def stop_planner(self, which: int, lapses: bool) -> None:
        self._count("planner hung")
        planner = self._planner(which)
        planner.is_stopped = True
        planner.is_lapsed = lapses

    @rule()
    @precondition(lambda self: any(each.is_stopped for each in self.world.planners))
    def wake_planner(self) -> None:
        for planner in self.world.planners:
            planner.is_stopped = planner.is_lapsed = False

    @rule(which=st.integers(0, 1), how=st.sampled_from([FULL_AT_ONCE, FULL_AT_COMMIT]), times=st.integers(0, 4))
    @precondition(lambda self: self.is_busy and self.times_full < 3)
    def fill_disk(self, which: int, how: tuple[str, ...], times: int) -> None:
        self._count("disk full")
        self.times_full += 1
        self._planner(which).journal.fill(how, times)

    @rule()
    @precondition(lambda self: any(each.journal.full for each in self.world.planners))
    def free_disk(self) -> None:
        for planner in self.world.planners:
            planner.journal.full = ()

    @rule(hours=st.sampled_from([-48, -1, 1, 48]))
    @precondition(lambda self: self.is_busy and self.times_jumped < 2)
    def set_clock(self, hours: int) -> None:
        self._count("clock jumped")
        self.times_jumped += 1
        self.world.jumped += timedelta(hours=hours)

    # What befalls the services.

    @rule(service=st.sampled_from(["gateway", "sandbox", "sandbox", "memory"]), kind=st.sampled_from(FAULTS))
    @precondition(lambda self: self.is_busy)
    def fail_next(self, service: str, kind: type[PagiError]) -> None:
        self._count(f"{service} fails")
        self.errors.add(kind.__name__)
        self.world.mesh.services[service].next_fault = kind(THIS_IS)
        self.was_refused = self.was_refused or (service == "memory" and kind not in AWAY)

    @rule(moves=MOVES, place=st.integers(0, 9), kind=st.sampled_from([InternalError, UnavailableError]))
    @precondition(lambda self: self.is_busy)
    def fail_midway(self, moves: int, place: int, kind: type[PagiError]) -> None:
        if self._reaches_a_gate(moves):
            self._count("call failed midway")
            self.errors.add(kind.__name__)
            self.world.mesh.fail(place, kind(THIS_IS))

    @rule(moves=MOVES, place=st.integers(0, 9))
    @precondition(lambda self: self.is_busy)
    def hang(self, moves: int, place: int) -> None:
        if self._reaches_a_gate(moves):
            self._count("call hung")
            self.world.mesh.hang(place)

    @rule(moves=MOVES, name=st.sampled_from(["gateway", "sandbox"]), forgets=st.booleans())
    @precondition(lambda self: self.is_busy)
    def kill_service(self, moves: int, name: str, forgets: bool) -> None:
        if self._reaches_a_gate(moves):
            self._count(f"{name} killed")
            self.answers_lost = True
            self.errors.add(UnavailableError.__name__)
            self.world.mesh.crash(name, forgets=forgets)

    @rule(moves=MOVES, place=st.integers(0, 9), away=st.booleans())
    @precondition(lambda self: self.is_busy)
    def do_it_and_lose_the_answer(self, moves: int, place: int, away: bool) -> None:
        if self._reaches_a_gate(moves):
            self._count("answer lost")
            self.answers_lost = True
            self.errors.add(UnavailableError.__name__)
            self.world.mesh.open(place)
            if away:
                # Who asks again does not hear of it either.
                self.world.mesh.services["sandbox"].next_fault = UnavailableError(THIS_IS)
            for planner in self.world.planners:
                planner.lose_answers()

    @rule(moves=MOVES, place=st.integers(0, 9), also=st.sampled_from(["", "gateway", "sandbox"]))
    @precondition(lambda self: self.is_busy)
    def do_it_and_die(self, moves: int, place: int, also: str) -> None:
        """The planner is killed with the answer on its way, and the service with it where one is named."""
        if self._reaches_a_gate(moves):
            self.world.mesh.open(place)
            if also:
                self._count(f"{also} killed")
                self.answers_lost = True
                self.errors.add(UnavailableError.__name__)
                self.world.mesh.crash(also)
            self.kill_planner(0, 0, 0)

    # What people do.

    @rule(which=st.integers(0, 9), at=st.integers(0, 1))
    @precondition(lambda self: self.world.rules and self.world.running)
    def cancel(self, which: int, at: int) -> None:
        run_id = [*self.world.rules][which % len(self.world.rules)]
        self.cancelled.add(run_id)
        planner = self._planner(at)
        planner.spawn(self._cancelled(planner, run_id))

    @rule(which=st.integers(0, 9), at=st.integers(0, 1), word=st.sampled_from(["yes", "yes", "no", "edited"]))
    @precondition(lambda self: self.world.running and any(map(self.world.waiting, self.world.rules)))
    def decide(self, which: int, at: int, word: str) -> None:
        self._decide(which, self._planner(at), word)

    @rule(which=st.integers(0, 9), step=st.integers(0, 3), at=st.integers(0, 1), model=st.sampled_from([None, "other"]))
    @precondition(lambda self: 0 < len(self.world.rules) < MOST_RUNS_WITH_FORKS and self.world.running)
    def fork(self, which: int, step: int, at: int, model: str | None) -> None:
        run_id = [*self.world.rules][which % len(self.world.rules)]
        planner = self._planner(at)
        planner.spawn(self._forked(planner, run_id, step, Change(model=model)))

    @rule(which=st.integers(0, 9), at=st.integers(0, 1))
    @precondition(lambda self: self.world.rules and self.world.running)
    def watch(self, which: int, at: int) -> None:
        run_id = [*self.world.rules][which % len(self.world.rules)]
        client = Client(self.world, run_id)
        self.clients.append(client)
        client.connect(self._planner(at))

    @rule(which=st.integers(0, 9), at=st.integers(0, 1))
    @precondition(lambda self: self.clients and self.world.running)
    def leave_and_come_again(self, which: int, at: int) -> None:
        client = self.clients[which % len(self.clients)]
        if client.is_connected:
            client.leave()
        else:
            client.connect(self._planner(at))

    # What always holds.

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert not self.world.faults, "\n".join(self.world.faults)

    @invariant()
    def what_a_planner_knows_of_a_run_is_what_its_journal_says(self) -> None:
        for planner in self.world.running:
            if planner.journal.full or planner.journal.writer.waiting:
                continue
            for run_id, active in planner.runs._workshop.at_work.items():
                events = self.world.events.get(run_id, ())
                is_durable = active.run.state.seq == len(events) > 0 and planner.has(run_id)
                # Of an ended run it also knows whether memory took the history.
                if is_durable and not active.run.state.is_final:
                    assert facts(active.run.state) == facts(RunState.of(events)), run_id

    def teardown(self) -> None:
        try:
            self._come_to_rest()
            self._check()
        finally:
            COUNTED["steps"] += self.world.moves
            COUNTED["examples"] += 1
            self.world.end()
            shutil.rmtree(self.folder, ignore_errors=True)

    # How it is done.

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for an answer: a fault at rest is none."""
        return any(planner.requests for planner in self.world.running)

    def _begin(
        self, turns: list[str], mode: Mode, judge: bool, keyed: bool, watched: bool, session: str, which: int = 0
    ) -> None:
        name = str(len(self.asked))
        script = Script(name, () if mode is Mode.CHAT else tuple(turns))
        self.world.mesh.scripts[name] = script
        request = RunRequest(
            script.prompt,
            session or f"s{name}",
            mode=mode,
            tools=NAMED if judge else None,
            evaluate=Judging(judge=judge),
            intent_by_model=judge,
        )
        asked = Asked(script, request, f"key {name}" if keyed else "")
        self.asked.append(asked)
        self._ask(asked, self._planner(which), watched=watched)

    def _reaches_a_gate(self, moves: int) -> bool:
        """Goes on so far, and further until something is about to happen."""
        self._go_on(moves, None)
        for _ in range(MOST_MOVES_TO_A_GATE):
            if self.world.mesh.waiting or self.world.is_at_rest:
                break
            self._go_on(1, None)
        return bool(self.world.mesh.waiting)

    def _planner(self, which: int) -> Planner:
        running = self.world.running
        return running[which % len(running)]

    def _count(self, fault: str) -> None:
        COUNTED[f"fault: {fault}"] += 1

    def _go_on(self, moves: int, choice: random.Random | None) -> None:
        for _ in range(moves):
            if not self.world.step(choice):
                if self.world.is_at_rest:
                    return
                self.world.pass_time()

    def _ask(self, asked: Asked, planner: Planner, *, watched: bool) -> None:
        planner.spawn(self._answered(asked, planner, watched))

    async def _answered(self, asked: Asked, planner: Planner, watched: bool) -> None:
        try:
            begun = await planner.runs.begin(asked.request, idempotency_key=asked.key)
            asked.run_ids.add(begun.run_id)
            if watched and begun.task:
                client = Client(self.world, begun.run_id)
                self.clients.append(client)
                client.follow(planner, begun)
            result = await begun.result()
        except CancelledByCallerError:
            for run_id in asked.run_ids:
                self._told(planner, run_id, RunStatus.CANCELLED)
        except PagiError as error:
            is_known = isinstance(error, (JournalError, UnavailableError)) and self.times_full
            if planner.is_alive and not is_known and not self.errors and not asked.script.may_fail:
                raise
        else:
            self._told(planner, begun.run_id, result.status)

    def _told(self, planner: Planner, run_id: str, status: RunStatus) -> None:
        """A client has heard how its run ended."""
        if status is RunStatus.WAITING_APPROVAL or not planner.is_alive:
            return
        rules = self.world.rules.get(run_id)
        if rules is None or not rules.end:
            self.world.faults.append(f"a client was told that {run_id} is {status}, and the journal does not know")
        if rules:
            self.world.acknowledge(run_id, status)

    async def _cancelled(self, planner: Planner, run_id: str) -> None:
        try:
            result = await planner.runs.cancel(run_id, "enough")
        except (JournalError, UnavailableError):
            return
        self._told(planner, run_id, result.status)

    def _decide(self, which: int, planner: Planner, word: str) -> None:
        waiting = [(run_id, call_id) for run_id in self.world.rules for call_id in self.world.waiting(run_id)]
        run_id, call_id = waiting[which % len(waiting)]
        edited = f'{{"line": "edited {call_id}"}}' if word == "edited" else None
        planner.spawn(self._decided(planner, run_id, call_id, Decision(word != "no", "", edited)))

    async def _decided(self, planner: Planner, run_id: str, call_id: str, decision: Decision) -> None:
        try:
            await planner.runs.decide(run_id, call_id, decision)
        except (DecidedError, RunEndedError, UnknownCallError, JournalError, UnavailableError):
            return
        if not planner.is_alive:
            return
        word = self.world.rules[run_id].decided.get(call_id)
        if word is None or word["approved"] is not decision.approved:
            self.world.faults.append(f"the word on {call_id} of {run_id} was taken, and is not in the journal")

    async def _forked(self, planner: Planner, run_id: str, step: int, change: Change) -> None:
        try:
            begun = await planner.runs.fork(run_id, step, change)
        except (InvalidArgumentError, RunNotFoundError, JournalError, UnavailableError):
            return
        if planner.is_alive and begun.run_id not in self.world.rules:
            self.world.faults.append(f"{begun.run_id} was forked, and is not in the journal")

    def _come_to_rest(self) -> None:
        """No more faults: everything ends, people say yes to what is asked, and all clients come again."""
        world = self.world
        world.mesh.heal()
        for planner in world.planners:
            planner.is_stopped = planner.is_lapsed = False
            planner.journal.full = ()
        self._settle()
        for asked in self.asked:
            if asked.key:
                self._ask(asked, self._planner(0), watched=False)
        self._settle()
        while any(map(world.waiting, world.rules)):
            self._decide(0, self._planner(0), "yes")
            self._settle()
        for _ in range(ROUNDS_AT_REST):
            for client in self.clients:
                if not client.is_connected:
                    client.connect(self._planner(0))
            until = world.time.now + AT_REST_S
            while world.time.now < until:
                if not world.step(None):
                    world.pass_time()

    def _settle(self) -> None:
        end = self.world.moves + MOST_MOVES
        while True:
            if not self.world.step(None):
                if self.world.is_at_rest:
                    return
                self.world.pass_time()
            if self.world.moves > end:
                COUNTED["stuck"] += 1
                raise AssertionError(f"it does not come to rest: {self._unfinished()}")

    def _unfinished(self) -> list[str]:
        """What is still going on, for who reads a failure."""
        world = self.world
        runs = [f"{run_id} is at {world.state(run_id).phase}" for run_id, rules in world.rules.items() if not rules.end]
        tasks = [str(task.get_coro()) for planner in world.running for task in planner.requests]
        return [*runs, *tasks, f"{world.mesh.waiting} calls wait"]

    def _check(self) -> None:
        self.nothing_is_wrong()
        world = self.world
        for run_id in world.rules:
            state = world.state(run_id)
            COUNTED[f"ended: {state.status}"] += 1
            self._check_end(run_id, state)
            self._check_effects(run_id)
            self._check_told(run_id, state)
        for effect_id, times in world.mesh.answered.items():
            assert times <= 1 + world.mesh.forgot, f"the model has given {effect_id} {times} times"
        if not self.errors and not world.mesh.crashes:
            anew = [
                effect_id for rules in world.rules.values() for effect_id in rules.intents if "/model/" in effect_id
            ]
            assert not anew, f"{anew} was asked anew, though nothing has changed"
        for client in self.clients:
            durable = len(world.events.get(client.run_id, ()))
            assert client.seen == durable, f"who watched {client.run_id} has seen {client.seen} of {durable} events"
        for asked in self.asked:
            assert not asked.key or len(asked.run_ids) == 1, f"{asked.key} stands for {asked.run_ids}"
        self._check_file()

    def _check_end(self, run_id: str, state: RunState) -> None:
        """The run has ended as the undisturbed one would have, unless something explains why not."""
        world, script = self.world, self._script(state)
        told = world.acknowledged.get(run_id)
        assert told in (None, state.status) or (self.times_full and state.error_type == "JournalError"), (
            f"{run_id} is {state.status}, and somebody was told that it is {told}"
        )
        took = world.ended_at[run_id] - world.seen_at[run_id]
        parent = world.parents[run_id]
        why = f"{run_id} ({script.turns}) is {state.status} after {took:.0f} s: {state.error_type} {state.error}"
        if state.status is RunStatus.COMPLETED:
            # A model that says nothing is asked once more, and no oftener.
            assert state.answer == script.answer or script.turns.count("empty") > 1, why
        elif state.status is RunStatus.CANCELLED:
            is_parents = bool(parent) and world.state(parent).status is not RunStatus.COMPLETED
            assert is_parents or {run_id, parent} & self.cancelled, why
        elif state.status is RunStatus.FAILED:
            known = THIS_IS in state.error or state.error_type in self.errors
            known = known or (state.error_type == "JournalError" and self.times_full > 0)
            assert known or (state.error_type == "ContextTooLongError" and "too long" in script.turns), why
        elif state.status is RunStatus.LIMIT_TIME:
            # A run's time is told by the clock of the day: one that was set forward has used it up.
            assert self.times_jumped or took >= state.request["limits"]["timeout_s"] * 0.95, why
        else:
            raise AssertionError(why)

    def _check_effects(self, run_id: str) -> None:
        """Each effectful call was done once where it says so, and never where it says not."""
        done = self.world.effects
        for event in self.world.events[run_id]:
            data = event.data
            if event.type.value in ("TOOL_RESULT", "TOOL_ERROR") and data["tool"] in ("append", "pay"):
                times = len(done.get(data["effect_id"], ()))
                least, most = self._times(data["verdict"])
                assert least <= times <= most, f"{data['effect_id']} is {data['verdict']} and was done {times} times"
        own = [(effect, line["line"]) for effect, lines in done.items() for line in lines if effect.startswith(run_id)]
        twice = [line for line, times in Counter(line for _, line in own).items() if times > 1]
        COUNTED["duplicates"] += len(twice)
        assert not twice, f"{run_id} has done {twice} more than once"

    def _times(self, verdict: str) -> tuple[int, int]:
        """How often an effectful tool may have had its effect, at least and at most."""
        if verdict in ("ok", "unknown"):
            return int(verdict == "ok"), 1
        # Whoever is turned away at the door on asking again may have been let in before.
        is_at_the_door = verdict == "invalid" or (
            verdict == "unavailable" and ResourceExhaustedError.__name__ in self.errors
        )
        return 0, int(self.answers_lost and is_at_the_door)

    def _check_told(self, run_id: str, state: RunState) -> None:
        """Who had to hear of the run has."""
        world = self.world
        told = [event.type for event in world.notifier.told if event.run_id == run_id]
        events = world.events[run_id]
        assert {events[0].type, events[-1].type} <= {*told}, f"of {run_id} was told: {told}"
        # What memory refuses is left behind.
        if events[-1].type.value == "PLAN_END" and not self.was_refused:
            assert run_id in world.memory.exchanges, f"the exchange of {run_id} is not in the history"

    def _check_file(self) -> None:
        """The file says what was seen to be committed, and its rows of runs say what the events come to."""
        with closing(sqlite3.connect(self.world.path)) as database:
            rows = database.execute("SELECT run_id, seq, event_type FROM audit_log ORDER BY id").fetchall()
            runs = dict(database.execute("SELECT run_id, status FROM runs").fetchall())
        found: dict[str, list[tuple[int, str]]] = {}
        for run_id, seq, kind in rows:
            found.setdefault(run_id, []).append((seq, kind))
        seen = {
            run_id: [(each.seq, each.type.value) for each in events] for run_id, events in self.world.events.items()
        }
        assert found == seen
        assert runs == {run_id: self.world.state(run_id).status for run_id in seen}

    def _script(self, state: RunState) -> Script:
        return script_of(state.prompt.partition("#")[2], self.world.mesh.scripts)


def facts(state: RunState) -> dict[str, object]:
    """What a planner knows of a run and goes by."""
    names = ("seq", "asked", "intents", "waiting", "decisions", "model_calls", "refinements", "usage", "paused_s")
    return {
        "result": state.result(),
        "phase": state.phase,
        "conversation": state.conversation(),
        "used_s": state.used_s,
        **{name: getattr(state, name) for name in names},
    }


def told() -> str:
    """The numbers, for people."""
    faults, ended = (
        {name.partition(": ")[2]: times for name, times in sorted(COUNTED.items()) if name.startswith(kind)}
        for kind in ("fault", "ended")
    )
    return (
        f"chaos, whole runs: {COUNTED['examples']} worlds, {COUNTED['steps']} steps taken, "
        f"{sum(faults.values())} faults injected ({', '.join(f'{times} {name}' for name, times in faults.items())}), "
        f"{sum(ended.values())} runs ended ({', '.join(f'{times} {name}' for name, times in ended.items())}), "
        f"{COUNTED['duplicates']} duplicates, {COUNTED['stuck']} stuck"
    )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The planner warns of every fault, and there are many."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# The same examples each time; `make chaos` tries others each time, for as long as it is given. What is found is told
# step by step, and with CHAOS_SHRINK=1 in as few steps as can be found within some minutes.
SHRINKS = bool(os.environ.get("CHAOS_SHRINK"))
IN_SHORT = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
AT_LENGTH = settings(IN_SHORT, max_examples=200, stateful_step_count=50, derandomize=False)


@pytest.mark.timeout(1200 if ALL else 120)
def test_whole_runs_survive_random_faults() -> None:
    COUNTED.clear()
    ends = time.monotonic() + (LASTS_S if ALL else 0.0)
    while True:
        run_state_machine_as_test(WholeRuns, settings=AT_LENGTH if ALL else IN_SHORT)
        if time.monotonic() >= ends:
            break
    print(told())
