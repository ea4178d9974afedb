"""What holds of every run's journal, event by event, whatever has happened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FINAL = ("PLAN_END", "PLAN_ERROR", "PLAN_CANCELLED")
_INTENTS = {"PLAN_MODEL_REQUEST", "MODEL_CALL", "TOOL_CALL"}
_RESULTS = {
    "PLAN_MODEL_RESPONSE": "PLAN_MODEL_REQUEST",
    "MODEL_RESULT": "MODEL_CALL",
    "TOOL_RESULT": "TOOL_CALL",
    "TOOL_ERROR": "TOOL_CALL",
}


class BrokenRuleError(AssertionError):
    """A journal says what it must not."""


@dataclass
class RunRules:
    """The events of one run so far, each checked against those before it.

    Attributes:
        run_id: Which run.
        intents: What was about to happen, by effect id: the type of the event.
        results: Which of them have come to an end.
        asked: The calls that a person was asked about, by id.
        decided: The word on each of them.
        epoch: Of the newest claim that is told of.
        is_fork: It begins with the events of another run.
    """

    run_id: str
    count: int = 0
    end: str = ""
    intents: dict[str, str] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    decided: dict[str, dict[str, Any]] = field(default_factory=dict)
    epoch: int = 1
    is_fork: bool = False

    def take(self, seq: int, kind: str, data: dict[str, Any]) -> None:
        """The next event.

        Raises:
            BrokenRuleError: It may not stand here.
        """
        self._ensure(seq == self.count + 1, seq, kind, f"stands behind {self.count}")
        self._ensure((kind == "PLAN_START") == (seq == 1), seq, kind, "begins a run, and nothing else does")
        self._ensure(not self.end, seq, kind, f"stands behind the end, {self.end}")
        self.count = seq
        self.is_fork = self.is_fork or "forked_from" in data
        effect = data.get("effect_id", "")
        if kind in _INTENTS:
            self._ensure(effect not in self.results, seq, kind, f"{effect} has come to an end before")
            self._ensure(effect not in self.intents, seq, kind, f"{effect} was noted before")
            self.intents[effect] = kind
            if kind == "TOOL_CALL":
                self.calls[effect] = data
        elif kind in _RESULTS:
            self._ensure(self.intents.get(effect) == _RESULTS[kind], seq, kind, f"{effect} has no intent before it")
            self._ensure(effect not in self.results, seq, kind, f"{effect} has a result already")
            self.results.add(effect)
        elif kind == "APPROVAL_REQUESTED":
            self._ensure(data["call_id"] not in self.asked, seq, kind, f"{data['call_id']} was asked about before")
            self.asked.add(data["call_id"])
        elif kind == "APPROVAL_DECIDED":
            call_id = data["call_id"]
            self._ensure(call_id in self.asked, seq, kind, f"nobody was asked about {call_id}")
            self._ensure(call_id not in self.decided, seq, kind, f"{call_id} was decided on before")
            self.decided[call_id] = data
        elif kind == "RUN_RESUMED":
            # A fork keeps the resumptions of the other run, and begins with an epoch of its own.
            self._ensure(
                data["epoch"] > self.epoch or self.is_fork, seq, kind, f"epoch {data['epoch']} behind {self.epoch}"
            )
            self.epoch = data["epoch"]
        elif kind in FINAL:
            self.end = kind

    def _ensure(self, holds: bool, seq: int, kind: str, why: str) -> None:
        if not holds:
            raise BrokenRuleError(f"{self.run_id}, event {seq}, {kind}: {why}")


def check_journal(run_id: str, events: Iterable[tuple[int, str, dict[str, Any]]]) -> RunRules:
    """Checks the whole journal of a run that has ended.

    Raises:
        BrokenRuleError: It is none.
    """
    rules = RunRules(run_id)
    for seq, kind, data in events:
        rules.take(seq, kind, data)
    if not rules.end:
        raise BrokenRuleError(f"{run_id} has no end")
    return rules
