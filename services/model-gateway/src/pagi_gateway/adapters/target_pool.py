"""Everyone who answers for the targets in force: made, started, and stopped when nobody asks them any more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pagi_gateway.adapters.http_rates import rate_report
from pagi_gateway.adapters.provider_catalogue import RemoteProvider, provider_of
from pagi_gateway.adapters.target_sources import routes_of_environment, source_of
from pagi_gateway.adapters.telemetry_provider import TelemetryProvider
from pagi_gateway.domain.errors import ProviderDownError
from pagi_gateway.domain.fitting import FittingProvider
from pagi_gateway.domain.priced_source import PricedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pagi_gateway.adapters.http_road import Heard
    from pagi_gateway.domain.live_target import LiveTarget
    from pagi_gateway.domain.ports import ModelSource
    from pagi_gateway.domain.prices import Prices
    from pagi_gateway.domain.rate_limits import RateReport
    from pagi_gateway.domain.routes import Routes, Target
    from pagi_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_LOOK_S = 0.1
# By then the longest answer is over: the settings bound it far below.
_LONGEST_GOODBYE_S = 900.0


class TargetPool:
    """A component. Targets that stay the same keep their connections when the file changes.

    Args:
        settings: For all that targets do not say.
        variable: The text of an environment variable.
        learn: Is told what the provider of a target says of its limits.
        prices: What answers cost.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        variable: Callable[[str], str],
        learn: Callable[[Target, RateReport], None],
        prices: Prices | None = None,
    ) -> None:
        self._settings = settings
        self._variable = variable
        self._learn = learn
        self._prices = prices
        self._made: dict[Target, tuple[ModelSource, TelemetryProvider]] = {}
        self._environment: Routes | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()

    def routes_of_environment(self) -> Routes:
        """The one target that the settings alone describe.

        Raises:
            StartError: It cannot be made.
        """
        if self._environment is None:
            name = self._settings.llm_provider
            source = provider_of(name, self._settings, heard=self._heard(lambda: target))
            self._environment = routes_of_environment(self._settings, source.default_model)
            (target,) = self._environment.targets.values()
            self._made[target] = source, self._measured(source, target)
        return self._environment

    def make(self, targets: Iterable[Target]) -> dict[str, ModelSource]:
        """Who answers for each, by the target's name; not started yet.

        Raises:
            StartError: One cannot be made.
        """
        return {target.name: self._of(target)[1] for target in targets}

    async def start(self) -> None:
        """Starts all that were made."""
        for source, _ in self._made.values():
            if isinstance(source, RemoteProvider):
                await source.start()

    async def adopt(self, targets: Iterable[Target]) -> dict[str, ModelSource]:
        """As `make`, and starts those that are new; where one cannot start, all is as it was.

        Raises:
            StartError: One cannot be made.
            PagiError: One cannot start.
        """
        before = dict(self._made)
        try:
            sources = self.make(targets)
            for target, (source, _) in self._made.items():
                if target not in before and isinstance(source, RemoteProvider):
                    await source.start()
        except BaseException:
            new = [source for target, (source, _) in self._made.items() if target not in before]
            self._made = before
            for source in new:
                await _stop(source)
            raise
        return sources

    def retire(self, targets: Mapping[str, LiveTarget]) -> None:
        """Stops those as soon as nobody can ask them any more; new requests do not reach them."""
        for live in targets.values():
            source, _ = self._made.pop(live.target)
            if self._environment and live.name in self._environment.targets:
                self._environment = None
            task = asyncio.create_task(_goodbye(source, live))
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)

    async def stop(self) -> None:
        """Stops all."""
        for task in list(self._goodbyes):
            task.cancel()
        await asyncio.gather(*self._goodbyes, return_exceptions=True)
        for source, _ in self._made.values():
            await _stop(source)

    async def check(self) -> None:
        """Looks whether every target's address takes connections.

        Raises:
            ProviderDownError: With those that do not.
        """
        targets = [(target, source) for target, (source, _) in self._made.items() if isinstance(source, RemoteProvider)]
        results = await asyncio.gather(*(source.check() for _, source in targets), return_exceptions=True)
        away = [
            f"{target.name}: {result}"
            for (target, _), result in zip(targets, results, strict=True)
            if isinstance(result, BaseException)
        ]
        if away:
            raise ProviderDownError("; ".join(away))

    def _of(self, target: Target) -> tuple[ModelSource, TelemetryProvider]:
        if target not in self._made:
            source = source_of(target, self._settings, self._variable, self._heard(lambda: target))
            self._made[target] = source, self._measured(source, target)
        return self._made[target]

    def _measured(self, source: ModelSource, target: Target) -> TelemetryProvider:
        answers: ModelSource = FittingProvider(source)
        if self._prices is not None:
            answers = PricedSource(answers, self._prices, base_url=target.base_url, target=target.name)
        contents = self._settings.otel_instrumentation_genai_capture_message_content
        return TelemetryProvider(answers, contents=contents, target=target.name)

    def _heard(self, target: Callable[[], Target]) -> Heard:
        def heard(headers: Mapping[str, str]) -> None:
            if (report := rate_report(headers)) is not None:
                self._learn(target(), report)

        return heard


async def _goodbye(source: ModelSource, live: LiveTarget) -> None:
    try:
        async with asyncio.timeout(_LONGEST_GOODBYE_S):
            while live.awaited:  # noqa: ASYNC110 - rare, and not worth an event in every call
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        log.warning("target %s still has %d requests on their way: they are cut", live.name, live.awaited)
    finally:
        await _stop(source)


async def _stop(source: ModelSource) -> None:
    if isinstance(source, RemoteProvider):
        await source.stop()
