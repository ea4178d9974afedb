"""What a watcher of a run sees: the events of its journal, and the model's text between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain.state.events import Event, EventType

_WRITTEN = re.compile(r"(\d{1,9})(?:\.(\d{1,9})\.([0-9a-f]{8}))?(?:\.t(\d{1,9})\.([0-9a-f]{8}))?", re.ASCII)


class Position(NamedTuple):
    """How far a watcher has come; as text it is the id of what was seen last.

    Attributes:
        seq: The newest event; 0: none.
        offset: So many characters of the answer that the model is giving.
        checksum: CRC-32 of them in UTF-8: whether a text that comes later is the same one.
        thought_offset: So many characters of what the model thinks on the way to it.
        thought_checksum: As `checksum`.
    """

    seq: int = 0
    offset: int = 0
    checksum: int = 0
    thought_offset: int = 0
    thought_checksum: int = 0

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position behind the item that has this id.

        Raises:
            InvalidArgumentError: There is no such id.
        """
        if not (written := _WRITTEN.fullmatch(text)):
            raise InvalidArgumentError(f"no event has the id {text[:50]!r}", field="Last-Event-ID")
        seq, offset, checksum, thought, thought_sum = written.groups()
        return cls(int(seq), int(offset or 0), int(checksum or "0", 16), int(thought or 0), int(thought_sum or "0", 16))

    def __str__(self) -> str:
        said = f"{self.seq}.{self.offset}.{self.checksum:08x}" if self.offset else str(self.seq)
        return f"{said}.t{self.thought_offset}.{self.thought_checksum:08x}" if self.thought_offset else said

    def behind(self, text: str) -> Position:
        """The position after more of the answer."""
        return self._replace(offset=self.offset + len(text), checksum=checksum_of(text, self.checksum))

    def behind_thoughts(self, text: str) -> Position:
        """The position after more of the model's thoughts."""
        thought_sum = checksum_of(text, self.thought_checksum)
        return self._replace(thought_offset=self.thought_offset + len(text), thought_checksum=thought_sum)

    def without_thoughts(self) -> Position:
        """The position of one who has heard none of the thoughts."""
        return self._replace(thought_offset=0, thought_checksum=0)

    def fits(self, text: str) -> bool:
        """Whether what was seen is how this text begins."""
        return self.offset <= len(text) and checksum_of(text[: self.offset]) == self.checksum

    def fits_thoughts(self, text: str) -> bool:
        """Whether the thoughts that were heard are how these begin."""
        heard = self.thought_offset
        return heard <= len(text) and checksum_of(text[:heard]) == self.thought_checksum


@dataclass(frozen=True, slots=True)
class Happened:
    """A durable event of the run."""

    position: Position
    event: Event


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of what the model answers in this step (counted from 1)."""

    position: Position
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """The next piece of what the model thinks before it answers in this step; nowhere kept."""

    position: Position
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class TextReset:
    """What came of the model's answer in this step does not count: another one takes its place."""

    position: Position
    step: int


@dataclass(frozen=True, slots=True)
class CutOff:
    """The last item of a watcher that is sent away before the run's end; it may come again where it stood."""

    position: Position
    reason: str


Item = Happened | TextDelta | ThoughtDelta | TextReset | CutOff

# Where a run stands after an event of this type; the others change nothing.
_PHASES = {
    EventType.PLAN_START: "understand",
    EventType.FILE_READ: "understand",
    EventType.CONTEXT_LOADED: "understand",
    EventType.PLAN_MADE: "plan",
    EventType.CONTEXT_COMPACTED: "plan",
    EventType.PLAN_MODEL_REQUEST: "plan",
    EventType.PLAN_MODEL_RESPONSE: "plan",
    EventType.APPROVAL_REQUESTED: "execute",
    EventType.APPROVAL_DECIDED: "execute",
    EventType.TOOL_CALL: "execute",
    EventType.TOOL_RESULT: "execute",
    EventType.TOOL_ERROR: "execute",
    EventType.EVALUATION: "evaluate",
}
# A model thinks while it is asked.
PHASE_OF_THOUGHTS = _PHASES[EventType.PLAN_MODEL_REQUEST]
# What a model is asked beside the conversation belongs to what it is asked for.
_PURPOSES = {"file": "understand", "intent": "understand", "judge": "evaluate"}


def phase_of(event: Event) -> str:
    """The part of the loop that the event belongs to: understand, plan, execute or evaluate; empty where it is none."""
    if event.type in (EventType.MODEL_CALL, EventType.MODEL_RESULT):
        return _PURPOSES.get(event.data.get("purpose", ""), "plan")
    return _PHASES.get(event.type, "")


def checksum_of(text: str, before: int = 0) -> int:
    """CRC-32 of the text behind another one."""
    return crc32(text.encode("utf-8", "surrogatepass"), before)
