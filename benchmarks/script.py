"""What the model answers in a bench: the `scripted` provider of the model gateway plays it, set up as anybody may.

`PLAN` is the plan that is measured everywhere: three model calls, and two tool calls one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

# {number}: another one each time meets no cache of embeddings.
PLAN = "What do {number} kettles cost at 7 pounds each, with the postage?"
# Two words, without a tool.
SHORT = "short {number}"
# Many words, one a millisecond, without a tool.
LONG = "long {number}"
# In the answer of every such plan: the last of its two tool calls.
PLAN_ANSWERS = '"step":2,"tool":"math"'

# What a model makes of a session's older turns, which hold the words of the plans.
_SUMMARY = "They asked for prices of kettles at 7 pounds each with the postage, and were told 300 and 312 pounds."
_TOLD = {"input_tokens": 2_400, "output_tokens": 30}


def scripted(folder: Path, *, words: int = 2_000) -> Mapping[str, str]:
    """Writes the script; the variables of the environment that make the gateway play it.

    Args:
        folder: For the file.
        words: Of the long answer.
    """
    script = [
        {"when": "^<summary>", "text": _SUMMARY, "usage": _TOLD},
        {"when": "kettles", "tool_calls": [_math("(100 + 50) * 2")], "usage": _TOLD},
        {"when": "kettles", "tool_calls": [_math("300 + 12")], "usage": _TOLD},
        {"when": "kettles", "text": "The kettles cost 300 pounds, and 312 with the postage.", "usage": _TOLD},
        {"when": "long", "text": "".join(f"word{number} " for number in range(words)), "word_delay_ms": 1},
        {"text": "Two words."},
    ]
    path = folder / "script.json"
    path.write_text(json.dumps(script), encoding="utf-8")
    return {"LLM_PROVIDER": "scripted", "SCRIPTED_RESPONSES_PATH": str(path)}


def _math(expression: str) -> object:
    return {"name": "math", "arguments": {"expression": expression}}
