"""Says in a few lines what was said at length, without a model: the lines that say most of what there is to say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from pagi_memory.domain.model import Turn, TurnRole
from pagi_memory.domain.session import Digest
from pagi_memory.domain.words import query_words

# How much of one turn a line quotes (characters).
_QUOTED = {TurnRole.USER: 160, TurnRole.ASSISTANT: 240}
_MOST_TOOLS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
# Four bytes a token: English has about four characters a token in the common tokenizers, other scripts have fewer
# characters a token and more bytes a character.
BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Tokens of a text, by its length in UTF-8."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def condensed(previous: str, turns: Sequence[Turn], *, max_tokens: int) -> str:
    """One line for each run, after the lines of the summary so far; the least telling lines give way.

    Extractive, after SumBasic (Nenkova and Vanderwende, 2005): a line is worth the mean frequency of its words among
    all lines.

    Args:
        previous: The summary so far; may be another's work.
        turns: What it does not cover, oldest first.
        max_tokens: Size of the result, by `estimate_tokens`.
    """
    lines = [line for line in previous.splitlines() if line.strip()]
    lines += [_line(list(run)) for _, run in groupby(turns, key=lambda turn: turn.run_id)]
    left = max_tokens
    kept: set[int] = set()
    for place in _by_worth(lines):
        size = estimate_tokens(lines[place] + "\n")
        if size <= left:
            kept.add(place)
            left -= size
    return "\n".join(line for place, line in enumerate(lines) if place in kept)


def _line(run: Sequence[Turn]) -> str:
    parts = [f"- {run[0].created_at:%Y-%m-%d}"]
    for role, quoted in _QUOTED.items():
        if said := " ".join(_lead(turn.text, quoted) for turn in run if turn.role is role and turn.text.strip()):
            parts.append(f"{role.value}: {_lead(said, 2 * quoted)}")
    tools = dict.fromkeys(turn.text.split(maxsplit=1)[0] for turn in run if _names_a_tool(turn))
    if tools:
        parts.append(f"tools: {', '.join(_lead(tool, 40) for tool in list(tools)[:_MOST_TOOLS])}")
    return " | ".join(parts)


def _names_a_tool(turn: Turn) -> bool:
    return turn.role is TurnRole.TOOL_PLAN and bool(turn.text.strip())


def _lead(text: str, most: int) -> str:
    """How a text begins: whole sentences where one fits, else its first characters."""
    flat = " ".join(text[: 4 * most].split())
    if len(flat) <= most:
        return flat
    ends = [match.start() for match in _SENTENCE_END.finditer(flat[: most + 1])]
    return flat[: ends[-1]] if ends else f"{flat[: most - 1]}…"


def _by_worth(lines: Sequence[str]) -> list[int]:
    """Places of the lines, the most telling first, of equals the newest."""
    words = [query_words(line) for line in lines]
    counts = Counter(word for of_line in words for word in of_line)
    worths = [sum(counts[word] for word in of_line) / (len(of_line) or 1) for of_line in words]
    return sorted(range(len(lines)), key=lambda place: (-worths[place], -place))


class Extract:
    """`Summarizer` that needs nobody."""

    # A look and a transaction for each run would cost more than condensing a few on the spot.
    least_turns = 12

    async def summarize(self, previous: str, turns: Sequence[Turn], *, max_tokens: int, effect_id: str) -> Digest:
        """See `Summarizer.summarize`."""
        return Digest(condensed(previous, turns, max_tokens=max_tokens), "extract")
