"""Who is asked: targets, and the aliases that lead to them. `models.yaml` says it, or the environment alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Balance(StrEnum):
    """How the targets of one order share the load."""

    WEIGHTED = "weighted"
    LEAST_BUSY = "least_busy"


class Fault(StrEnum):
    """What a target can do wrong that another one may do right."""

    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    DOWN = "down"
    WRONG_SHAPE = "wrong_shape"
    ACCESS = "access"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None for what the settings say."""

    connect_s: float | None = None
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a target may be asked; 0 for no limit of ours. The provider's own limits are learned besides."""

    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    concurrent: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one address with one key.

    Attributes:
        name: Its own, in messages, metrics and attempts.
        provider: As `LLM_PROVIDER` spells it.
        model: As the provider names it.
        base_url: Empty for the provider's.
        api_key_env: The variable that holds the key; empty for the provider's own.
        api: `chat` or `responses`, for openai; empty for what the settings say.
        timeouts: For one attempt.
        limits: What it may be asked.
        unguarded: It is asked whatever it did before.
    """

    name: str
    provider: str
    model: str
    base_url: str = ""
    api_key_env: str = ""
    api: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: RateLimits = field(default_factory=RateLimits)
    unguarded: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A target among those of an alias: smaller orders are asked first, equal ones share the load by weight."""

    target: str
    order: int = 1
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How a request gets its answer.

    Attributes:
        balance: How those of one order share the load.
        attempts: How many calls one request may cost.
        longest_wait_s: How long a request waits for a target that rests or is full, when no other is free.
        fail_over_on: After which faults another call is made.
    """

    balance: Balance = Balance.WEIGHTED
    attempts: int = 3
    longest_wait_s: float = 2.0
    fail_over_on: frozenset[Fault] = frozenset(Fault) - {Fault.NOT_FOUND}


@dataclass(frozen=True, slots=True)
class Route:
    """What a name that callers ask for leads to.

    Attributes:
        name: The alias.
        choices: Who may answer, never empty, those of smaller orders first.
        habits: How.
    """

    name: str
    choices: tuple[Choice, ...]
    habits: Habits = field(default_factory=Habits)


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a target that fails is left alone.

    Attributes:
        failures: So many in a row.
        rest_s: For how long; doubled each time that the probe after it fails.
        longest_rest_s: And never longer than this.
    """

    failures: int = 5
    rest_s: float = 10.0
    longest_rest_s: float = 300.0


@dataclass(frozen=True, slots=True)
class EjectionRules:
    """When a target is left alone because it fails more often than the others of its alias.

    Attributes:
        window_s: What counts is this young.
        at_least: Answers in the window, of the target, before it is judged.
        error_share: It is ejected from this share of failures on, where the others together have at most half of it.
        at_most: The greatest share of an alias's targets that is ejected at once.
        rest_s: For how long.
    """

    window_s: float = 60.0
    at_least: int = 20
    error_share: float = 0.3
    at_most: float = 0.5
    rest_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Routes:
    """The whole of it. Every choice names a target that is there.

    Attributes:
        targets: By name.
        aliases: By name; a target can also be asked by its own name, or by the name of its model.
        default: The alias, or model, that is asked where a request names none.
        habits: For targets that are asked by their own name or by their model's.
        breaker: For every target.
        ejection: For every alias.
    """

    targets: Mapping[str, Target]
    aliases: Mapping[str, Route]
    default: str
    habits: Habits = field(default_factory=Habits)
    breaker: BreakerRules = field(default_factory=BreakerRules)
    ejection: EjectionRules = field(default_factory=EjectionRules)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", MappingProxyType(dict(self.targets)))
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))
