"""Whom every name leads to, with the state of each target: what routing looks at, replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.balancing import LiveRoute
from pagi_gateway.domain.capabilities import of_any
from pagi_gateway.domain.errors import ModelNotFoundError
from pagi_gateway.domain.live_target import LiveTarget
from pagi_gateway.domain.model import ModelInfo
from pagi_gateway.domain.routes import Choice, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagi_gateway.domain.balancing import Random
    from pagi_gateway.domain.ports import ModelSource
    from pagi_gateway.domain.routes import Routes


class Board:
    """Routes, and the targets that they lead to.

    Args:
        routes: Who is asked.
        sources: Who answers for each target, by its name.
        random: Chance.
        now: Seconds on a clock that only goes up.
        before: The board that this one takes the place of: a target that is the same keeps its state.
    """

    def __init__(
        self,
        routes: Routes,
        sources: Mapping[str, ModelSource],
        *,
        random: Random,
        now: float,
        before: Board | None = None,
    ) -> None:
        self.routes = routes
        known = before.targets if before else {}
        ruled = before is not None and before.routes.breaker == routes.breaker
        self.targets: dict[str, LiveTarget] = {}
        for name, target in routes.targets.items():
            live = known.get(name)
            same = live is not None and live.target == target and live.source is sources[name]
            if live is None or not same or not ruled:
                window_s = routes.ejection.window_s
                live = LiveTarget(target, sources[name], routes.breaker, window_s, now, live if same else None)
            self.targets[name] = live
        self._by_name = {route.name: self._live(route, random) for route in _all_routes(routes)}
        self.aliases: Sequence[LiveRoute] = [self._by_name[name] for name in routes.aliases]
        # Where the environment alone says who is asked, any model may be named, and its provider knows it or not.
        self.anything = self._by_name.get(routes.default) if not routes.aliases else None

    def route_of(self, model: str) -> LiveRoute:
        """Whom the name leads to.

        Raises:
            ModelNotFoundError: Nowhere.
        """
        route = self._by_name.get(model or self.routes.default) or self.anything
        if route is None:
            known = ", ".join(self.routes.aliases)
            raise ModelNotFoundError(f"there is no model {model!r}; the aliases are {known} (models.yaml says them)")
        return route

    def routes_with(self, target: LiveTarget) -> Sequence[LiveRoute]:
        """The aliases that lead to it."""
        return [route for route in self.aliases if target in route.members]

    def infos(self, now: float) -> Sequence[ModelInfo]:
        """Everything that can be asked for, aliases first."""
        routes = [*self.aliases, *(route for route in self._by_name.values() if route not in self.aliases)]
        return [self._info(route, now) for route in routes]

    def _live(self, route: Route, random: Random) -> LiveRoute:
        return LiveRoute(route, self.targets, self.routes.ejection, random)

    def _info(self, route: LiveRoute, now: float) -> ModelInfo:
        states = tuple(
            target.state(
                now,
                choice,
                ejected=route.is_ejected(target, now),
                capabilities=target.source.capabilities(target.model),
            )
            for target, choice in zip(route.members, route.choices, strict=True)
        )
        providers = {state.provider for state in states}
        name = route.route.name
        return ModelInfo(
            name,
            "" if name in self.routes.aliases or len(providers) > 1 else states[0].provider,
            is_default=name == self.routes.default,
            capabilities=of_any([state.capabilities for state in states]),
            targets=states,
        )


def _all_routes(routes: Routes) -> Sequence[Route]:
    """The aliases, then what leads to each target alone and to all that have a model, unless an alias is named so."""
    found = dict(routes.aliases)

    def add(name: str, targets: Sequence[str]) -> None:
        if name not in found:
            found[name] = Route(name, tuple(Choice(target) for target in targets), routes.habits)

    for name in routes.targets:
        add(name, [name])
    for model in dict.fromkeys(target.model for target in routes.targets.values()):
        add(model, [name for name, target in routes.targets.items() if target.model == model])
    return list(found.values())
