"""Reads the file that the `scripted` provider plays, and names the line and the fault where it is wrong.

A JSON list; each member is one answer:

    {"text": "…", "tool_calls": [{"name": "math", "arguments": {…} | "raw text", "id": "…"}],
     "usage": {"input_tokens": 1, "output_tokens": 2, "cost_usd": 0.1}, "finish_reason": "length",
     "when": "regular expression over the last user message", "delay_ms": 0, "word_delay_ms": 0,
     "fault": {"kind": "unavailable", "retry_after_s": 1, "after_words": 0, "times": 0}}

Every member is optional.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pagi_gateway.domain.errors import ScriptError
from pagi_gateway.domain.model import FinishReason, Usage

FAULTS = (
    "unavailable", "rate_limited", "timeout", "malformed", "rejected", "unauthorized", "not_found", "internal", "hang",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong instead of, or in the middle of, an answer.

    Attributes:
        kind: One of `FAULTS`.
        retry_after_s: When to come back, for unavailable and rate_limited.
        after_words: How many words a stream sends first.
        times: How often it goes wrong before the answer comes; 0 for always.
    """

    kind: str
    retry_after_s: float = 1.0
    after_words: int = 0
    times: int = 0


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call of a script; an empty id is filled in by the provider."""

    name: str
    arguments_json: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One answer of a script. `at` is where it begins in its file, for messages."""

    at: str = ""
    text: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason | None = None
    when: re.Pattern[str] | None = None
    delay_ms: float = 0.0
    word_delay_ms: float = 0.0
    fault: Fault | None = None


def read_script(path: Path) -> list[Line]:
    """Reads a script.

    Raises:
        ScriptError: With the file, the line and what is wrong there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: cannot be read: {error}") from error
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise ScriptError(f"{path}, line {line}: not JSON: {getattr(error, 'msg', error)}") from error
    if not text.lstrip().startswith("["):
        raise ScriptError(f"{path}, line 1: a script is a JSON list of answers, [{{...}}, ...]")
    lines = [_line(value, f"{path}, line {number}") for value, number in _members(text)]
    if not lines:
        raise ScriptError(f"{path}, line 1: the script has no answers")
    return lines


def _members(text: str) -> list[tuple[Any, int]]:
    """The members of a JSON list that is known to be valid, each with its line number."""
    decoder = json.JSONDecoder()
    members: list[tuple[Any, int]] = []
    at = text.index("[") + 1
    while (at := _skip(text, at)) < len(text) and text[at] != "]":
        value, end = decoder.raw_decode(text, at)
        members.append((value, text.count("\n", 0, at) + 1))
        at = end
    return members


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


def _line(value: Any, where: str) -> Line:
    members = _Members(value, where, "an answer")
    line = Line(
        at=where,
        text=members.take("text", str, ""),
        tool_calls=tuple(_call(each, where) for each in members.take("tool_calls", list, [])),
        usage=_usage(members.take("usage", dict, None), where),
        finish_reason=_finish_reason(members.take("finish_reason", str, None), where),
        when=_pattern(members.take("when", str, None), where),
        delay_ms=members.positive("delay_ms"),
        word_delay_ms=members.positive("word_delay_ms"),
        fault=_fault(members.take("fault", dict, None), where),
    )
    members.end()
    return line


def _call(value: Any, where: str) -> ScriptedCall:
    members = _Members(value, where, "a tool call")
    name = members.take("name", str, "")
    if not name:
        raise ScriptError(f"{where}: a tool call needs a name")
    arguments = members.take("arguments", (dict, str), {})
    # Text is played as it is, so that a script can break its own JSON.
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    call = ScriptedCall(name, written, members.take("id", str, ""))
    members.end()
    return call


def _usage(value: Any, where: str) -> Usage:
    if value is None:
        return Usage()
    members = _Members(value, where, "usage")
    cost = members.positive("cost_usd") if "cost_usd" in value else None
    usage = Usage(int(members.positive("input_tokens")), int(members.positive("output_tokens")), cost, reported=True)
    members.end()
    return usage


def _finish_reason(value: str | None, where: str) -> FinishReason | None:
    if value is None or value in set(FinishReason):
        return FinishReason(value) if value else None
    raise ScriptError(f"{where}: unknown finish_reason {value!r}; known are {', '.join(FinishReason)}")


def _pattern(value: str | None, where: str) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value, re.IGNORECASE | re.DOTALL)
    except re.error as error:
        raise ScriptError(f"{where}: when is no regular expression: {error}") from error


def _fault(value: Any, where: str) -> Fault | None:
    if value is None:
        return None
    members = _Members(value, where, "a fault")
    kind = members.take("kind", str, "")
    if kind not in FAULTS:
        raise ScriptError(f"{where}: unknown kind of fault {kind!r}; known are {', '.join(FAULTS)}")
    retry_after_s = members.positive("retry_after_s", 1.0)
    fault = Fault(kind, retry_after_s, int(members.positive("after_words")), int(members.positive("times")))
    members.end()
    return fault


class _Members:
    """The members of one JSON object, taken one by one; what nobody took is a misspelling."""

    def __init__(self, value: Any, where: str, what: str) -> None:
        if not isinstance(value, dict):
            raise ScriptError(f"{where}: {what} must be a JSON object, it is {json.dumps(value)[:80]}")
        self._left = dict(value)
        self._where = where
        self._what = what

    def take(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._left.pop(name, default)
        if value is default or (isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)):
            return value
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(dict.fromkeys(_KIND_NAMES[each] for each in kinds))
        raise ScriptError(f"{self._where}: {name} of {self._what} must be {expected}, it is {json.dumps(value)[:80]}")

    def positive(self, name: str, default: float = 0.0) -> float:
        value = self.take(name, (int, float), default)
        if not 0 <= value < float("inf"):
            raise ScriptError(f"{self._where}: {name} of {self._what} must be 0 or more, it is {value}")
        return float(value)

    def end(self) -> None:
        if self._left:
            raise ScriptError(f"{self._where}: {self._what} has no member {', '.join(map(repr, self._left))}")


_KIND_NAMES = {str: "text", list: "a list", dict: "an object", int: "a number", float: "a number"}
