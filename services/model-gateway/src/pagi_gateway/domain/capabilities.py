"""What a model can do and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum


class Support(StrEnum):
    """Whether a model can do something. What is unknown is asked of the provider, which may refuse."""

    UNKNOWN = "unknown"
    NO = "no"
    YES = "yes"
    EMULATED = "emulated"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do; `context_tokens` and `max_output_tokens` are 0 where they are not known.

    `any_tool_name` is whether tools may have names of any length and characters: only where that is known are they
    sent as they are (`pagi_gateway.domain.tool_names`).
    """

    tools: Support = Support.UNKNOWN
    parallel_tools: Support = Support.UNKNOWN
    images: Support = Support.UNKNOWN
    image_urls: Support = Support.UNKNOWN
    files: Support = Support.UNKNOWN
    file_urls: Support = Support.UNKNOWN
    response_format: Support = Support.UNKNOWN
    reasoning: Support = Support.UNKNOWN
    temperature: Support = Support.UNKNOWN
    top_p: Support = Support.UNKNOWN
    stop: Support = Support.UNKNOWN
    seed: Support = Support.UNKNOWN
    cache_hints: Support = Support.UNKNOWN
    streaming: Support = Support.UNKNOWN
    any_tool_name: Support = Support.UNKNOWN
    context_tokens: int = 0
    max_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; what is None costs as input does."""

    input_usd: float
    output_usd: float
    cached_input_usd: float | None = None
    cache_write_usd: float | None = None


# From the least to the most that is known to be possible.
_ABILITY = (Support.NO, Support.UNKNOWN, Support.EMULATED, Support.YES)


def of_any(several: Sequence[Capabilities]) -> Capabilities:
    """What can be done where any of several models may be asked, and who cannot is passed by.

    A size is the smallest that is known: whoever answers must find room in it.
    """
    if len(several) == 1:
        return several[0]
    merged: dict[str, Support | int] = {}
    for field in fields(Capabilities):
        values = [getattr(each, field.name) for each in several]
        if isinstance(values[0], Support):
            merged[field.name] = max(values, key=_ABILITY.index)
        else:
            merged[field.name] = min(filter(None, values), default=0)
    return Capabilities(**merged)  # type: ignore[arg-type]  # each field's own kind
