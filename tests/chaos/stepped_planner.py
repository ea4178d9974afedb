"""A whole planner in this process that can be stepped, stopped, and killed at any point of what it does."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from journal_rules import BrokenRuleError, RunRules
from pagi_planner import Agent, Policy
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.adapters.redis_notifier import NOTIFIED
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.adapters.sqlite_tables import COLUMNS, event_of
from pagi_planner.domain.after.history import HistoryKeeper
from pagi_planner.domain.after.learning import Teacher
from pagi_planner.domain.after.relay import Relay
from pagi_planner.domain.errors import JournalError
from pagi_planner.domain.keeping.keeper import Keeper
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.model import Context, Exchange, RunRequest, RunStatus
from pagi_planner.domain.ownership import Order
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.lesson import Account
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.delegate import Delegate
from pagi_planner.testing import InMemoryMemory, RecordingNotifier
from stepped_mesh import Caller, Mesh, Wire
from stepping import SharedJournal, SteppedLoop, Time

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
BEAT_S = 4.0
GRACE_S = 0.0
POLL_S = 1.0
ROOM = 20


class Planner:
    """One planner process.

    Args:
        world: Where it lives.
        owner: Its name.
        is_quick: Its event loop commits what is little; else the journal's thread commits all.
    """

    def __init__(self, world: World, owner: str, *, is_quick: bool) -> None:
        self.owner = owner
        self._world = world
        self.is_alive = True
        # It could not start.
        self.has_failed = False
        # It hangs: nothing of it goes on.
        self.is_stopped = False
        # The others take it for dead.
        self.is_lapsed = False
        self.requests: set[asyncio.Task[Any]] = set()
        self.loop = SteppedLoop(world.time)
        self.journal = SharedJournal(world.path, owner, world, is_quick=is_quick)
        self.wires = {name: Wire(world.mesh, name, self.loop, owner) for name in world.mesh.services}
        self.loop.run_until_complete(self._open(world))
        self.spawn(self._start())

    @property
    def goes_on(self) -> bool:
        """Whether it does anything when its turn comes."""
        return self.is_alive and not self.is_stopped

    def has(self, run_id: str) -> bool:
        """Whether the run is this planner's, by its row."""
        return self.journal.owner_of(run_id) == self.owner

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Has a request of somebody's handled."""
        task = self.loop.create_task(work)
        self.requests.add(task)
        task.add_done_callback(self._handled)
        return task

    def _handled(self, task: asyncio.Task[Any]) -> None:
        self.requests.discard(task)
        if self.is_alive and not task.cancelled() and (error := task.exception()):
            self._world.faults.append(f"a request at {self.owner} has failed: {error!r}")

    def lose_answers(self) -> None:
        """Its connections break with the answers that are on them."""
        for wire in self.wires.values():
            wire.lose_answers()

    def kill(self) -> None:
        """As SIGKILL does: nothing that it was about to do happens, and the file stays as it is."""
        self.is_alive = False
        for wire in self.wires.values():
            wire.is_cut = True
        self.journal.kill()
        self.loop.end()

    async def _open(self, world: World) -> None:
        await self.journal.start()
        client: Any = self.wires
        delegate = Delegate()
        agent = Agent(
            GatewayModel(client["gateway"], timeout_s=600.0),
            memory=_RemoteMemory(world, self.wires["memory"]),
            tools=SandboxTools(client["sandbox"], timeout_s=600.0, fresh_s=1e9),
            journal=self.journal,
            clock=world,
            policy=Policy(poll_s=POLL_S),
            own_tools=[delegate],
        )
        delegate.children = self.runs = Runs(agent, self.journal, max_concurrent=ROOM)
        self._parts = [
            Relay("notifications", self.journal, NOTIFIED, self._remote(world.notifier.notify)),
            Relay("history", self.journal, {EventType.PLAN_END}, HistoryKeeper(agent).deliver, delay_s=0.5),
            Relay("mind", self.journal, {EventType.PLAN_END}, Teacher(agent, self).deliver, delay_s=2.0),
            Keeper(self.runs, self.journal, beat_s=BEAT_S, grace_s=GRACE_S),
        ]

    async def record(self, accounts: Sequence[Account]) -> Sequence[str]:
        """Tells the mind."""
        told: Sequence[str] = await self._remote(self._world.record)(accounts)
        return told

    def _remote(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The call, made over a wire: a dead planner makes none."""
        return lambda *what: self.wires["others"].ask(lambda: call(*what))

    async def _start(self) -> None:
        """As the process does: it ends where it cannot take up what is there, and is started again."""
        try:
            for part in self._parts:
                await part.start()
        except JournalError:
            self.has_failed = True


class _RemoteMemory:
    """Memory behind a wire."""

    def __init__(self, world: World, wire: Wire) -> None:
        self._world = world
        self._wire = wire

    async def recall(self, request: RunRequest) -> Context:
        """Asks for the context."""

        async def work() -> Context:
            await self._world.mesh.gate("memory", f"recall {request.session_id}")
            return await self._world.memory.recall(request)

        context: Context = await self._wire.ask(work, repeatable=True)
        return context

    async def remember(self, exchange: Exchange) -> None:
        """Stores the exchange."""

        async def work() -> None:
            await self._world.mesh.gate("memory", f"remember {exchange.run_id}")
            await self._world.memory.remember(exchange)

        await self._wire.ask(work, repeatable=True)


class World:
    """Planners with one journal, the services around them, and a witness of all that is written, asked and done.

    Attributes:
        journals: The durable events of each run, and what they say.
        effects: What effectful tools have done, by effect id: their arguments, as often as it was done.
        faults: What must not be, as it is found.
        acknowledged: How runs have ended, of which somebody was told that they have.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.db"
        self.effects_path = folder / "effects"
        self.time = Time()
        self.jumped = timedelta()
        self.planners: list[Planner] = []
        self.born = 0
        self.mesh = Mesh(self.time, self.arrived, self.did)
        self.memory = InMemoryMemory()
        self.notifier = RecordingNotifier()
        self.accounts: dict[str, Account] = {}
        self.orders: list[Order] = []
        self.events: dict[str, list[Event]] = {}
        self.rules: dict[str, RunRules] = {}
        self.seen_at: dict[str, float] = {}
        self.ended_at: dict[str, float] = {}
        self.parents: dict[str, str] = {}
        self.effects: dict[str, list[dict[str, Any]]] = {}
        self.faults: list[str] = []
        self.acknowledged: dict[str, RunStatus] = {}
        self.moves = 0
        self._uncommitted: dict[str, list[Event]] = {}
        self.start()

    # The planners.

    def start(self) -> Planner:
        """One more planner."""
        self.born += 1
        planner = Planner(self, f"planner-{self.born}", is_quick=self.born % 2 == 0)
        self.planners.append(planner)
        return planner

    def kill(self, planner: Planner) -> None:
        """A planner dies; whoever it had called sees the connection close."""
        self.planners.remove(planner)
        planner.kill()
        self.mesh.loop.settle()

    @property
    def running(self) -> list[Planner]:
        """Those that go on when they may."""
        return [planner for planner in self.planners if planner.goes_on]

    # Steps.

    def step(self, choice: random.Random | None) -> bool:
        """Does one thing: the nearest at hand, or any; returns whether there was one to do before time has to pass."""
        self.moves += 1
        self.mesh.loop.settle()
        ready = [planner for planner in self.running if planner.loop.is_ready]
        writing = [planner for planner in self.running if planner.journal.writer.waiting]
        ways = [("tick", ready), ("commit", writing), ("open", [None] * self.mesh.waiting)]
        possible = [(way, what) for way, what in ways if what]
        if not possible:
            return False
        way, what = choice.choice(possible) if choice else possible[0]
        place = choice.randrange(len(what)) if choice else 0
        if way == "tick":
            ready[place].loop.tick()
        elif way == "commit":
            writer = writing[place].journal.writer
            writer.commit(choice.randint(1, writer.waiting) if choice else writer.waiting)
        else:
            self.mesh.open(place)
        return True

    def pass_time(self) -> bool:
        """Goes to the next moment at which something happens by itself."""
        for planner in [each for each in self.planners if each.has_failed]:
            self.kill(planner)
            self.start().journal.full = planner.journal.full
        loops = [self.mesh.loop, *(planner.loop for planner in self.running)]
        nexts = [timer for loop in loops if (timer := loop.next_timer) is not None]
        if nexts:
            self.time.now = max(self.time.now, min(nexts))
        return bool(nexts)

    @property
    def is_at_rest(self) -> bool:
        """Whether every run has ended, or waits for a person, and nobody waits for an answer."""
        planners = self.running
        if any(each.has_failed for each in planners):
            return False
        if self.mesh.waiting or any(each.requests or each.journal.writer.waiting for each in planners):
            return False
        if any(each.runs.active or each.runs.queued or each.runs._workshop.closing for each in planners):
            return False
        return all(rules.end or self.waiting(run_id) for run_id, rules in self.rules.items())

    def state(self, run_id: str) -> RunState:
        """What the durable events come to."""
        return RunState.of(self.events[run_id])

    def waiting(self, run_id: str) -> list[str]:
        """The calls of a run that need a person's word, all of them durably asked about."""
        rules = self.rules[run_id]
        if rules.end or not rules.asked - rules.decided.keys():
            return []
        return [*self.state(run_id).waiting]

    def now(self) -> datetime:
        """The time of day, as the planners' clock."""
        return BEGINNING + timedelta(seconds=self.time.now) + self.jumped

    # The witness of the journal.

    def wrote(self, owner: str, connection: sqlite3.Connection, row_id: int) -> None:
        """Sees a row before its commit."""
        row = connection.execute(f"SELECT {COLUMNS} FROM audit_log WHERE id = ?", (row_id,)).fetchone()
        event = event_of(row)
        owns = connection.execute("SELECT owner FROM runs WHERE run_id = ?", (event.run_id,)).fetchone()
        if owns != (owner,):
            self.faults.append(f"{owner} writes {event.type} in {event.run_id}, which belongs to {owns}")
        self._uncommitted.setdefault(owner, []).append(event)

    def committed(self, owner: str, *, is_kept: bool) -> None:
        """Sees the commit."""
        for event in self._uncommitted.pop(owner, []) if is_kept else ():
            self._durable(event)
        if not is_kept:
            self._uncommitted.pop(owner, None)

    def grew(self, last: int) -> None:
        """Tells the other planners, as the database does."""
        for planner in self.planners:
            if planner.is_alive:
                planner.loop.call_soon(planner.journal.heard, last)

    def is_lapsed(self, owner: str) -> bool:
        """Whether the others take it for dead."""
        return not any(each.owner == owner and not each.is_lapsed for each in self.planners)

    def leads(self, owner: str) -> bool:
        """The first that lives."""
        living = [each.owner for each in self.planners if not each.is_lapsed]
        return bool(living) and living[0] == owner

    def _durable(self, event: Event) -> None:
        run_id = event.run_id
        rules = self.rules.setdefault(run_id, RunRules(run_id))
        self.seen_at.setdefault(run_id, self.time.now)
        try:
            rules.take(event.seq, event.type.value, event.data)
        except BrokenRuleError as broken:
            self.faults.append(str(broken))
        if event.seq == 1:
            # Nobody waits for a fork of a child.
            self.parents[run_id] = "" if "forked_from" in event.data else event.data["parent_run_id"]
        if rules.end:
            self.ended_at.setdefault(run_id, self.time.now)
        elif run_id in self.acknowledged:
            self.faults.append(f"{run_id} goes on ({event.type}) after its end was acknowledged")
        self.events.setdefault(run_id, []).append(event)

    # The witness of calls.

    def arrived(self, service: str, effect_id: str, caller: Caller, request: Any) -> None:
        """A call by effect id has come in."""
        run_id = caller.run_id
        rules = self.rules.get(run_id)
        if rules is None or effect_id not in rules.intents:
            self.faults.append(f"{service} is asked for {effect_id}, and the journal has no intent of it")
            return
        if not self._has(run_id, caller.owner):
            # One who lost the run an instant ago asks under the same effect id: nothing is done twice.
            return
        if effect_id in rules.results:
            self.faults.append(f"{service} is asked for {effect_id}, which has come to its end")
        for ended in self._family(run_id):
            if ended in self.acknowledged:
                self.faults.append(f"{service} is asked for {effect_id} after the end of {ended} was acknowledged")
        if service == "sandbox":
            self._check_word(rules, effect_id, request)

    def did(self, effect_id: str, arguments: dict[str, Any]) -> None:
        """A tool has had its effect."""
        self.effects.setdefault(effect_id, []).append(arguments)
        with self.effects_path.open("a", encoding="utf-8") as file:
            file.write(f"{effect_id} {arguments.get('line')}\n")
        run_id, step, _ = effect_id.split("/")
        forked = self.events[run_id][0].data.get("forked_from")
        if forked and int(step) <= forked["step"]:
            self.faults.append(f"{effect_id} is done again in a fork that took it over")

    def acknowledge(self, run_id: str, status: RunStatus) -> None:
        """Somebody was told that the run has ended: nothing more comes of it."""
        self.acknowledged.setdefault(run_id, status)

    def _check_word(self, rules: RunRules, effect_id: str, request: Any) -> None:
        intent = rules.calls[effect_id]
        if request.tool == "pay":
            word = rules.decided.get(intent["call_id"])
            if word is None or not word["approved"]:
                self.faults.append(f"{effect_id} is executed without a person's word")
            elif word["arguments"] is not None and word["arguments"] != request.arguments_json:
                self.faults.append(f"{effect_id} is executed otherwise than it was allowed")

    def _has(self, run_id: str, owner: str) -> bool:
        planner = next((each for each in self.planners if each.owner == owner), None)
        return planner is not None and planner.has(run_id)

    def _family(self, run_id: str) -> list[str]:
        family = []
        while run_id:
            family.append(run_id)
            run_id = self.parents.get(run_id, "")
        return family

    # What learns from runs.

    async def record(self, accounts: Sequence[Account]) -> Sequence[str]:
        """Keeps them."""
        for account in accounts:
            self.accounts.setdefault(account.run_id, account)
        return [""] * len(accounts)

    def end(self) -> None:
        """Everything is over."""
        for planner in [*self.planners]:
            self.kill(planner)
        self.mesh.loop.end()
