"""JSON that a model wrote almost right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_planner.domain.json_repair import repaired, value_in


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2,],}', {"a": [1, 2]}),
        ("{'a': 'it\\'s \"so\"'}", {"a": 'it\'s "so"'}),
        ("{a: 1, b_c: 'x'}", {"a": 1, "b_c": "x"}),
        ('{"a": True, "b": None, "c": False}', {"a": True, "b": None, "c": False}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Here you are: {"a": 1} Enjoy!', {"a": 1}),
        ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ('{"a": 1, // one\n "b": 2 /* two */}', {"a": 1, "b": 2}),
        ("{\u201ca\u201d: \u201cx\u201d}", {"a": "x"}),
        ('{"a": 1}}', {"a": 1}),
        ('{"path": "C:\\\\temp", \'b\': "\\u00e9"}', {"path": "C:\\temp", "b": "é"}),
    ],
)
def test_what_is_plain_is_mended(text, meant):
    assert json.loads(repaired(text, is_whole=True)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nothing",
        '{"a": ',
        '{"a": 1, ',
        '{"a": "cut of',
        '{"a": NaN}',
        '{"a": hello}',
        '{"a": 1]}',
        '{"a" 1}',
        "[1, 2,]",
        '{"a": 1 "b": 2}',
        "{" * 200,
        '{"a": ' + "9" * 5_000 + "}",
    ],
)
def test_what_would_have_to_be_guessed_is_not(text):
    assert repaired(text, is_whole=True) is None


def test_what_was_cut_off_is_not_closed():
    assert repaired('{"a": {"b": 1', is_whole=False) is None
    assert repaired('{"a": 1,}', is_whole=False) == '{"a": 1}'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_good_json_in_a_fence_keeps_its_meaning(value):
    text = json.dumps(value, ensure_ascii=False)
    if "```" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text):
        assert value_in(f"Sure!\n```json\n{text}\n```") == value


@given(st.text(alphabet="{}[]:,'\"abc 1\\\n`"))
def test_nothing_makes_it_fail(text):
    mended = repaired(text, is_whole=True)
    assert mended is None or isinstance(json.loads(mended), dict)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", [" ", "\n", "a", "{", "{'", "{/*", "```", "```{", "\\", "{'\\'"])
def test_a_long_answer_is_read_in_a_blink_whatever_it_holds(piece):
    for text in (piece * (200_000 // len(piece)), "```json\n" + piece * (200_000 // len(piece))):
        assert repaired(text, is_whole=True) in (None, "{}")
