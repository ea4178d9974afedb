"""A run as server-sent events: each row of its journal, and the model's text between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pagi_planner.domain.model import RunResult
from pagi_planner.domain.state.events import FINAL, EventType
from pagi_planner.domain.watching.stream import CutOff, Happened, Item, Position, TextDelta, ThoughtDelta, phase_of
from pagi_planner.routes.event_stream import event
from pagi_planner.schemas import RunBody

EVENTS = frozenset({*(kind.value for kind in EventType), "text", "thinking", "reset", "cut", "end"})
# The id of the last event is that of the run's end with this behind it.
END = ".end"


class RunView:
    """Named as in the journal; `text`, `thinking`, `reset`, `cut` and `end` are the others.

    Args:
        position: What the client has seen before.
        settled: Gives the run when nobody works on it any more.
    """

    def __init__(self, position: Position, settled: Callable[[], Awaitable[RunResult]]) -> None:
        self._position = position
        self._settled = settled
        # A client may come for the end alone.
        self._is_over = position.seq > 0

    def show(self, items: Sequence[Item]) -> bytes:
        """The next events."""
        return b"".join(map(self._show, items)) if len(items) > 1 else self._show(items[0])

    async def end(self) -> bytes:
        """The run, where it has come to its end."""
        if not self._is_over:
            return b""
        run = RunBody.from_domain(await self._settled()).model_dump(mode="json")
        return event("end", run, f"{self._position.seq}{END}")

    def _show(self, item: Item) -> bytes:
        self._position = item.position
        self._is_over = isinstance(item, Happened) and item.event.type in FINAL
        if isinstance(item, TextDelta):
            return event("text", {"step": item.step, "text": item.text}, str(item.position))
        if isinstance(item, Happened):
            return _journaled(item)
        if isinstance(item, ThoughtDelta):
            return event("thinking", {"step": item.step, "text": item.text}, str(item.position))
        if isinstance(item, CutOff):
            return event("cut", {"reason": item.reason, "last_event_id": str(item.position)})
        return event("reset", {"step": item.step}, str(item.position))


def _journaled(item: Happened) -> bytes:
    happened = item.event
    data = {
        "run_id": happened.run_id,
        "seq": happened.seq,
        "type": happened.type.value,
        "phase": phase_of(happened) or None,
        "timestamp": happened.timestamp,
        "trace_id": happened.trace_id,
        "session_id": happened.session_id,
        "data": happened.data,
    }
    return event(happened.type.value, data, str(item.position))
