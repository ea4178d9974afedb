"""Answers questions about the conversation itself from what the user said before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pagi_gateway.adapters.mock_words import content_words, sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT_US = re.compile(r"\b(?:i|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)
_QUESTION = re.compile(
    r"\?|\A\s*(?:what|who|whose|when|where|which|why|how|do|did|does|is|are|am|was|were|can|could|remind|tell|repeat)\b",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"\A\s*(?:(?:hi|hello)[,!. ]+)?(?:please\s+)?(?:remember|note that|my|i|i'm|i\u2019m|we|our)\b", re.IGNORECASE
)
_SPEECH = re.compile(r"\b(?:tell|told|say|said|ask|asked|mention|mentioned|write|wrote|talk|talked)\b", re.IGNORECASE)


def is_question(text: str) -> bool:
    """Whether a text asks something."""
    return bool(_QUESTION.search(text))


def is_about_conversation(text: str) -> bool:
    """Whether a question is about the people in the conversation ("What is my name?")."""
    return is_question(text) and bool(_ABOUT_US.search(text))


def is_statement(text: str) -> bool:
    """Whether a text tells something about the user ("My name is Ada.") and asks nothing."""
    return bool(_TELLS.match(text)) and not is_question(text)


def recall(question: str, earlier: Sequence[str]) -> str:
    """Answers from earlier user messages, the newest of equals first; empty where none fits.

    Args:
        question: What is asked now.
        earlier: The user's messages before it, oldest first.
    """
    told = [line for text in earlier for line in sentences(text) if not is_question(line)]
    wanted = content_words(question)
    if not wanted and _SPEECH.search(question):
        # "What did I tell you?" asks for all of it: the last things said.
        lines = told[-3:] or list(earlier[-1:])
        return _quote(lines)
    scored = [(len(content_words(line) & wanted), line) for line in told]
    best = max((score for score, _ in scored), default=0)
    if not best:
        return ""
    return _quote([next(line for score, line in reversed(scored) if score == best)])


def _quote(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return "You told me: " + " ".join(f"\u201c{line}\u201d" for line in lines)
