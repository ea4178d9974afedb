"""The ids of the work in progress."""

from __future__ import annotations

import asyncio
import string

from hypothesis import given
from hypothesis import strategies as st
from pagi_chassis import correlation
from pagi_chassis.correlation import Correlation

HEADER = set(string.printable) - set("\t\n\r\x0b\x0c")


# Any text, and text that is likely to be mistaken for something encoded or to be trimmed.
texts = st.text() | st.text(alphabet="a4 %é\n\0", max_size=4) | st.sampled_from(["%41", "100%", " a", "a "])


@given(st.builds(Correlation, texts, texts, texts, texts))
def test_any_text_travels_as_a_header_and_comes_back(ids):
    with correlation.bind(**ids._asdict()):
        metadata = correlation.to_metadata()
    for key, value in metadata:
        assert key == key.lower()
        assert set(value) <= HEADER
        assert value == value.strip(), "spaces at the ends are lost on the way"
    assert correlation.from_metadata(dict(metadata)) == ids


def test_only_what_is_there_travels():
    assert correlation.to_metadata() == ()
    with correlation.bind(run_id="r"):
        assert correlation.to_metadata() == (("x-run-id", "r"),)


def test_foreign_metadata_does_no_harm():
    foreign = {"user-agent": "x", "x-run-id": "%ff%zz%", "x-tenant": b"a\xff", "x-trace-id-bin": b"\0"}
    ids = correlation.from_metadata(foreign)
    assert (ids.trace_id, ids.session_id) == ("", "")
    assert ids.run_id


def test_half_a_surrogate_pair_does_no_harm():
    with correlation.bind(session_id="a\ud800"):
        assert correlation.to_metadata() == (("x-session-id", "a%3F"),)


def test_a_block_adds_to_what_is_bound_and_leaves_it_as_it_was():
    with correlation.bind(trace_id="t"), correlation.bind(run_id="r"):
        assert correlation.current() == Correlation("t", "r")
        assert correlation.current().filled() == {"trace_id": "t", "run_id": "r"}
    assert correlation.current() == Correlation()


async def test_tasks_have_their_own():
    async def work(name):
        correlation.adopt(Correlation(run_id=name))
        await asyncio.sleep(0)
        return correlation.current().run_id

    assert await asyncio.gather(work("a"), work("b")) == ["a", "b"]
    assert correlation.current() == Correlation()
