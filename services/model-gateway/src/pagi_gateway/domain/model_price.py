"""What a model costs, and whose price that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pagi_gateway.domain.capabilities import Price

if TYPE_CHECKING:
    from pagi_gateway.domain.model import Usage

_TOKENS = 1_000_000


class PricedModel(NamedTuple):
    """Whose price is wanted.

    Attributes:
        provider: As `LLM_PROVIDER` spells it.
        model: As the provider names it.
        base_url: Where it is, if that is not the provider's own address: another server has other prices.
        target: Its name in `models.yaml`, or empty.
    """

    provider: str
    model: str
    base_url: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars for a million tokens.

    Attributes:
        usd: For short inputs.
        tiers: `(tokens, usd)`, ascending: for all tokens of a call whose whole input is longer than `tokens`.
    """

    usd: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, input_tokens: int) -> float:
        """For a call with so much input."""
        usd = self.usd
        for start, higher in self.tiers:
            if input_tokens > start:
                usd = higher
        return usd

    @property
    def highest(self) -> float:
        """For any call."""
        return max((self.usd, *(usd for _, usd in self.tiers)))


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model costs; what is None costs as input does. `request_usd` is added for each call."""

    input: Rate
    output: Rate
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    request_usd: float = 0.0

    def cost_usd(self, usage: Usage) -> float:
        """The cost of an answer: tokens read from a cache or written to one are part of the input, and counted once."""
        length, plain = usage.input_tokens, usage.input_tokens
        cost = 0.0
        for rate, tokens in (
            (self.cached_input, usage.cached_input_tokens),
            (self.cache_write, usage.cache_write_tokens),
        ):
            if rate is not None and tokens:
                plain -= tokens
                cost += rate.at(length) * tokens
        cost += self.input.at(length) * max(0, plain) + self.output.at(length) * usage.output_tokens
        return cost / _TOKENS + self.request_usd

    def most_usd(self, input_tokens: int, output_tokens: int) -> float:
        """What a call may cost: caches may be written to, which costs more than plain input at some providers."""
        inputs = [rate.at(input_tokens) for rate in (self.input, self.cached_input, self.cache_write) if rate]
        return (max(inputs) * input_tokens + self.output.at(input_tokens) * output_tokens) / _TOKENS + self.request_usd

    def affordable_output(self, input_tokens: int, usd: float) -> int | None:
        """How many tokens may be written so that a call costs at most `usd`; None for any number."""
        left = usd - self.most_usd(input_tokens, 0)
        each = self.output.at(input_tokens)
        if left < 0:
            return 0
        return int(left * _TOKENS / each) if each else None

    def listed(self) -> Price:
        """As it is shown: for short inputs."""
        return Price(
            self.input.usd,
            self.output.usd,
            self.cached_input.usd if self.cached_input else None,
            self.cache_write.usd if self.cache_write else None,
        )


FREE = ModelPrice(Rate(0.0), Rate(0.0))
