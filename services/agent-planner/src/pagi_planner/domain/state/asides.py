"""What models were asked beside the conversation of a run, and what they said: a part of the run's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Aside:
    """One such question, answered or failed.

    Attributes:
        text: The answer; empty where there is none.
        error: Why there is none; empty where there is one.
        error_type: The error's name; may be empty.
    """

    text: str
    error: str = ""
    error_type: str = ""


@dataclass(slots=True)
class Asides:
    """By what each effect id adds to the run's: `plan/1`, `judge/2`."""

    _asked: set[str] = field(default_factory=set)
    _answered: dict[str, Aside] = field(default_factory=dict)

    def was_asked(self, name: str) -> bool:
        """Whether the intent stands in the journal."""
        return name in self._asked

    def answer(self, name: str) -> Aside | None:
        """What came of it; None where nothing did yet."""
        return self._answered.get(name)

    def note_call(self, data: Mapping[str, Any]) -> None:
        """Takes in a MODEL_CALL."""
        self._asked.add(name_in(data["effect_id"]))

    def note_result(self, data: Mapping[str, Any]) -> None:
        """Takes in a MODEL_RESULT."""
        self._answered[name_in(data["effect_id"])] = Aside(data["text"], data["error"], data["error_type"])


def name_in(effect_id: str) -> str:
    """What an effect id adds to the run's id, which is all of it that a fork of the run keeps."""
    return "/".join(effect_id.rsplit("/", 2)[1:])
