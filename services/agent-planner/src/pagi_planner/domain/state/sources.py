"""The passages that a run was given, as its caller reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pagi_planner.domain.model import Source


def sources_of(passages: Iterable[Mapping[str, Any]]) -> list[Source]:
    """The passages in a CONTEXT_LOADED."""
    return [
        Source(each["source"], each["knowledge_base"], tuple(each["headings"]), each["score"], cited=False)
        for each in passages
    ]


def marked(sources: Iterable[Source], answer: str) -> tuple[Source, ...]:
    """The sources, those marked that the answer names."""
    return tuple(replace(source, cited=source.source in answer) for source in sources)
