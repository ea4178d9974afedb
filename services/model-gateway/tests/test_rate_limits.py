"""What providers say of their limits, and what is made of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from pagi_gateway.adapters.http_rates import rate_report
from pagi_gateway.domain.rate_limits import Bucket, Left, RateReport, TargetLimits
from pagi_gateway.domain.routes import RateLimits

OPENAI = {
    "X-RateLimit-Limit-Requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}


@pytest.mark.parametrize(
    ("headers", "report"),
    [
        (OPENAI, RateReport(Left(59, 1, 60), Left(149984, 360, 150000))),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "17ms"}, RateReport(Left(0, 0.017))),
        (
            {"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "1h2m3.5s"},
            RateReport(None, Left(7, 3723.5)),
        ),
        ({"x-ratelimit-remaining-requests": "3"}, RateReport(Left(3, 1))),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "soon"}, RateReport(Left(3, 1))),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "12"}, RateReport(Left(3, 12))),
        ({"x-ratelimit-remaining-requests": "many"}, RateReport()),
        ({"x-ratelimit-remaining-requests": "-1"}, RateReport()),
        ({"x-ratelimit-remaining-requests": "1" * 400}, RateReport()),
        ({}, None),
        ({"Retry-After": "7"}, None),
    ],
)
def test_headers(headers: dict[str, str], report: RateReport | None) -> None:
    assert rate_report(CIMultiDict(headers)) == report


def test_anthropics_headers() -> None:
    at = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    report = rate_report(
        CIMultiDict(
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": at,
                "anthropic-ratelimit-tokens-limit": "40000",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": at,
            }
        )
    )
    assert report is not None
    assert report.requests is not None
    assert report.tokens is not None
    assert (report.requests.left, report.requests.limit, report.tokens.left) == (49, 50, 0)
    assert 28 < report.tokens.reset_s <= 30


@given(st.dictionaries(st.sampled_from(sorted(OPENAI)), st.text(max_size=20)))
def test_no_header_is_a_fault_of_ours(headers: dict[str, str]) -> None:
    rate_report(CIMultiDict(headers))


def test_a_bucket_fills_evenly_and_may_be_overdrawn() -> None:
    bucket = Bucket(10, 1.0, 10, now=0)
    assert bucket.wait_s(0, 10) == 0
    bucket.take(0, 10)
    assert bucket.wait_s(0, 1) == 1
    bucket.take(0, 5)
    assert bucket.wait_s(0, 1) == 6
    assert bucket.wait_s(0, 1000) == 15, "no longer than until it is full"
    assert bucket.wait_s(6, 1) == 0
    bucket.take(1000, -50)
    assert bucket.wait_s(1000, 10) == 0


def test_what_is_learned_holds_until_its_reset() -> None:
    limits = TargetLimits(RateLimits(), now=0)
    assert not limits.limited
    limits.learn(0, RateReport(Left(0, 60)))
    assert limits.wait_s(0, 0) == 60
    assert limits.wait_s(59, 0) == 1
    assert limits.wait_s(60, 0) == 0
    limits.learn(60, RateReport(Left(0, 60, 30)))
    assert limits.wait_s(60, 0) == pytest.approx(2), "30 in a minute are one in two seconds"
    limits.learn(61, RateReport(Left(29, 2, 30)))
    assert limits.wait_s(61, 0) == 0
    limits.learn(62, RateReport())
    assert limits.wait_s(62, 0) == 0, "who says nothing changes nothing"


@given(
    per_minute=st.sampled_from([0, 30]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["wait", "take", "learn"]),
            st.floats(0, 100),
            st.floats(0, 100),
            st.one_of(st.none(), st.floats(0, 100)),
        ),
        max_size=20,
    ),
)
def test_a_wait_is_finite_and_enough(per_minute: int, steps: list[tuple[str, float, float, float | None]]) -> None:
    now = 0.0
    limits = TargetLimits(RateLimits(requests_per_minute=per_minute, tokens_per_minute=per_minute * 10), now)
    for what, one, two, three in steps:
        if what == "wait":
            now += one
        elif what == "take":
            limits.take(now, one)
        else:
            limits.learn(now, RateReport(Left(one, two, three), Left(two, one, three)))
    wait = limits.wait_s(now, 7)
    assert 0 <= wait < math.inf
    assert limits.wait_s(now + wait + 1e-6, 7) <= 1e-3
