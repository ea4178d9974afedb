"""What every run of an agent works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pagi_planner.domain.context.tokens import Room
from pagi_planner.domain.model import ToolSpec
from pagi_planner.domain.ports import Catalogue, Clock, Documents, Journal, Memory, Model, SessionFiles, Timings, Tools
from pagi_planner.domain.recent import RecentIds
from pagi_planner.domain.state.lesson import Accounts
from pagi_planner.domain.tools.toolbox import Toolbox
from pagi_planner.domain.watching.channel import LagBounds
from pagi_planner.domain.watching.feed import Feed


@dataclass(frozen=True, slots=True)
class Policy:
    """How every run of an agent proceeds.

    Attributes:
        max_context_tokens: Window for the first messages (estimated tokens).
        max_refinements: How often a poor answer is sent back.
        max_repeats: The same call, with the same arguments, this often in a run is a loop.
        judge_model: Judges answers where a request asks for that; where the gateway has none of this name, the run's
            own model does.
        aside_timeout_s: For a model that is asked beside the conversation.
        compacts_by_model: A model writes the summary of what has no room any more, not the rules.
        remember_timeout_s: Time for storing the history before the answer goes out; later it is stored behind it.
        approval_tools: Patterns of names of tools that need a person's word, beside those that say so of themselves.
        lag: How far one who watches a run may fall behind.
        poll_s: Other planners write the same journal, and watchers look at it as often; None: only this one does.
    """

    max_context_tokens: int = 8_000
    max_refinements: int = 1
    max_repeats: int = 3
    judge_model: str = "judge"
    aside_timeout_s: float = 30.0
    compacts_by_model: bool = False
    remember_timeout_s: float = 2.0
    approval_tools: tuple[str, ...] = ()
    lag: LagBounds = field(default_factory=LagBounds)
    poll_s: float | None = None

    def needs_approval(self, spec: ToolSpec) -> bool:
        """Whether a person has to allow each call of the tool."""
        return spec.requires_approval or any(fnmatchcase(spec.name, pattern) for pattern in self.approval_tools)


@dataclass(frozen=True, slots=True)
class Parts:
    """The world as a run sees it.

    Attributes:
        catalogue: Knows the models.
        documents: Reads files that are not text.
        timings: Measures phases.
        files: Those of the sessions' workspaces; None: there are none.
        toolbox: The planner's own tools.
        rooms: Of a recorded run that is driven again: the room that each of its model calls had, by their number.
        remembered: Runs whose exchange is stored already.
        accounts: What there is to tell of runs that ended, for who learns from them.
        feed: Lets runs be watched.
    """

    model: Model
    memory: Memory
    tools: Tools
    journal: Journal
    clock: Clock
    policy: Policy
    catalogue: Catalogue
    documents: Documents
    timings: Timings
    files: SessionFiles | None = None
    toolbox: Toolbox = field(default_factory=Toolbox)
    rooms: Mapping[int, Room] = field(default_factory=dict)
    remembered: RecentIds = field(default_factory=RecentIds)
    accounts: Accounts = field(default_factory=Accounts)
    feed: Feed = field(init=False)

    def __post_init__(self) -> None:
        # Frozen: this is how such a class sets a field of its own.
        object.__setattr__(self, "feed", Feed(self.journal, bounds=self.policy.lag, poll_s=self.policy.poll_s))
