"""Writes the answer from tool results.

A tool message says that its tool failed by beginning with `error` (`Error: no network`), or by being a JSON
object whose `error` is not empty.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Message, ToolCall

_ERROR = re.compile(r"\A\s*(?:tool\s+)?error\b[:\s-]*", re.IGNORECASE)
_VALUE_NAMES = ("result", "value", "output", "stdout", "answer")
_LONGEST = 2_000


def answer_from_results(calls: Sequence[ToolCall], results: Sequence[Message]) -> str:
    """One paragraph for each result, in the order of the results; the call tells what it was for."""
    by_id = {call.id: call for call in calls}
    return "\n".join(
        _paragraph(by_id[result.tool_call_id], result.text) for result in results if result.tool_call_id in by_id
    )


def _paragraph(call: ToolCall, text: str) -> str:
    value, fault = _read(text)
    if fault:
        return f"The tool {call.name} failed: {fault}"
    arguments = _object(call.arguments_json)
    if call.name == "math":
        return f"{arguments.get('expression', 'The result')} = {value}"
    if call.name == "web_search":
        return f"The search for {arguments.get('query', '')!r} found: {value}"
    if call.name == "governance_note":
        return f"The note to {arguments.get('proposal_id', 'the proposal')} is stored."
    if call.name == "python":
        return f"The Python code gave: {value}"
    return f"The tool {call.name} gave: {value}"


def _read(text: str) -> tuple[str, str]:
    """Returns what a result says and, where it failed, why."""
    body = _object(text)
    if fault := body.get("error"):
        message = fault.get("message", fault) if isinstance(fault, dict) else fault
        return "", _short(str(message))
    if match := _ERROR.match(text):
        return "", _short(text[match.end() :].strip() or "no reason given")
    for name in _VALUE_NAMES:
        if body.get(name) not in (None, ""):
            value = body[name]
            return _short(value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)), ""
    return _short(text.strip() or "nothing"), ""


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} \u2026 ({len(text)} characters in all)"
