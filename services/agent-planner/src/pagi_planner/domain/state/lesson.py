"""What a run has to teach later ones, and what its end says of the playbooks that it was given."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.state.run_state import RunState

MIND = "Mind-KB"
# How memory names a playbook among the passages.
PLAYBOOK_SOURCE = "playbook:"
MOST_STEPS = 20
MOST_CHARACTERS = 300
# Accounts that wait to be handed on: a few KB each.
CAPACITY = 1_000
# A run that failed was refused or found somebody away, one that was cancelled was not let: neither tells of a playbook.
_TELLING = frozenset(RunStatus) - {RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class LessonStep:
    """One tool call that brought something; the arguments are a JSON object, the outcome is cut short."""

    tool: str
    arguments_json: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """How a run did what it was asked.

    Attributes:
        tool_versions: The version of each tool of the steps, where it is known.
        cost_usd: None where a price is not known.
    """

    run_id: str
    persona: str
    prompt: str
    steps: tuple[LessonStep, ...]
    tool_versions: Mapping[str, str]
    cost_usd: float | None
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """How a run ended that was given playbooks."""

    run_id: str
    playbook_ids: tuple[str, ...]
    succeeded: bool


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What there is to tell of a run that ended; the lesson comes first.

    A run counts once for a playbook: where the lesson is about one that the run was given, the playbook is brought up
    to date, and the win is counted with it.
    """

    run_id: str
    lesson: Lesson | None = None
    trial: Trial | None = None
    # Who learns from it, and nobody else.
    tenant: str = ""

    @property
    def tells(self) -> bool:
        """Whether there is anything."""
        return self.lesson is not None or self.trial is not None


class Accounts:
    """The accounts of runs that ended in this process, until they are handed on."""

    def __init__(self) -> None:
        # Nobody may ever read them: then none is kept.
        self.is_read = False
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def keep(self, state: RunState) -> None:
        """Takes the account of a run that ended; the oldest goes where there is no room: the journal has it."""
        if self.is_read:
            self._accounts[state.run_id] = account_of(state)
            if len(self._accounts) > CAPACITY:
                self._accounts.popitem(last=False)

    def of(self, run_id: str) -> Account | None:
        """The account of a run; None where it is not here."""
        return self._accounts.get(run_id)

    def forget(self, run_id: str) -> None:
        """It was handed on."""
        self._accounts.pop(run_id, None)


def account_of(state: RunState) -> Account:
    """All that there is to tell of the run."""
    return Account(state.run_id, lesson_of(state), trial_of(state), state.tenant)


def lesson_of(state: RunState) -> Lesson | None:
    """What the run has to teach; None where it did not succeed, or without a tool."""
    # A call that failed, or that was made again, did not matter.
    mattered = {
        (step.tool, _json(step.input)): _short(_json(step.output)) for step in state.steps if step.error is None
    }
    if state.status is not RunStatus.COMPLETED or not mattered or not (state.started_at and state.ended_at):
        return None
    steps = tuple(LessonStep(tool, arguments, outcome) for (tool, arguments), outcome in mattered.items())[:MOST_STEPS]
    used = {step.tool for step in steps}
    return Lesson(
        run_id=state.run_id,
        persona=state.persona,
        prompt=state.prompt,
        steps=steps,
        tool_versions={name: version for name, version in state.tool_versions.items() if name in used and version},
        cost_usd=state.usage.cost_usd,
        duration_ms=(state.ended_at - state.started_at).total_seconds() * 1_000,
    )


def trial_of(state: RunState) -> Trial | None:
    """What the run says of its playbooks; None where it had none, or its end says nothing of them."""
    given = tuple(
        source.source.removeprefix(PLAYBOOK_SOURCE)
        for source in state.sources
        if source.knowledge_base == MIND and source.source.startswith(PLAYBOOK_SOURCE)
    )
    if not given or state.status not in _TELLING:
        return None
    # An answer for which every tool failed is not what the playbook promised.
    worked = not state.steps or any(step.error is None for step in state.steps)
    return Trial(state.run_id, given, worked and state.status is RunStatus.COMPLETED)


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
