"""What a run may still use."""

from __future__ import annotations

from pagi_planner.domain.model import RunStatus
from pagi_planner.domain.run.work import RunLimitError, Work


def reached_limit(work: Work) -> RunLimitError | None:
    """The limit that forbids any further model call; None where one is allowed."""
    limits = work.request.limits
    left_usd, left_tokens = money_left(work), tokens_left(work)
    if left_usd is not None and left_usd <= 0:
        return RunLimitError(RunStatus.LIMIT_COST, f"its {limits.max_cost_usd:g} USD were used up")
    if left_tokens is not None and left_tokens <= 0:
        return RunLimitError(RunStatus.LIMIT_TOKENS, f"its {limits.max_tokens} tokens were used up")
    return None


def money_left(work: Work) -> float | None:
    """What may still be spent (US dollars); None: there is no bound."""
    most = work.request.limits.max_cost_usd
    return None if most is None else most - (work.state.usage.cost_usd or 0.0)


async def answer_tokens(work: Work, model: str) -> int | None:
    """What one answer of this model may have (tokens); None: as much as the model gives.

    No more than the model can give: a gateway refuses to have more written than that.
    """
    if (left := tokens_left(work)) is None:
        return None
    traits = await work.parts.catalogue.traits(model)
    return min(left, traits.max_output_tokens or left)


def tokens_left(work: Work) -> int | None:
    """What may still be read and written (tokens); None: there is no bound."""
    most = work.request.limits.max_tokens
    return None if most is None else most - work.state.usage.tokens
