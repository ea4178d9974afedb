"""Mends JSON that a model wrote almost right, and nothing that would have to be guessed.

Mended: code fences and words around one object, comments, trailing commas, single or typographic quotes, names without
quotes, Python's True, False and None, line breaks within texts, brackets that are not closed at the end. A text that is
not closed is not mended: the model was cut off, and half of an argument must not be taken for the whole.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from pagi_planner.domain import json_text

# What stands in it before the object is left out anyway; said here, it would be read again and again.
_FENCED = re.compile(r"```(.*?)```", re.DOTALL)
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\u201c(?:[^\u201d\\]|\\.)*\u201d)
    |(?P<mark>[{}\[\]:,])
    |(?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[A-Za-z_$][\w$-]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


def repaired(text: str, *, is_whole: bool) -> str | None:
    """The JSON object that was meant; None where that is not plain.

    Args:
        text: What does not parse.
        is_whole: The model ended by itself: where it was cut off, nothing is closed for it.
    """
    try:
        tokens, is_closed = _balanced(_tokens(_object_in(text)))
        if not (is_closed or is_whole):
            return None
        value = json_text.parse(_joined(tokens))
    except ValueError:
        return None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else None


def _object_in(text: str) -> str:
    """From the first brace on, out of a code fence where there is one."""
    fenced = _FENCED.search(text)
    inner = fenced.group(1) if fenced and "{" in fenced.group(1) else text
    begin = inner.find("{")
    if begin < 0:
        raise ValueError("there is no object")
    return inner[begin:]


def _tokens(text: str) -> list[str]:
    """The tokens of the first object as JSON writes them; what stands behind it is left out."""
    tokens: list[str] = []
    depth = at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"character {at} makes no sense")
        at = match.end()
        kind, token = match.lastgroup, match.group()
        if kind == "space":
            continue
        tokens.append(_as_json(kind, token))
        depth += (token in _CLOSING) - (token in _CLOSING.values())
        if depth == 0:
            break
    return tokens


def _as_json(kind: str | None, token: str) -> str:
    if kind == "text":
        return _quoted(token)
    if kind == "word":
        return _WORDS.get(token, token)
    return token


def _quoted(token: str) -> str:
    if token[0] == '"':
        # Raw line breaks and tabs are the only fault that such a text can have.
        return json.dumps(json.loads(token, strict=False), ensure_ascii=False)
    inner = _ESCAPE.sub(_without_escape, token[1:-1])
    escaped = re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', inner)
    return json.dumps(json.loads(f'"{escaped}"', strict=False), ensure_ascii=False)


def _without_escape(found: re.Match[str]) -> str:
    """Quotes that JSON does not escape."""
    return found.group(1) if found.group(1) in "'\u201c\u201d" else found.group()


def _balanced(tokens: list[str]) -> tuple[list[str], bool]:
    """The tokens with their brackets closed, and whether they were closed by themselves."""
    open_brackets: list[str] = []
    for token in tokens:
        if token in _CLOSING:
            open_brackets.append(token)
        elif token in ("}", "]") and (not open_brackets or _CLOSING[open_brackets.pop()] != token):
            raise ValueError("its brackets do not match")
    if open_brackets and tokens[-1] in (":", ",", "{", "["):
        raise ValueError("what comes next is missing")
    return tokens + [_CLOSING[each] for each in reversed(open_brackets)], not open_brackets


def _joined(tokens: list[str]) -> str:
    """The tokens as one text, commas before a closing bracket left out; bare words are texts where they are names."""
    kept: list[str] = []
    for token, following in pairwise([*tokens, ""]):
        if token in ("}", "]") and kept and kept[-1] == ",":
            kept.pop()
        is_name = following == ":" and token not in _WORDS and (token[0].isalpha() or token[0] in "_$")
        kept.append(json.dumps(token) if is_name else token)
    return " ".join(kept)


def value_in(text: str) -> Any:
    """The JSON in a model's answer, mended where that is plain.

    Raises:
        ValueError: There is none.
    """
    try:
        return json_text.parse(text)
    except ValueError:
        mended = repaired(text, is_whole=True)
        if mended is None:
            raise
        return json.loads(mended)
