"""What the mock compares texts by: content words, cut to their stems, and sentences."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST_REMEMBERED = 8_000
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[^\n.!?]*(?:[.!?](?!\s|$)[^\n.!?]*)*[.!?]*")
_MARKDOWN = re.compile(r"^[\s>#*+|-]+|\*+|[\s|]+$")
_SUFFIXES = ("ations", "ation", "ings", "ing", "edly", "ed", "ly", "es", "s", "e")
# Words that carry no subject; the mock would otherwise find every sentence related to every question.
_STOP_WORDS = """
    a about after again all also am an and any are as at be because been before being both but by can could
    did do does doing done down each few for from had has have having he her here hers him his how i if in into
    is it its just let like ll m many may me might mine more most much must my no nor not of off on once only or
    other our ours out over own please re s same shall she should so some such t tell than that the their theirs
    them then there these they this those through to too under until up us ve very was we were what when where
    which while who whom whose why will with would you your yours
    answer ask call called does explain give know mean question remember remind said say show
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """Cuts an English ending off, so that "charging", "charges" and "charge" are one."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls" else word


def content_words(text: str) -> frozenset[str]:
    """The stems of the words that carry a subject."""
    return frozenset(stem(word) for word in _WORD.findall(text.casefold()) if word not in STOP_WORDS)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without Markdown's marks; a line never continues a sentence."""
    found = (_MARKDOWN.sub("", match.group()).strip() for match in _SENTENCE.finditer(text))
    return [sentence for sentence in found if _WORD.search(sentence)]


def count_words(text: str) -> int:
    """Words between white space: the mock's tokens."""
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else len(text.split())


# A persona comes again with each model call of a run.
@lru_cache(maxsize=128)
def _remembered(text: str) -> int:
    return len(text.split())
