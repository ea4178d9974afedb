"""Makes the conversation of a run shorter before a model's window is full.

What goes first: the turns of earlier runs, oldest first; then the run's own exchanges, oldest first. An exchange is a
model's message with the results of all its tool calls: it goes whole or stays whole. The system message, the request
and the newest exchange stay. A summary takes the place of what goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pagi_planner.domain.context.conversation import PASSAGES, Compacted, Conversation
from pagi_planner.domain.context.tokens import Family
from pagi_planner.domain.model import Message, Role

# So much of what may be filled is left after a compaction: the next one shall not come with the next call.
FILLED_AFTER = 0.6
# Of what may be left, so much may be summary.
SUMMARY_SHARE = 0.15
# Characters of one message in an extract, at most and at least; its beginning says most.
EXTRACT_CHARACTERS = 240
LEAST_CHARACTERS = 60
# A tool result that is still too long is cut to so many characters.
CUT_CHARACTERS = 1_500
PASSAGES_LEFT_OUT = "\n\n(The passages were left out, since the conversation had no room for them.)"


@dataclass(frozen=True, slots=True)
class Shortening:
    """What is to go.

    Attributes:
        removed: As in `Compacted`.
        messages: Those that are removed, for the summary.
        cut: As in `Compacted`.
    """

    removed: tuple[tuple[int, int], ...]
    messages: tuple[Message, ...]
    cut: dict[int, str]


def shorten(talk: Conversation, family: Family, target: int, *, strong: bool) -> Shortening | None:
    """Chooses what goes, so that the messages have no more tokens than the target; None where nothing can.

    Args:
        talk: The conversation.
        family: How tokens are counted.
        target: What may be left (tokens, by our estimate, the summary not counted).
        strong: Cut also what stays: long tool results, then the passages of the system message.
    """
    sizes = talk.sizes(family)
    left = sum(sizes)
    removed: list[tuple[int, int]] = []
    for begin, end in _blocks(talk):
        if left <= target:
            break
        removed.append((begin, end))
        left -= sum(sizes[begin:end])
    gone = {place for begin, end in removed for place in range(begin, end)}
    cut: dict[int, str] = {}
    if strong:
        for place, text in _cuts(talk.messages):
            if left > target and place not in gone:
                cut[place] = text
                left -= sizes[place] - family.tokens(text)
    if not removed and not cut:
        return None
    return Shortening(_joined(removed), tuple(talk.messages[place] for place in sorted(gone)), cut)


def extract(before: str, messages: Sequence[Message], family: Family, most_tokens: int) -> str:
    """A summary that needs no model: how each message begins, the newest of them as far as there is room.

    Args:
        before: The summary so far.
        messages: What is to be summarised.
        family: How tokens are counted.
        most_tokens: What the summary may have.
    """
    # Shorter each, where many have to share the room.
    most = max(LEAST_CHARACTERS, min(EXTRACT_CHARACTERS, most_tokens * 4 // (len(messages) + 1)))
    lines = [*before.splitlines(), *(line for message in messages if (line := _line(message, most)))]
    kept: list[str] = []
    room = most_tokens
    for line in reversed(lines):
        room -= family.tokens(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def compacted(shortening: Shortening, summary: str) -> Compacted:
    """The whole of it, with the summary."""
    return Compacted(shortening.removed, shortening.cut, summary)


def head_and_tail(text: str, most: int, between: str) -> str:
    """How a long text begins and ends."""
    half = most // 2
    return f"{text[:half]} … {between} … {text[-half:]}"


def _blocks(talk: Conversation) -> list[tuple[int, int]]:
    """What may go, in the order in which it goes: turns of earlier runs, then exchanges, the newest left out."""
    messages, request_at = talk.messages, talk.request_at
    first = 1 if messages and messages[0].role is Role.SYSTEM else 0
    earlier = [(place, place + 1) for place in range(first, request_at)]
    starts = [place for place in range(request_at + 1, len(messages)) if messages[place].role is not Role.TOOL]
    exchanges = list(pairwise([*starts, len(messages)]))
    return earlier + exchanges[:-1]


def _cuts(messages: Sequence[Message]) -> list[tuple[int, str]]:
    """What may be cut, and to what: tool results, then the passages."""
    results = [
        (place, head_and_tail(each.text, CUT_CHARACTERS, f"{len(each.text) - CUT_CHARACTERS} characters left out"))
        for place, each in enumerate(messages)
        if each.role is Role.TOOL and len(each.text) > 2 * CUT_CHARACTERS
    ]
    system = messages[0] if messages and messages[0].role is Role.SYSTEM else None
    if system and PASSAGES in system.text:
        results.append((0, system.text.partition(PASSAGES)[0] + PASSAGES_LEFT_OUT))
    return results


def _joined(removed: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The ranges in order, neighbours as one."""
    ranges: list[tuple[int, int]] = []
    for begin, end in sorted(removed):
        if ranges and ranges[-1][1] == begin:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((begin, end))
    return tuple(ranges)


def _line(message: Message, most: int) -> str:
    calls = "; ".join(f"called {call.name} {_start(call.arguments_json, most)}" for call in message.tool_calls)
    said = " — ".join(part for part in (_start(message.text, most), calls) if part)
    return f"- {message.role}: {said}" if said else ""


def _start(text: str, most: int) -> str:
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
