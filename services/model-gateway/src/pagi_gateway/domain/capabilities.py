"""What a model can do and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
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
