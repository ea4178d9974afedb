"""What names an effect, and what makes two requests the same."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Plan, PlanRequest

_encode = msgspec.msgpack.Encoder().encode


class EffectName(NamedTuple):
    """Names an effect: effect ids are unique within a tenant."""

    tenant: str
    effect_id: str


class KnownAnswer(NamedTuple):
    """An answer, and the fingerprint of the request that it was made for."""

    fingerprint: str
    plan: Plan


def fingerprint_of(request: PlanRequest, answering: Sequence[tuple[str, ...]] = ()) -> str:
    """A digest (32 hexadecimal digits) of all that can change the answer.

    Not of who asks, what it may cost, and what the provider shall keep.

    Args:
        request: What is asked.
        answering: The models behind the name that it asks for, where these count too.
    """
    parts = (
        request.messages,
        request.tools,
        request.model,
        request.max_output_tokens,
        request.temperature,
        request.response_format,
        request.stop,
        request.seed,
        request.top_p,
        request.leave_out,
        request.effort,
        request.tool_use,
        request.tool_name,
        *answering,
    )
    return blake2b(_encode(parts), digest_size=16).hexdigest()
