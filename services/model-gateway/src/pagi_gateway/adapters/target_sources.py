"""Makes who answers for a target of `models.yaml`: the settings, but for what the target says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from pagi_gateway.adapters.provider_catalogue import provider_of
from pagi_gateway.domain.routes import BreakerRules, EjectionRules, Fault, Habits, Routes, Target
from pagi_gateway.settings import OFFICIAL_OPENAI_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagi_gateway.adapters.http_road import Heard
    from pagi_gateway.domain.ports import ModelSource
    from pagi_gateway.settings import GatewaySettings

OFFLINE = ("mock", "scripted")
_KEYLESS = (*OFFLINE, "bedrock", "ollama")
_TIMEOUTS = {
    "connect_s": "llm_connect_timeout_seconds",
    "first_token_s": "llm_first_token_timeout_seconds",
    "between_tokens_s": "llm_between_tokens_timeout_seconds",
}


def routes_of_environment(settings: GatewaySettings, default_model: str) -> Routes:
    """The one target of `LLM_PROVIDER`: a call that found nobody or no room is made again, no other is.

    The offline providers are asked whatever they answered before: their faults are made on purpose.
    """
    name = settings.llm_provider
    offline = name in OFFLINE
    habits = Habits(
        attempts=1 if offline else settings.llm_attempts, fail_over_on=frozenset({Fault.DOWN, Fault.RATE_LIMIT})
    )
    target = Target(name, name, default_model, unguarded=offline)
    # There is nobody else: it is tried again soon, and a request may wait for that.
    breaker = BreakerRules(rest_s=1.0, longest_rest_s=30.0)
    return Routes({name: target}, {}, default_model, habits, breaker, EjectionRules())


def source_of(
    target: Target, settings: GatewaySettings, variable: Callable[[str], str], heard: Heard | None = None
) -> ModelSource:
    """Makes it.

    Args:
        target: What it is.
        settings: For all that it does not say.
        variable: The text of an environment variable.
        heard: Is told the headers of every answer.

    Raises:
        StartError: The script of the scripted provider is wrong, or a package is missing.
    """
    provider = target.provider
    changes: dict[str, Any] = {"llm_provider": provider, "default_model": target.model}
    if provider in {"openrouter", "ollama"}:
        changes[f"{provider}_model_name"] = target.model
    for name, field in _TIMEOUTS.items():
        if (seconds := getattr(target.timeouts, name)) is not None:
            changes[field] = seconds
    if target.api:
        changes["openai_api"] = target.api
    if target.base_url:
        changes[f"{provider}_base_url"] = target.base_url
    if f"{provider}_api_key" in type(settings).model_fields and (target.base_url or target.api_key_env):
        # The provider's own key is for the provider's own address: it goes nowhere else unasked.
        changes[f"{provider}_api_key"] = SecretStr(variable(target.api_key_env) if target.api_key_env else "")
    return provider_of(
        provider,
        settings.model_copy(update=changes),
        heard=heard,
        key_variable=target.api_key_env,
        url_variable=f"the base_url of the target {target.name}" if target.base_url else "",
    )


def lacking(target: Target, settings: GatewaySettings, variable: Callable[[str], str]) -> str:
    """What a target lacks to be asked, or has and must not; empty where it is right."""
    provider = target.provider
    if target.api and provider != "openai":
        return f"only openai has two APIs; leave api out for {provider}"
    if target.base_url and provider in OFFLINE:
        return f"{provider} is nowhere; leave base_url out"
    if target.api_key_env:
        if provider in _KEYLESS:
            return f"{provider} takes no key here; leave api_key_env out"
        if not variable(target.api_key_env):
            return f"the variable {target.api_key_env}, which is to hold the key, is not set"
        return ""
    if provider == "scripted":
        path = settings.scripted_responses_path
        return "" if path and path.is_file() else "SCRIPTED_RESPONSES_PATH is to name the JSON file to play"
    if provider == "bedrock":
        return "" if settings.aws_region else "AWS_REGION is not set"
    return _key_lacking(target, settings)


def _key_lacking(target: Target, settings: GatewaySettings) -> str:
    key = getattr(settings, f"{target.provider}_api_key", None)
    elsewhere = target.base_url or (target.provider == "openai" and settings.openai_base_url != OFFICIAL_OPENAI_URL)
    if key is None or key.get_secret_value() or elsewhere:
        return ""
    return f"{target.provider.upper()}_API_KEY is not set; set it, or name another variable as api_key_env"
