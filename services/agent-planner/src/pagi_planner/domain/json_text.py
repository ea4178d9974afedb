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
