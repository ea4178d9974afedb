"""A model's reasoning on its way back to where it was made, in the place in which it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.domain.content import Reasoning
    from pagi_gateway.domain.model import Message, ToolCall


def own_reasoning(message: Message, origin: str) -> list[Reasoning]:
    """What was made there: nobody can use another's, and most refuse the whole request for it.

    Args:
        message: An assistant's.
        origin: Of those who are asked now.
    """
    return [each for each in message.reasoning if each.origin in {"", origin}]


def in_order(message: Message, reasoning: list[Reasoning]) -> Iterator[Reasoning | str | ToolCall]:
    """What an assistant's message says, in the order in which its model said it.

    Args:
        message: The message; its parts are texts.
        reasoning: Those of its reasonings that are given back.
    """
    text = text_of(message)
    said = called = 0
    for each in reasoning:
        # A caller may say anything.
        if piece := text[said : max(said, each.text_before)]:
            yield piece
            said += len(piece)
        before = max(called, each.calls_before)
        yield from message.tool_calls[called:before]
        called = before
        yield each
    if said < len(text):
        yield text[said:]
    yield from message.tool_calls[called:]


def text_of(message: Message) -> str:
    """The text of a message whose parts are texts."""
    return "".join([message.text, *(part.text for part in message.parts)]) if message.parts else message.text
