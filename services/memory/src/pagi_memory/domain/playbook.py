"""How a task was done, and how far it can be relied on."""

from __future__ import annotations

import functools
import hashlib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pagi_memory.domain.words import query_words

if TYPE_CHECKING:
    from pagi_memory.domain.model import Vector

# z of a two-sided interval of 95 %.
_Z = 1.96
# A playbook that lost fewer times than this may have had bad luck.
LEAST_LOSSES = 3
LEAST_WORTH = 0.2
# The longest task that is kept, whether a run taught it or a person wrote it.
MAX_PROMPT_CHARS = 2_000


class PlaybookState(StrEnum):
    """Whether it is given to runs."""

    ACTIVE = "active"
    SET_ASIDE = "set_aside"


class Outcome(StrEnum):
    """How a run ended that was given a playbook, or made it."""

    WIN = "win"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class PlaybookStep:
    """One tool call that mattered; `arguments_json` is a JSON object, `outcome` what it brought, in short."""

    tool: str
    arguments_json: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Playbook:
    """How a task was done.

    Attributes:
        prompt: The request, in the words of the newest run that succeeded.
        tool_versions: The version of each tool of the steps, by name; a tool whose version is not known is left out.
        cost_usd: Of the newest run; None where a price is not known.
        wins: Runs that succeeded, the ones that made it included.
        reason: Why it is set aside; empty where it is not.
        notes: What people want each run to know that is given it.
    """

    id: str
    persona: str
    prompt: str
    steps: tuple[PlaybookStep, ...]
    tool_versions: Mapping[str, str]
    cost_usd: float | None
    duration_ms: float
    created_at: datetime
    updated_at: datetime
    wins: int = 1
    losses: int = 0
    state: PlaybookState = PlaybookState.ACTIVE
    reason: str = ""
    notes: str = ""
    last_used_at: datetime | None = None

    @property
    def worth(self) -> float:
        """What its relevance is weighed by."""
        return worth(self.wins, self.losses)

    def outdated_by(self, tool_versions: Mapping[str, str]) -> str:
        """What speaks against it where the tools have these versions; empty where nothing does."""
        if self.tool_versions.items() <= tool_versions.items():
            return ""
        changed = [
            name
            for name, version in self.tool_versions.items()
            if tool_versions.get(name, version) not in ("", version)
        ]
        return f"changed since: {', '.join(sorted(changed))}" if changed else ""

    def text(self) -> str:
        """The playbook as a run reads it."""
        lines = [f"Task: {self.prompt}", f"Done before in {len(self.steps)} steps, {self._record()}:"]
        lines += [f"{i}. {step.tool} {step.arguments_json} -> {step.outcome}" for i, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, f"Note: {self.notes}"] if self.notes else lines)

    def _record(self) -> str:
        return f"{self.wins} of {self.wins + self.losses} runs succeeded"


@dataclass(frozen=True, slots=True)
class NewPlaybook:
    """What a run that succeeded with tools has to teach."""

    run_id: str
    persona: str
    prompt: str
    steps: Sequence[PlaybookStep]
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    cost_usd: float | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """How a run ended that was given playbooks; `outcome` is None where the one who tells of it did not say."""

    run_id: str
    playbook_ids: Sequence[str]
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What there is to keep of a run that ended: what it teaches, what it says of the playbooks that it was given."""

    lesson: NewPlaybook | None = None
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a `RunRecord`: the playbook, whether it is a new one, how many outcomes were counted."""

    playbook_id: str = ""
    created: bool = False
    counted: int = 0


@dataclass(frozen=True, slots=True)
class ScoredPlaybook:
    """A playbook that fits a query: `relevance` is the cosine of the tasks, `score` that times its worth."""

    playbook: Playbook
    relevance: float
    score: float


@dataclass(frozen=True, slots=True)
class Known:
    """A playbook with the vector of its prompt and the model that the vector is of."""

    playbook: Playbook
    vector: Vector
    model: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A `RunRecord` as it is stored. `learned` has its place: another of its id gets the newer content."""

    run_id: str
    at: datetime
    learned: Known | None = None
    tried: Sequence[str] = ()
    outcome: Outcome = Outcome.WIN


@dataclass(frozen=True, slots=True)
class Standing:
    """How a playbook does after an outcome was counted."""

    id: str
    wins: int
    losses: int
    state: PlaybookState

    @property
    def keeps_losing(self) -> bool:
        """Whether it does more harm than good, as far as can be told."""
        return self.losses >= LEAST_LOSSES and self.losses > self.wins and worth(self.wins, self.losses) < LEAST_WORTH


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an `Entry`.

    Attributes:
        created: Whether the playbook is a new one.
        is_new_task: Whether there is a vector that there was not: of a new playbook, or of another prompt.
        standings: Of the playbooks for which the outcome was counted now.
    """

    created: bool = False
    is_new_task: bool = False
    standings: Sequence[Standing] = ()


@dataclass(frozen=True, slots=True)
class PlaybookPage:
    """Some playbooks, the one last changed first; `next_token` goes on after them and is empty at the end."""

    playbooks: list[Playbook]
    next_token: str


@dataclass(frozen=True, slots=True)
class MindStatistics:
    """How much a tenant's runs have learned."""

    playbooks: int = 0
    set_aside: int = 0
    wins: int = 0
    losses: int = 0


@functools.lru_cache(maxsize=4_096)
def worth(wins: int, losses: int) -> float:
    """Lower bound of the success rate, 0 to 1: three wins of three say less than thirty of thirty.

    The Wilson score interval at 95 % (Wilson, 1927).
    """
    runs = wins + losses
    if wins == 0:
        return 0.0
    rate, z2 = wins / runs, _Z * _Z
    middle = rate + z2 / (2 * runs)
    margin = _Z * math.sqrt(rate * (1 - rate) / runs + z2 / (4 * runs * runs))
    return max(0.0, (middle - margin) / (1 + z2 / runs))


def task_of(prompt: str) -> str:
    """What is the same in two prompts for the same task: the words that say something, whatever the punctuation."""
    return " ".join(query_words(unicodedata.normalize("NFKC", prompt))) or " ".join(prompt.split())


def playbook_id(tenant: str, persona: str, task: str) -> str:
    """The id of the playbook for a task: the same in every process, so that two of them never make two."""
    return hashlib.sha256("\0".join((tenant, persona, task)).encode("utf-8", "replace")).hexdigest()[:24]
