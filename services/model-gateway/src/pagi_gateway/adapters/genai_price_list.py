"""Prices of the library genai-prices, looked up in a process that ends when it has told them."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from pagi_gateway.adapters.genai_price_table import Asked, Question, Told
from pagi_gateway.domain.prices import ModelPrice, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagi_gateway.domain.prices import PricedModel

log = logging.getLogger(__name__)

_PROGRAM = "pagi_gateway.adapters.genai_price_table"
# Prices change by the calendar, at some providers by the hour of the day.
_LIFETIME_S = 3600.0
_AFTER_FAILURE_S = 60.0
# With an update over the network.
_LONGEST_S = 30.0
# A caller may write any model's name.
_MOST_MODELS = 4096
# How the library names the providers that have other names here.
_PROVIDERS = {"bedrock": "aws"}
_decode = msgspec.json.Decoder(list[Told | None]).decode


class _Found(NamedTuple):
    price: ModelPrice | None
    until: float


class GenaiPriceList:
    """A PriceList and a component. One look-up runs at a time, for all that is wanted then.

    Args:
        update: Whether the newest list is fetched over the network first; else that of the installed library counts.
        program: The module that is run.
        patience_s: How long an answer waits for its price; then it is not known yet.
        now: Seconds that only go up.
    """

    def __init__(
        self,
        *,
        update: bool = False,
        program: str = _PROGRAM,
        patience_s: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience_s = patience_s
        self._update = update
        self._program = program
        self._now = now
        self._found: dict[PricedModel, _Found] = {}
        self._wanted: dict[PricedModel, None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Nothing: what is wanted is looked up."""

    async def stop(self) -> None:
        """Ends a look-up that is under way."""
        for task in (self._refreshing, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    def known(self, model: PricedModel) -> ModelPrice | None:
        """The price that was found last; see PriceList. One that is old is looked up again meanwhile."""
        found = self._found.get(model)
        if found is None:
            return None
        if found.until < self._now() and self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        return found.price

    def want(self, models: Sequence[PricedModel]) -> None:
        """Begins to look up what was not looked up before; see PriceList."""
        for model in models:
            if model in self._found:
                continue
            if _is_at_home(model):
                if len(self._found) >= _MOST_MODELS:
                    self._found.clear()
                self._found[model] = _Found(None, math.inf)
            else:
                self._wanted[model] = None
        if self._wanted and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def learn(self, models: Sequence[PricedModel]) -> None:
        """Waits for what is not known yet, but not for long; see PriceList."""
        self.want(models)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                while any(model not in self._found for model in models):
                    self.want(models)
                    if self._looking is not None:
                        # Shielded: others wait for it too.
                        await asyncio.shield(self._looking)

    async def _refresh(self) -> None:
        try:
            self._wanted.update(dict.fromkeys(model for model in self._found if not _is_at_home(model)))
            self.want(())
            if self._looking is not None:
                await asyncio.shield(self._looking)
        finally:
            self._refreshing = None

    async def _look(self) -> None:
        # What is added while we look is looked up next time.
        models, self._wanted = list(self._wanted), {}
        try:
            prices = await self._ask(models)
        except (OSError, ValueError, TimeoutError, msgspec.MsgspecError) as error:
            log.error("prices cannot be looked up, so they are not known: %s", error or type(error).__name__)
            prices, lifetime_s = [None] * len(models), _AFTER_FAILURE_S
        else:
            lifetime_s = _LIFETIME_S
        finally:
            self._looking = None
        if len(self._found) + len(models) > _MOST_MODELS:
            self._found.clear()
        until = self._now() + lifetime_s
        for model, price in zip(models, prices, strict=True):
            # What was known and cannot be looked up is still the best that is known.
            kept = self._found.get(model) if lifetime_s == _AFTER_FAILURE_S else None
            self._found[model] = _Found(kept.price if kept else price, until)

    async def _ask(self, models: Sequence[PricedModel]) -> list[ModelPrice | None]:
        question = Question([_asked(model) for model in models], self._update)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_LONGEST_S):
                answer, said = await process.communicate(msgspec.json.encode(question))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ValueError(said.decode(errors="replace").strip().rpartition("\n")[2] or "the look-up died")
        if said:
            log.warning("%s", said.decode(errors="replace").strip())
        return [None if told is None else _price(told) for told in _decode(answer)]


def _is_at_home(model: PricedModel) -> bool:
    """Whether it runs on a machine that no list knows: an address by number, or a name of the own network."""
    if model.provider == "ollama":
        return True
    host = urlsplit(model.base_url).hostname or ""
    return bool(model.base_url) and ("." not in host or host.replace(".", "").isdigit() or ":" in host)


def _asked(model: PricedModel) -> Asked:
    provider = "" if model.base_url else _PROVIDERS.get(model.provider, model.provider)
    return Asked(provider, model.base_url, model.model)


def _price(told: Told) -> ModelPrice:
    return ModelPrice(
        _rate(told.input),
        _rate(told.output),
        _rate(told.cached_input) if told.cached_input else None,
        _rate(told.cache_write) if told.cache_write else None,
        told.request_usd,
    )


def _rate(steps: list[tuple[int, float]]) -> Rate:
    (_, base), *tiers = steps
    return Rate(base, tuple(tiers))
