"""Tells prices of the library genai-prices: a program of its own, `python -m pagi_gateway.adapters.genai_price_table`.

The library takes 130 ms to import, its data 170 ms and 70 MB where no compiled modules are kept: a process that ends
gives that back, and blocks nobody. It reads a question from its input and writes the answer, both JSON.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

# Tokens of these kinds are not told apart in our usage, so they are counted, as the library does, with all others.
_LEFT_OUT = ("audio", "image", "video", "text", "document", "1h", "5m", "searches")
_KNOWN = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "requests_kcount"}


class Asked(msgspec.Struct, frozen=True):
    """A model: its provider by the library's id, or, where that is empty, by its address."""

    provider: str
    base_url: str
    model: str


class Question(msgspec.Struct, frozen=True):
    """What is wanted; `update` is whether the newest list is fetched first, over the network."""

    models: list[Asked]
    update: bool = False


class Told(msgspec.Struct, frozen=True):
    """A price: US dollars for a million tokens, as steps `(more input tokens than, usd)`, the first from -1."""

    input: list[tuple[int, float]]
    output: list[tuple[int, float]]
    cached_input: list[tuple[int, float]] | None = None
    cache_write: list[tuple[int, float]] | None = None
    request_usd: float = 0.0


def told(price: ModelPrice) -> Told | None:
    """A price of the library in our units; None where it is counted in units that an answer does not report."""
    keys = {key for key, value in vars(price).items() if value is not None}
    odd = {key for key in keys - _KNOWN if not any(kind in key for kind in _LEFT_OUT)}
    if odd or not {"input_mtok", "output_mtok"} & keys:
        return None
    return Told(
        _steps(price.input_mtok) or [(-1, 0.0)],
        _steps(price.output_mtok) or [(-1, 0.0)],
        _steps(price.cache_read_mtok),
        _steps(price.cache_write_mtok),
        float(price.requests_kcount or 0) / 1000,  # type: ignore[arg-type]  # no model has tiers of requests
    )


def _steps(price: Any) -> list[tuple[int, float]] | None:
    if price is None:
        return None
    if not hasattr(price, "tiers"):
        return [(-1, float(price))]
    return [(-1, float(price.base)), *((tier.start, float(tier.price)) for tier in price.tiers)]


def look_up(asked: Asked) -> Told | None:
    """The price as of now; None where it is not known."""
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    where = (asked.provider, None) if asked.provider else (None, asked.base_url)
    try:
        _, model = get_snapshot().find_provider_model(asked.model, None, *where)
        return told(model.get_prices(datetime.now(UTC)))
    except LookupError:
        return None


def main() -> None:
    """Answers one question."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    if question.update:
        _update()
    answer = [look_up(asked) for asked in question.models]
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _update() -> None:
    from genai_prices import UpdatePrices
    from genai_prices.data_snapshot import set_custom_snapshot

    try:
        set_custom_snapshot(UpdatePrices().fetch())
    except Exception as error:  # noqa: BLE001 whatever it is: the list that came with the library is there
        sys.stderr.write(f"the newest prices cannot be fetched, those of the installed library count: {error}\n")


if __name__ == "__main__":
    main()
