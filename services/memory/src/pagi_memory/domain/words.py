"""The words of a query that are worth looking up."""

from __future__ import annotations

import re

# More words than this make a lexical search slow and no better.
MAX_WORDS = 64

_WORD = re.compile(r"\w+")

# Function words of English. They are in nearly every passage: they tell nothing, and cost more than half of
# the time of a lexical search (measured on SciFact: 7.8 of 13 ms).
STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren as at be because been before being below
    between both but by can cannot could couldn d did didn do does doesn doing don down during each few for from
    further had hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn
    it its itself just ll m me might mightn more most must mustn my myself no nor not now o of off on once only or
    other ought our ours ourselves out over own please re s same shan she should shouldn so some such t than that
    the their theirs them themselves then there these they this those through to too under until up ve very was
    wasn we were weren what when where which while who whom why will with won would wouldn you your yours yourself
    yourselves tell
    """.split()  # noqa: SIM905 - a list of words is read more easily than a list of strings
)


def query_words(query: str) -> list[str]:
    """The distinct words of a query in their order, lower case, without stop words; at most 64."""
    words = dict.fromkeys(word for word in _WORD.findall(query.casefold()) if word not in STOP_WORDS)
    return list(words)[:MAX_WORDS]
