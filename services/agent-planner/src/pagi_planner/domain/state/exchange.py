"""What a run adds to the history of its session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pagi_planner.domain.model import Step, Turn

# What one exchange may bring: memory takes 1,000 turns of a million characters, and a message has 16 MiB.
MOST_STEPS_REMEMBERED = 100
MOST_TOOL_CHARACTERS = 8_000
MOST_CHARACTERS = 1_000_000


def turns_of(prompt: str, steps: Sequence[Step], answer: str, began: datetime, ended: datetime) -> tuple[Turn, ...]:
    """The request, the last of the tool calls, each cut to what a reader needs, and the answer."""
    tools = [
        Turn(role, _cut(text, MOST_TOOL_CHARACTERS), step.timestamp)
        for step in steps[-MOST_STEPS_REMEMBERED:]
        for role, text in (
            ("tool-plan", f"{step.tool} {text_of(step.input)}"),
            ("tool-output", step.error or text_of(step.output)),
        )
    ]
    asked = Turn("user", _cut(prompt, MOST_CHARACTERS), began)
    return asked, *tools, Turn("assistant", _cut(answer, MOST_CHARACTERS), ended)


def text_of(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
