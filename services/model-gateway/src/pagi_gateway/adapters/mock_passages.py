"""Reads the passages that the planner writes into the system message, and answers from them.

A passage is `<passage source="Domain-KB/file.md" heading="A > B">text</passage>`, its values escaped as in XML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from html import unescape

from pagi_gateway.adapters.mock_words import content_words, sentences

_OPEN = re.compile(r"""<passage((?:\s+[\w-]{1,40}=(?:"[^"<]*"|'[^'<]*'))*)\s*>""")
# XML allows either quote; a value that holds one is written in the other.
_ATTRIBUTE = re.compile(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)')""")
_CLOSE = "</passage>"
# A passage answers a question only where it holds at least this part of its content words.
_LEAST_SHARE = 0.3
_MOST_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of knowledge and where it comes from."""

    source: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A sentence and how well it fits; candidates sort best first, then in the order of the prompt."""

    score: int
    passage: int
    sentence: int
    text: str


def passages_in(text: str) -> list[Passage]:
    """Returns the passages of a system message in its order; what is not one is skipped."""
    found: list[Passage] = []
    at = 0
    while match := _OPEN.search(text, at):
        end = text.find(_CLOSE, match.end())
        if end < 0:
            break
        attributes = {name: unescape(double or single) for name, double, single in _ATTRIBUTE.findall(match.group(1))}
        body = unescape(text[match.end() : end]).strip()
        found.append(Passage(attributes.get("source", ""), attributes.get("heading", ""), body))
        at = end + len(_CLOSE)
    return found


def answer_from(question: str, passages: list[Passage]) -> str:
    """The sentences that share most with the question, then their sources; empty where none fits."""
    wanted = content_words(question)
    if not wanted:
        return ""
    candidates = sorted(
        (each for index, passage in enumerate(passages) for each in _candidates(wanted, passage, index)),
        key=lambda each: (-each.score, each.passage, each.sentence),
    )
    if not candidates:
        return ""
    # Only what fits as well as the best, or nearly: the rest would answer another question.
    best = [each for each in candidates if 4 * each.score >= 3 * candidates[0].score][:_MOST_SENTENCES]
    chosen = {(each.passage, each.sentence): each.text for each in best}
    if len(best) == 1 and (after := _after(best[0], passages)):
        # A lone sentence is often explained by the next one.
        chosen[best[0].passage, best[0].sentence + 1] = after
    sources = dict.fromkeys(passages[index].source for index, _ in sorted(chosen))
    named = ", ".join(source for source in sources if source)
    text = " ".join(dict.fromkeys(text for _, text in sorted(chosen.items())))
    return f"{text}\n\nSource: {named}" if named else text


def _after(candidate: _Candidate, passages: list[Passage]) -> str:
    rest = _analysed(passages[candidate.passage])[0][candidate.sentence + 1 :]
    return rest[0] if rest else ""


# The same passages are retrieved again and again; taking one apart costs more than all the rest.
@lru_cache(maxsize=512)
def _analysed(passage: Passage) -> tuple[list[str], list[frozenset[str]], frozenset[str]]:
    """The sentences of a passage, the content words of each, and those of its heading."""
    lines = sentences(passage.text)
    return lines, [content_words(line) for line in lines], content_words(passage.heading)


def _candidates(wanted: frozenset[str], passage: Passage, index: int) -> list[_Candidate]:
    lines, words, title = _analysed(passage)
    heading = title & wanted
    shared = heading.union(*words) & wanted
    if not shared or len(shared) < _LEAST_SHARE * len(wanted):
        return []
    # A word in the sentence itself weighs most, one in its heading or elsewhere in the passage less.
    context = len(shared)
    return [
        _Candidate(3 * len(own & wanted) + len(heading - own) + context, index, number, line)
        for number, (line, own) in enumerate(zip(lines, words, strict=True))
        if own & wanted or heading
    ]
