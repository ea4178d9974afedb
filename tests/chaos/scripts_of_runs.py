"""What the model says in a run, turn by turn: drawn by the machine, and the same whatever happens on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagi_gateway.domain.model import FinishReason, Plan, ToolCall, Usage

# What a turn of the model's is made of; a child's script has only the first of them.
CHILD_TURNS = ("append", "look", "append append", "append set")
TURNS = (
    *CHILD_TURNS,
    "pay",
    "pay append",
    "pay pay",
    "look long",
    "delegate",
    "delegate delegate",
    "delegate append",
    "broken",
    "hopeless",
    "unnamed",
    "empty",
    "too long",
)
# The tools of the sandbox, with what a repeat of them means and whether a person is asked.
TOOLS = {
    "append": ("effectful", False),
    "long": ("read_only", False),
    "look": ("read_only", False),
    "pay": ("effectful", True),
    "set": ("idempotent", False),
}
# As callers may name them.
NAMED = ("set", "pay", "append", "delegate", "look", "long", "read_artifact")
_NAMED = re.compile(r"#([\w.]+)")
ASIDES = {
    "plan": '{"steps": [{"step": "do it", "tool": ""}]}',
    "judge": '{"score": 0.9, "reason": "right", "advice": ""}',
    "intent": '{"kind": "task"}',
}


class TooLong(Exception):
    """The provider refuses the conversation."""


@dataclass(frozen=True)
class Script:
    """The turns of the model in a run; behind the last one it gives the answer.

    Attributes:
        name: Stands in the prompt, so that the provider knows the run by it.
        turns: Of `TURNS`.
    """

    name: str
    turns: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The request."""
        return f"Do the work #{self.name}"

    @property
    def answer(self) -> str:
        """What the undisturbed run says in the end."""
        return f"The work of {self.name} is done, and this is what came of it."

    @property
    def may_fail(self) -> bool:
        """Whether the model refuses the conversation for its length, and there may be nothing to shorten."""
        return "too long" in self.turns

    def plan(self, step: int) -> Plan:
        """What the model says in this call (from 1).

        Raises:
            TooLong: It has no room for the conversation.
        """
        if step > len(self.turns):
            return _said(self.answer)
        turn = self.turns[step - 1]
        if turn == "too long":
            raise TooLong
        if turn == "empty":
            return _said("")
        calls = [self._call(kind, f"{step}.{place}") for place, kind in enumerate(turn.split())]
        return Plan("Let me see to this.", tuple(calls), Usage(10, 5), FinishReason.TOOL_CALLS, "m", "p")

    def effects(self) -> dict[str, str]:
        """The effectful calls of an undisturbed run, the tool by the line that it writes; its children's are not in."""
        return {
            f"{self.name}.{step}.{place}": kind
            for step, turn in enumerate(self.turns, 1)
            for place, kind in enumerate(turn.split())
            if kind in ("append", "pay", "broken")
        }

    def children(self) -> dict[str, int]:
        """The names of the runs that tasks are handed on to, and how many turns they have."""
        return {
            f"{self.name}.{step}.{place}": step
            for step, turn in enumerate(self.turns, 1)
            for place, kind in enumerate(turn.split())
            if kind == "delegate"
        }

    def _call(self, kind: str, place: str) -> ToolCall:
        line = f"{self.name}.{place}"
        arguments = json.dumps({"line": line})
        name = kind
        if kind == "delegate":
            arguments = json.dumps({"task": f"Do the work #{line}"})
        elif kind == "broken":
            # A trailing comma is mended.
            name, arguments = "append", f'{{"line": "{line}",}}'
        elif kind == "hopeless":
            name, arguments = "append", '{"line": '
        elif kind == "unnamed":
            name = "apend"
        return ToolCall(f"call-{line}", name, arguments)


def _said(text: str) -> Plan:
    return Plan(text, (), Usage(10, 5), FinishReason.STOP, "m", "p")


def name_in(texts: Sequence[str]) -> str:
    """The name of the script that the last of these texts which has one names."""
    for text in reversed(texts):
        if found := _NAMED.search(text):
            return found[1]
    return ""


def script_of(name: str, scripts: Mapping[str, Script]) -> Script:
    """The script of this name; that of a child follows from the name."""
    if known := scripts.get(name):
        return known
    kind = CHILD_TURNS[sum(map(ord, name)) % len(CHILD_TURNS)]
    return Script(name, (kind,))
