"""Finds arithmetic in a prompt, as a model would: "What is (100 + 50) * 2?" holds "(100 + 50) * 2".

Dates, telephone numbers, versions, ranges and lone numbers are not arithmetic. An expression whose only
operators are `-`, `/` or `%` ("10-12", "24/7") counts only where it is asked for: it is the whole prompt, or
stands between words such as "what is" and the end of the clause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

MOST_EXPRESSIONS = 8
_DEEPEST = 40

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<other>                                    # looks like a number, is none
          \d{4}-\d{1,2}-\d{1,2}(?!\d)               # 2025-01-31
        | \d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})(?!\d)  # 31/01/2025
        | \+?(?:\d{1,3}[-. ])?(?:\(\d{3}\)[-. ]?|\d{3}[-.])?\d{3}-\d{4}(?!\d)  # 555-123-4567, (555) 123-4567
        | \d+(?:\.\d+){2,}                          # 3.11.4, 192.168.0.1
        | \d+(?::\d+)+                              # 10:30
      )
    | (?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    | (?P<op>\*\*|//|[-+*/^%\u00d7\u00f7\u2212]
        | (?:plus|minus|times|multiplied\ by|divided\ by|percent)\b|x(?=\s))
    | (?P<paren>[()])
    | (?P<word>[^\W\d_][\w']*(?:-\w+)*)
    | (?P<rest>.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_WRITTEN = {
    "^": "**",
    "\u00d7": "*",
    "x": "*",
    "times": "*",
    "multiplied by": "*",
    "\u00f7": "/",
    "divided by": "/",
    "\u2212": "-",
    "minus": "-",
    "plus": "+",
    "percent": "%",
}
_WEAK = {"-", "/", "%"}
_ASKED = re.compile(
    r"(?:what(?:'s|\u2019s| is| are)|how much is|calculate|compute|evaluate|solve|work out"
    r"|(?:result|value) of|math|and|[:=])\s*$",
    re.IGNORECASE,
)
_MAY_TOUCH = frozenset("()=:,;?!.\"'`\u201c\u201d")
_CLAUSE_END = re.compile(r"\s*(?:$|[?!.,;:=]|and\b|then\b|please\b)", re.IGNORECASE)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    operator: str
    """In Python's spelling; empty where it is none."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression in Python's spelling (`^` becomes `**`), and where it stands in the prompt."""

    text: str
    at: int


def find_expressions(text: str) -> list[Expression]:
    """Returns the expressions in a prompt, in order, at most `MOST_EXPRESSIONS`. Any text is allowed."""
    tokens = _tokens(text)
    found: list[Expression] = []
    at = 0
    while at < len(tokens) and len(found) < MOST_EXPRESSIONS:
        if not _may_begin(tokens, at) or (end := (reading := _Reading(tokens, at)).sum(0)) is None:
            at += 1
            continue
        if reading.operators and _free_after(tokens, end) and _is_meant(text, tokens, at, end, reading):
            found.append(Expression(reading.written(), tokens[at].start))
        at = end
    return found


def _tokens(text: str) -> list[_Token]:
    return [
        _Token(
            match.lastgroup or "rest", match[0], *match.span(), _written(match[0]) if match.lastgroup == "op" else ""
        )
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "space"
    ]


def _written(operator: str) -> str:
    text = " ".join(operator.lower().split())
    return _WRITTEN.get(text, text)


def _may_begin(tokens: list[_Token], at: int) -> bool:
    """Whether nothing sticks to the start: "v2", "$5" and the inside of "sqrt(9 + 7)" are not counted."""
    if tokens[at].kind not in {"number", "paren", "op"}:
        return False
    if at == 0 or tokens[at - 1].end < tokens[at].start:
        return True
    return tokens[at - 1].text in _MAY_TOUCH - {"("}


def _free_after(tokens: list[_Token], end: int) -> bool:
    """Whether nothing sticks to the end: "2+3kg" is not counted."""
    if end >= len(tokens) or tokens[end - 1].end < tokens[end].start:
        return True
    return tokens[end].text in _MAY_TOUCH


def _is_meant(text: str, tokens: list[_Token], at: int, end: int, reading: _Reading) -> bool:
    if not set(reading.operators) <= _WEAK:
        return True
    rest = tokens[end : end + 4]
    if at == 0 and len(rest) < 4 and all(token.text in "=?.!" for token in rest):
        return True
    # The tail is enough for the words that ask, however long the prompt is.
    first, last = tokens[at].start, tokens[end - 1].end
    return bool(_ASKED.search(text[max(0, first - 40) : first]) and _CLAUSE_END.match(text, last))


class _Reading:
    """Reads one expression by recursive descent; each method returns where it ended, or None."""

    def __init__(self, tokens: list[_Token], start: int) -> None:
        self._tokens = tokens
        self._start = start
        self._end = start
        self._percents: set[int] = set()
        self.operators: list[str] = []

    def sum(self, depth: int, at: int | None = None) -> int | None:
        """A sum of products, as far as it goes."""
        at = self._product(self._start if at is None else at, depth)
        while at is not None and self._operator(at) in {"+", "-"}:
            mark = len(self.operators)
            self.operators.append(self._operator(at))
            right = self._product(at + 1, depth)
            if right is None:
                del self.operators[mark:]
                break
            at = right
        self._end = at or self._start
        return at

    def _product(self, at: int, depth: int) -> int | None:
        left = self._signed(at, depth)
        while left is not None and (operator := self._operator(left)) in {"*", "/", "//", "%"}:
            mark = len(self.operators)
            of = operator == "%" and self._is_of(left + 1)
            self.operators.append("% of" if of else operator)
            right = self._signed(left + (2 if of else 1), depth)
            if right is None:
                del self.operators[mark:]
                break
            if of:
                self._percents.add(left)
            left = right
        return left

    def _signed(self, at: int, depth: int) -> int | None:
        sign = at
        if self._operator(at) in {"+", "-"}:
            at += 1
        left = self._atom(at, depth)
        if left is None:
            return None
        if self._operator(left) == "**" and depth < _DEEPEST:
            mark = len(self.operators)
            self.operators.append("**")
            right = self._signed(left + 1, depth + 1)
            if right is None:
                del self.operators[mark:]
                return left
            return right
        return left if left > sign else None

    def _atom(self, at: int, depth: int) -> int | None:
        if at >= len(self._tokens) or depth >= _DEEPEST:
            return None
        token = self._tokens[at]
        if token.kind == "number":
            return at + 1
        if token.text != "(":
            return None
        end = self.sum(depth + 1, at + 1)
        closed = end is not None and end < len(self._tokens) and self._tokens[end].text == ")"
        return end + 1 if closed and end is not None else None

    def _operator(self, at: int) -> str:
        return self._tokens[at].operator if at < len(self._tokens) else ""

    def _is_of(self, at: int) -> bool:
        return at < len(self._tokens) and self._tokens[at].text.lower() == "of"

    def written(self) -> str:
        """The expression in Python's spelling, spaced as in the prompt."""
        parts: list[str] = []
        for at in range(self._start, self._end):
            token = self._tokens[at]
            if at > self._start and self._tokens[at - 1].end < token.start:
                parts.append(" ")
            if at in self._percents:
                parts.append("/ 100 *" if parts[-1:] == [" "] else " / 100 *")
            elif at - 1 in self._percents:
                parts.pop()
            elif token.kind == "op":
                parts.append(self._operator(at))
            else:
                parts.append(token.text.replace(",", ""))
        return "".join(parts)
