"""One real call of a provider, told to a person: `pagi-gateway test-model --provider openai`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, get_args

from pagi_chassis.component import StartError
from pagi_chassis.errors import PagiError
from pagi_chassis.settings import SettingsError, load, variable

from pagi_gateway.adapters.accounting import Accounting
from pagi_gateway.adapters.models_in_force import models_of
from pagi_gateway.adapters.provider_catalogue import RemoteProvider, provider_of
from pagi_gateway.adapters.routing_targets import RoutingTargets
from pagi_gateway.domain.fitting import FittingProvider
from pagi_gateway.domain.model import Message, Plan, PlanRequest, ReasoningDelta, Role, TextDelta
from pagi_gateway.domain.priced_source import PricedSource
from pagi_gateway.settings import GatewaySettings, ProviderName, with_provider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagi_gateway.domain.model import Attempt
    from pagi_gateway.domain.ports import Answerer, ModelSource
    from pagi_gateway.domain.prices import Prices

_PROMPT = "Say in one short sentence that you can be heard."
_TOKENS = 200
_WRONG_CONFIGURATION = 78


def main(arguments: Sequence[str]) -> int:
    """Asks and tells; 0 where an answer came, 1 where none did, 78 where the configuration is wrong."""
    asked = _parser().parse_args(arguments)
    try:
        settings = load(with_provider(asked.provider) if asked.provider else GatewaySettings)
        # For the prices only: it is not started, so that no file is opened.
        accounting = Accounting(settings)
        # A provider that is named is asked whatever models.yaml says.
        config = None if asked.provider else models_of(settings, variable)
        if config is not None and config.routes is not None:
            # What went wrong is told with the attempts.
            logging.disable(logging.WARNING)
            accounting.use(config)
            routing = RoutingTargets(settings, config, variable, accounting.prices)
            names = list(config.routes.targets) if asked.all_targets else [asked.model or config.routes.default]
            return asyncio.run(_try_routes(routing, names, asked))
        source = provider_of(settings.llm_provider, settings)
    except (SettingsError, StartError) as error:
        _tell("configuration", str(error))
        return _WRONG_CONFIGURATION
    return asyncio.run(_try(source, accounting.prices, asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pagi-gateway test-model", description="Makes one real call of a model.")
    parser.add_argument("--provider", choices=get_args(ProviderName), help="else models.yaml, or else LLM_PROVIDER")
    parser.add_argument("--model", default="", help="or an alias or a target of models.yaml; else the default")
    parser.add_argument("--all-targets", action="store_true", help="one call of each target of models.yaml")
    parser.add_argument("--prompt", default=_PROMPT)
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    return parser


async def _try_routes(routing: RoutingTargets, names: Sequence[str], asked: argparse.Namespace) -> int:
    """Asks for each of the names as the gateway would; 0 where all were answered."""
    failed = 0
    try:
        await routing.start()
        for name in names:
            _tell("asked for", name)
            request = PlanRequest((Message(Role.USER, asked.prompt),), model=name, max_output_tokens=_TOKENS)
            try:
                await _ask(routing.router, request, asked.timeout)
            except PagiError as error:
                failed = 1
                _tell_attempts(getattr(error, "attempts", ()))
                _tell("failed", f"{type(error).__name__}: {error}")
    except PagiError as error:
        _tell("failed", f"{type(error).__name__}: {error}")
        return 1
    finally:
        await routing.stop()
    return failed


async def _try(source: ModelSource, prices: Prices, asked: argparse.Namespace) -> int:
    model, timeout_s = asked.model or source.default_model, asked.timeout
    request = PlanRequest((Message(Role.USER, asked.prompt),), model=model, max_output_tokens=_TOKENS)
    _tell("provider", source.name)
    _tell("model", request.model)
    try:
        if isinstance(source, RemoteProvider):
            await source.start()
            began = time.perf_counter()
            await asyncio.wait_for(source.check(), timeout_s)
            _tell("connection", f"taken in {_ms(began)}")
        await _ask(FittingProvider(PricedSource(source, prices)), request, timeout_s)
    except (PagiError, TimeoutError) as error:
        _tell("failed", f"{type(error).__name__}: {error}")
        return 1
    finally:
        if isinstance(source, RemoteProvider):
            await source.stop()
    return 0


async def _ask(answerer: Answerer, request: PlanRequest, timeout_s: float) -> None:
    began, first, deltas = time.perf_counter(), "", 0
    async with aclosing(answerer.stream(request, timeout_s=timeout_s)) as events:
        async for event in events:
            if isinstance(event, Plan):
                _tell_attempts(event.attempts)
                _tell("stream", f"first piece after {first or _ms(began)}, {deltas} pieces, {_ms(began)} in all")
                _tell_plan(event)
            elif isinstance(event, TextDelta | ReasoningDelta):
                first, deltas = first or _ms(began), deltas + 1


def _tell_attempts(attempts: Sequence[Attempt]) -> None:
    for each in attempts:
        ended = f"{each.outcome} after {each.latency_ms:.0f} ms" + (f": {each.message}" if each.message else "")
        _tell("attempt", f"{each.target} ({each.model} of {each.provider}): {ended}")


def _tell_plan(plan: Plan) -> None:
    if plan.reasoning:
        _tell("reasoning", f"{sum(len(each.text) for each in plan.reasoning)} characters")
    _tell("answer", plan.text)
    _tell("finished", f"{plan.finish_reason} ({plan.finish_reason_raw or 'no reason given'})")
    usage = plan.usage
    cost = "cost unknown" if usage.cost_usd is None else f"{usage.cost_usd:.6f} US dollars"
    used = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage.reported else "not reported"
    _tell("usage", f"{used}; {cost}")
    _tell("answered by", f"{plan.model} of {plan.provider}")
    for note in plan.notes:
        _tell("note", f"{note.field}: {note.message}")


def _ms(since: float) -> str:
    return f"{(time.perf_counter() - since) * 1000:.0f} ms"


def _tell(what: str, told: str) -> None:
    sys.stdout.write(f"{what:<14}{told}\n")
    sys.stdout.flush()
