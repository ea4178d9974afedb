"""The sections of `models.yaml` that say who is asked: their members, and what each becomes."""

from dataclasses import replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from pagi_gateway.domain.routes import (
    Balance,
    BreakerRules,
    Choice,
    EjectionRules,
    Fault,
    Habits,
    RateLimits,
    Route,
    Target,
    Timeouts,
)
from pagi_gateway.settings import ProviderName, is_url

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^\S+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Positive = Annotated[float, Field(gt=0)]
FaultName = Literal["timeout", "rate_limit", "down", "wrong_shape", "access", "not_found"]
BalanceName = Literal["weighted", "least_busy"]


class Section(BaseModel):
    """A mapping of the file: no member but those declared, no value of another type, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TimeoutsSection(Section):
    """`timeouts` of a target, in seconds."""

    connect_seconds: Positive | None = None
    first_token_seconds: Positive | None = None
    between_tokens_seconds: Positive | None = None
    total_seconds: Positive | None = None

    def made(self) -> Timeouts:
        """What it becomes."""
        return Timeouts(self.connect_seconds, self.first_token_seconds, self.between_tokens_seconds, self.total_seconds)


class LimitsSection(Section):
    """`limits` of a target; 0 for none."""

    requests_per_minute: float = Field(default=0, ge=0)
    tokens_per_minute: float = Field(default=0, ge=0)
    concurrent: int = Field(default=0, ge=0)

    def made(self) -> RateLimits:
        """What it becomes."""
        return RateLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent)


class TargetSection(Section):
    """One of `targets`."""

    provider: ProviderName
    model: Name
    base_url: str = ""
    api_key_env: Variable | None = None
    api: Literal["chat", "responses"] | None = None
    timeouts: TimeoutsSection = TimeoutsSection()
    limits: LimitsSection = LimitsSection()

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        return is_url(value)

    def made(self, name: str) -> Target:
        """What it becomes."""
        return Target(
            name,
            self.provider,
            self.model,
            self.base_url,
            self.api_key_env or "",
            self.api or "",
            self.timeouts.made(),
            self.limits.made(),
        )


def _entry(value: Any) -> Any:
    return {"target": value} if isinstance(value, str) else value


class ChoiceSection(Section):
    """A target in an alias; its name alone will do."""

    target: Name
    order: int | None = Field(default=None, ge=0)
    weight: Positive = 1.0


def _alias(value: Any) -> Any:
    return {"targets": value} if isinstance(value, list) else {"targets": [value]} if isinstance(value, str) else value


class HabitsSection(Section):
    """How targets are chosen: for one alias, or in `routing` for all that do not say otherwise."""

    balance: BalanceName | None = None
    attempts: int | None = Field(default=None, ge=1, le=20)
    longest_wait_seconds: float | None = Field(default=None, ge=0, le=600)
    fail_over_on: list[FaultName] | None = None

    def over(self, habits: Habits) -> Habits:
        """The habits, but for what is said here."""
        said = {
            "balance": None if self.balance is None else Balance(self.balance),
            "attempts": self.attempts,
            "longest_wait_s": self.longest_wait_seconds,
            "fail_over_on": None if self.fail_over_on is None else frozenset(map(Fault, self.fail_over_on)),
        }
        changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        return replace(habits, **changes)


class AliasSection(HabitsSection):
    """One of `aliases`; a list of targets alone will do, and then each is asked after the one before it."""

    targets: list[Annotated[ChoiceSection, BeforeValidator(_entry)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if len({entry.order is None for entry in self.targets}) > 1:
            raise ValueError("give every target an order, or none (then each is asked after the one before it)")
        return self

    def made(self, name: str, habits: Habits) -> Route:
        """What it becomes."""
        choices = tuple(
            Choice(entry.target, number if entry.order is None else entry.order, entry.weight)
            for number, entry in enumerate(self.targets, start=1)
        )
        ordered = tuple(sorted(choices, key=lambda choice: choice.order))
        return Route(name, ordered, self.over(habits))


class BreakerSection(Section):
    """`routing.breaker`."""

    failures: int = Field(default=5, ge=1)
    rest_seconds: Positive = 10.0
    longest_rest_seconds: Positive = 300.0

    def made(self) -> BreakerRules:
        """What it becomes."""
        return BreakerRules(self.failures, self.rest_seconds, max(self.rest_seconds, self.longest_rest_seconds))


class EjectionSection(Section):
    """`routing.ejection`."""

    window_seconds: Positive = 60.0
    at_least: int = Field(default=20, ge=1)
    error_share: float = Field(default=0.3, gt=0, le=1)
    at_most: float = Field(default=0.5, ge=0, le=1)
    rest_seconds: Positive = 30.0

    def made(self) -> EjectionRules:
        """What it becomes."""
        return EjectionRules(self.window_seconds, self.at_least, self.error_share, self.at_most, self.rest_seconds)


class RoutingSection(HabitsSection):
    """`routing`: for all aliases."""

    breaker: BreakerSection = BreakerSection()
    ejection: EjectionSection = EjectionSection()


Alias = Annotated[AliasSection, BeforeValidator(_alias)]
assert {fault.value for fault in Fault} == set(get_args(FaultName))
