"""JSON that a model or a tool wrote, read into what can be stored and sent on."""

from __future__ import annotations

import json
import re
from typing import Any

# Writers of JSON further on give up at 255 levels (pydantic); no honest value comes near.
MAX_DEPTH = 100

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str) -> Any:
    """Reads a value.

    Half of a surrogate pair, which is not text and which no store takes, becomes "?".

    Raises:
        ValueError: It is not JSON (RFC 8259, so neither are NaN and Infinity), or nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if _HALF_PAIR.search(text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise _too_deep() from None
    # Most texts are shown to be shallow by counting, without a walk.
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value):
        raise _too_deep()
    return value


def object_text(value: Any) -> str:
    """A JSON object that a person wrote, as text that `parse` reads as it is.

    What a model writes is mended; what a person decides is taken to the letter, or not at all.

    Raises:
        ValueError: It is no object, or holds what no JSON text can: NaN, a number without end, half of a pair.
    """
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if _is_deep(value):
        raise _too_deep()
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no text") from None
    except ValueError:
        raise ValueError("it holds a number that is none, or too large") from None
    return text


def _is_deep(value: Any) -> bool:
    """Level by level, since a recursion would meet its own limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
    return any(isinstance(each, dict | list) for each in level)


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")
