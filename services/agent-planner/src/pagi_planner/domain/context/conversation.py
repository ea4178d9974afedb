"""The messages of a run, and what takes the place of those that were compacted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pagi_planner.domain.context.tokens import Family, message_tokens
from pagi_planner.domain.model import Message, Role

# Where the passages begin in the system message.
PASSAGES = "\n\n<passage "


@dataclass(frozen=True, slots=True)
class Compacted:
    """How a conversation was made shorter.

    Attributes:
        removed: Ranges of messages, from and to (not with it), in order; places are those before the compaction.
        cut: The text that each of these messages has from now on, by its place before the compaction.
        summary: Of all that was ever removed.
    """

    removed: tuple[tuple[int, int], ...]
    cut: Mapping[int, str]
    summary: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Compacted:
        """The one in a CONTEXT_COMPACTED."""
        removed = tuple((begin, end) for begin, end in data["removed"])
        return cls(removed, {each["at"]: each["text"] for each in data["cut"]}, data["summary"])


class Conversation:
    """What was said: the system message, turns of earlier runs, the request, and what the run has brought since.

    Args:
        first: The messages that the run began with; the last of them is its request.
    """

    def __init__(self, first: Sequence[Message] = ()) -> None:
        self.messages = list(first)
        self.request_at = len(self.messages) - 1
        self.summary = ""
        # By identity, with the message so that it lives as long: each text is counted once, however often it is sent.
        self._counted: dict[int, tuple[Message, Family, int]] = {}

    @property
    def passages(self) -> str:
        """The passages as the system message has them."""
        system = self.messages[0].text if self.messages else ""
        return "".join(system.partition(PASSAGES)[1:]).strip()

    def copy(self) -> Conversation:
        """One that goes its own way from here on."""
        other = Conversation(self.messages)
        other.request_at, other.summary, other._counted = self.request_at, self.summary, self._counted
        return other

    def sizes(self, family: Family) -> list[int]:
        """The estimated tokens of each message."""
        return [self._size(message, family) for message in self.messages]

    def _size(self, message: Message, family: Family) -> int:
        known = self._counted.get(id(message))
        if known is not None and known[1] is family:
            return known[2]
        size = message_tokens(message, family)
        self._counted[id(message)] = (message, family, size)
        return size

    def beside_tokens(self, plan: str, family: Family) -> int:
        """The estimated tokens of what `to_send` adds."""
        return sum(family.tokens(section) for section in (plan, self._summary_section()) if section)

    def add(self, message: Message) -> None:
        """Puts a message behind the others."""
        self.messages.append(message)

    def compact(self, how: Compacted) -> None:
        """Puts the summary in the place of what is removed."""
        gone = {place for begin, end in how.removed for place in range(begin, end)}
        texts = {place: replace(self.messages[place], text=text) for place, text in how.cut.items()}
        self.messages = [texts.get(place, each) for place, each in enumerate(self.messages) if place not in gone]
        self._counted = {}
        self.request_at -= sum(place < self.request_at for place in gone)
        self.summary = how.summary

    def to_send(self, plan: str) -> tuple[Message, ...]:
        """The messages as a model is given them.

        What is not a part of the talk goes into the system message: providers differ in what may stand beside what.

        Args:
            plan: The explicit plan in words; empty where there is none.
        """
        beside = [section for section in (plan, self._summary_section()) if section]
        if not beside or not self.messages or self.messages[0].role is not Role.SYSTEM:
            return tuple(self.messages)
        system = replace(self.messages[0], text="\n\n".join([self.messages[0].text, *beside]))
        return (system, *self.messages[1:])

    def _summary_section(self) -> str:
        if not self.summary:
            return ""
        return f"What was said and done before, in short, since the whole of it had no room:\n{self.summary}"
