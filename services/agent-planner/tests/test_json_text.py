"""What a model or a tool wrote as JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_planner.domain.json_text import MAX_DEPTH, parse
from pydantic_core import to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_is_json_is_read_as_it_is(value, ascii_only):
    assert parse(json.dumps(value, ensure_ascii=ascii_only)) == value


@given(st.text(alphabet=st.sampled_from('[]{}":,\\ud83DeE0.-1 \n') | st.characters()))
def test_whatever_comes_is_read_into_something_that_can_be_sent_on_or_refused(text):
    try:
        value = parse(text)
    except ValueError:
        return
    assert msgspec.json.decode(msgspec.json.encode(value)) == json.loads(to_json(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d"', "?"),
        (r'{"\uDC00":["a\ud83d\ude00b"]}', {"?": ["a😀b"]}),
        ("1" + "0" * 30, 10**30),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_large_numbers_stay(text, value):
    assert parse(text) == value


@pytest.mark.parametrize(("opens", "leaf", "closes"), [("[", "", "]"), ('{"a":', "1", "}"), ('[{"a":', "1", "}]")])
def test_nesting_is_bounded(opens, leaf, closes):
    levels = opens.count("[") + opens.count("{")
    most = MAX_DEPTH // levels
    parse(opens * most + leaf + closes * most)
    for times in (most + 1, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 100 levels"):
            parse(opens * times + leaf + closes * times)


def test_brackets_in_a_text_are_no_levels():
    assert parse(json.dumps("[{" * 1_000)) == "[{" * 1_000


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":-Infinity}', "", "{", "'a'", "9" * 5_000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)
