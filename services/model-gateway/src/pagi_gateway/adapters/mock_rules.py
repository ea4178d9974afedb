"""Which tools a prompt asks for, by rules that are easy to foresee.

| in the prompt | tool | arguments |
|---|---|---|
| arithmetic | `math` | `expression` |
| `search (the web) (for) …` at the start of a clause | `web_search` | `query` |
| `note to PROP-1: …` | `governance_note` | `action`, `proposal_id`, `note` |
| `run python: …` | `python` | `code`, up to the end or the end of its fence |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from pagi_gateway.adapters.mock_arithmetic import find_expressions

# Calls of one kind in one prompt.
MOST_CALLS = 8
_LONGEST_REMEMBERED = 4_000
_POLITE = r"(?:(?:please|(?:can|could|would)\s+you|i\s+want\s+you\s+to)\s+){0,3}"
# White space is bounded wherever a match may begin with it, so that reading stays linear.
_CLAUSE = rf"(?:\A\s*|[.?!;,\n]\s{{0,9}}|\b(?:and|then)\s+){_POLITE}"
_PYTHON = re.compile(r"\brun\s+(?:this\s+)?python(?:\s+code)?\s*:\s*(?:```(?:python|py)?[ \t]*\n?)?", re.IGNORECASE)
_NOTE = re.compile(r"\bnote\s+(?:to|on|for)\s+(PROP(?:-[A-Z0-9]+)+)\s*:[ \t]*", re.IGNORECASE)
_SEARCH = re.compile(
    rf"{_CLAUSE}search\b(?:\s+(?:the\s+)?(?:web|internet|online)\b)?(?:\s+for\b)?\s+"
    r"(?!(?:is|was|are|were|has|engines?|results?|index(?:es)?)\b)(?=\S)",
    re.IGNORECASE,
)
_SEARCH_END = re.compile(
    r"[?!;\n]|\.(?:\s|\Z)|,?\s{1,9}(?:and|then)\s+(?:please\s+)?(?=(?:search|run|add|note|what|calculate)\b)",
    re.IGNORECASE,
)
_NOTE_END = re.compile(
    r"\n|[.;?!]\s+(?=(?:(?:and|then|please)\s+)*(?:search|what|how|calculate|compute|(?:add\s+a\s+)?note\s+to\s+PROP-)\b)",
    re.IGNORECASE,
)
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tool that the prompt asks for, and where in the prompt."""

    tool: str
    arguments: dict[str, str]
    at: int = field(default=0, compare=False)


def wanted_calls(prompt: str) -> tuple[Wanted, ...]:
    """Returns the calls that a prompt asks for, in its order. Any text is allowed."""
    return _remembered(prompt) if len(prompt) <= _LONGEST_REMEMBERED else _wanted_calls(prompt)


# A prompt comes again with the results of its calls.
@lru_cache(maxsize=256)
def _remembered(prompt: str) -> tuple[Wanted, ...]:
    return _wanted_calls(prompt)


def _wanted_calls(prompt: str) -> tuple[Wanted, ...]:
    found: list[Wanted] = []
    # Each rule blanks what it took, so that code, notes and queries are not read as something else.
    rest = _take_python(prompt, found)
    rest = _take_notes(rest, found)
    rest = _take_searches(rest, found)
    found += (Wanted("math", {"expression": each.text}, each.at) for each in find_expressions(rest))
    return tuple(sorted(found, key=lambda call: call.at))


def _take_python(text: str, found: list[Wanted]) -> str:
    match = _PYTHON.search(text)
    if match is None:
        return text
    fenced = _FENCE in match.group()
    close = text.find(_FENCE, match.end()) if fenced else -1
    end = len(text) if close < 0 else close
    code = text[match.end() : end].strip()
    if not code:
        return text
    found.append(Wanted("python", {"code": code}, match.start()))
    return _blank(text, match.start(), end + len(_FENCE) if close >= 0 else end)


def _take_notes(text: str, found: list[Wanted]) -> str:
    for match in list(islice(_NOTE.finditer(text), MOST_CALLS)):
        end = _first(_NOTE_END, text, match.end())
        note = text[match.end() : end].strip()
        # A note that stands within another note was blanked with it.
        if note and text[match.start()] != " ":
            arguments = {"action": "add", "proposal_id": match.group(1).upper(), "note": note}
            found.append(Wanted("governance_note", arguments, match.start()))
            text = _blank(text, match.start(), end)
    return text


def _take_searches(text: str, found: list[Wanted]) -> str:
    for match in list(islice(_SEARCH.finditer(text), MOST_CALLS)):
        end = _first(_SEARCH_END, text, match.end())
        query = text[match.end() : end].strip(" .\"'\u201c\u201d")
        if query:
            found.append(Wanted("web_search", {"query": query}, match.start()))
            text = _blank(text, match.start(), end)
    return text


def _first(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.search(text, at)
    return match.start() if match else len(text)


def _blank(text: str, start: int, end: int) -> str:
    return f"{text[:start]}{' ' * (min(end, len(text)) - start)}{text[end:]}"
