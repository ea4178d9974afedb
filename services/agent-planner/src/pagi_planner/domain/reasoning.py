"""What a model thought on the way to its tool calls, as far as its provider wants it back while they are answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of it, for the gateway and for nobody to read.

    Attributes:
        origin: Where it was made, in the gateway's words.
        text: Empty where the provider does not need it.
        signature: Proves the text, or carries it encrypted.
        id: The provider's name for it, or that of the call that it belongs to.
        redacted: The provider withheld the text.
        text_before: So many characters of the message's text came before it,
        calls_before: and so many of its calls.
    """

    origin: str
    text: str = ""
    signature: str = ""
    id: str = ""
    redacted: bool = False
    text_before: int = 0
    calls_before: int = 0


def reasoning_data(reasoning: Iterable[Reasoning]) -> list[dict[str, Any]]:
    """As the journal holds it: what says nothing is left out."""
    return [{name: value for name, value in asdict(each).items() if value} for each in reasoning]


def reasoning_of(data: Mapping[str, Any]) -> tuple[Reasoning, ...]:
    """The one in a PLAN_MODEL_RESPONSE; most have none."""
    held: Sequence[Mapping[str, Any]] = data.get("reasoning", ())
    return tuple([Reasoning(**{"origin": "", **each}) for each in held]) if held else ()
