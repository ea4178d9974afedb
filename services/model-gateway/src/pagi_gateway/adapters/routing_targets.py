"""Routing as it is in force: the targets of `models.yaml` or of the environment behind one router."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from pagi_gateway.adapters.prometheus_routing import PrometheusRouting
from pagi_gateway.adapters.system_clock import SystemClock
from pagi_gateway.adapters.target_pool import TargetPool
from pagi_gateway.domain.board import Board
from pagi_gateway.domain.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pagi_gateway.domain.models_config import ModelsConfig
    from pagi_gateway.domain.ports import ModelSource
    from pagi_gateway.domain.prices import Prices
    from pagi_gateway.domain.rate_limits import RateReport
    from pagi_gateway.domain.routes import Routes, Target
    from pagi_gateway.settings import GatewaySettings


class RoutingTargets:
    """A component: the router, and the pool of those whom it asks.

    Args:
        settings: For all that the file does not say.
        config: What the file says; None where there is none.
        variable: The text of an environment variable.
        prices: What answers cost.

    Raises:
        StartError: A target cannot be made.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        config: ModelsConfig | None,
        variable: Callable[[str], str],
        prices: Prices | None = None,
    ) -> None:
        self._clock = SystemClock()
        self.pool = TargetPool(settings, variable, self._learn, prices)
        routes = self._routes(config)
        board = self._board(routes, self.pool.make(routes.targets.values()))
        self.router = Router(board, clock=self._clock, random=random.random, watch=PrometheusRouting(), prices=prices)

    async def start(self) -> None:
        """Starts the targets."""
        await self.pool.start()

    async def stop(self) -> None:
        """Stops them."""
        await self.pool.stop()

    async def apply(self, config: ModelsConfig) -> None:
        """Puts another file in force. Requests on their way end as they began.

        Raises:
            StartError: A target cannot be made; all is as it was.
            PagiError: A target cannot start; all is as it was.
        """
        routes = self._routes(config)
        sources = await self.pool.adopt(routes.targets.values())
        before = self.router.board
        self.router.use(self._board(routes, sources, before))
        kept = set(routes.targets.values())
        self.pool.retire({name: live for name, live in before.targets.items() if live.target not in kept})

    def detail(self) -> dict[str, Any]:
        """How it is with each target, for people who ask for the health."""
        now = self._clock.now()
        return {
            "targets": {
                name: {
                    "circuit": str(live.breaker.circuit(now)),
                    "resting_s": round(live.wait_s(now, 0.0), 3),
                    "in_flight": live.in_flight,
                    "last_error": live.last_error.message if live.last_error else "",
                }
                for name, live in self.router.board.targets.items()
            }
        }

    def _routes(self, config: ModelsConfig | None) -> Routes:
        return (config.routes if config else None) or self.pool.routes_of_environment()

    def _board(self, routes: Routes, sources: Mapping[str, ModelSource], before: Board | None = None) -> Board:
        return Board(routes, sources, random=random.random, now=self._clock.now(), before=before)

    def _learn(self, target: Target, report: RateReport) -> None:
        # Another file may call another target by this name now.
        if (live := self.router.board.targets.get(target.name)) is not None and live.target == target:
            live.learn(self._clock.now(), report)
