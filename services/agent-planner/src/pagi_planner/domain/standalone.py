"""Parts for an agent that runs alone in a process: no memory, no tools, a journal in a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from pagi_planner.domain.errors import UnknownToolError, UnreadableFileError
from pagi_planner.domain.model import Context, Exchange, ModelTraits, RunRequest, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.ownership import FIRST_EPOCH
from pagi_planner.domain.state.events import Event


class NoMemory:
    """Knows nothing and keeps nothing."""

    async def recall(self, request: RunRequest) -> Context:
        """An empty context."""
        return Context()

    async def remember(self, exchange: Exchange) -> None:
        """Forgets."""


class NoTools:
    """Offers nothing."""

    know_effects = True

    async def specs(self) -> tuple[ToolSpec, ...]:
        """No tool."""
        return ()

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Refuses."""
        raise UnknownToolError(f"there is no tool named {call.name!r}")


class NoCatalogue:
    """Knows no model."""

    async def traits(self, model: str) -> ModelTraits:
        """Nothing."""
        return ModelTraits()


class NoDocuments:
    """Reads nothing but text."""

    async def text_of_pdf(self, content: bytes) -> str:
        """Refuses."""
        raise UnreadableFileError("PDF cannot be read here")


class NoTimings:
    """Measures nothing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Does nothing."""
        return nullcontext()


class ListJournal:
    """Keeps the events of every run for as long as it lives."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = defaultdict(list)

    def append(self, event: Event, epoch: int = FIRST_EPOCH) -> None:
        """Adds the event."""
        self._events[event.run_id].append(event)

    async def sync(self, run_id: str) -> None:
        """Has nothing to wait for."""

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of the run so far."""
        found = [event for event in self._events.get(run_id, ()) if event.seq > after]
        return found[:limit]


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.now(UTC)
