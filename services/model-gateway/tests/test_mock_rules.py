"""Which prompts make the mock call which tools."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_gateway.adapters.mock_arithmetic import find_expressions
from pagi_gateway.adapters.mock_rules import wanted_calls

ARITHMETIC = [
    ("What is (100 + 50) * 2?", ["(100 + 50) * 2"]),
    ("calculate 2^10 / 4", ["2**10 / 4"]),
    ("What is 12 % of 80?", ["12 / 100 * 80"]),
    ("12% of 50 + 3", ["12 / 100 * 50 + 3"]),
    ("12 percent of 50", ["12 / 100 * 50"]),
    ("2+2", ["2+2"]),
    ("10/4", ["10/4"]),
    ("what is 10/4?", ["10/4"]),
    ("What's 17 minus 4?", ["17 - 4"]),
    ("What is 10 divided by 4", ["10 / 4"]),
    ("What is 3 plus 4 times 2?", ["3 + 4 * 2"]),
    ("5 x 3", ["5 * 3"]),
    ("5 \u00d7 3 \u00f7 2", ["5 * 3 / 2"]),
    ("1,000 * 3.5", ["1000 * 3.5"]),
    ("compute -3 + 5", ["-3 + 5"]),
    ("What is 2**-1?", ["2**-1"]),
    ("What is 7 // 2 and 7 % 2?", ["7 // 2", "7 % 2"]),
    ("What is the result of 100 / 7.", ["100 / 7"]),
    ("I have 3 + 5 apples (that is 2 * 4).", ["3 + 5", "2 * 4"]),
]
NOT_ARITHMETIC = [
    "What happened on 2025-01-31?",
    "What is 2024-05-12?",
    "What is 31/01/2025?",
    "What is 31.01.2025?",
    "Call 555-123-4567 now",
    "What is (555) 123-4567?",
    "What is 555-1234?",
    "+1 555 123 4567",
    "7",
    "-5",
    "What is 42?",
    "20% of users",
    "pages 10-12",
    "open 24/7",
    "What is 24/7 support?",
    "Python 3.11.4 - 3.11.3",
    "192.168.0.1/24",
    "at 10:30 - 11:45",
    "GPT-4 + 3",
    "PROP-1 - 2",
    "C++ 11",
    "5kg + 3kg",
    "sqrt(9 + 7)",
    "((((",
    "5 * (1 + 2",
    "",
]


@pytest.mark.parametrize(("prompt", "expressions"), ARITHMETIC)
def test_arithmetic_is_found(prompt: str, expressions: list[str]) -> None:
    assert [each.text for each in find_expressions(prompt)] == expressions


@pytest.mark.parametrize("prompt", NOT_ARITHMETIC)
def test_dates_telephone_numbers_and_the_like_are_not_arithmetic(prompt: str) -> None:
    assert find_expressions(prompt) == []


@given(st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
    max_leaves=12,
))  # fmt: skip
def test_whatever_is_written_in_arithmetic_is_read_back_whole(expression: str) -> None:
    found = [each.text for each in find_expressions(f"What is {expression}?")]
    assert found == ([expression] if "(" in expression else [])


NOTE = {"action": "add", "proposal_id": "PROP-1", "note": "ok"}
RULES = [
    ("What is 2+2? note to PROP-1: ok", [("math", {"expression": "2+2"}), ("governance_note", NOTE)]),
    ("note to PROP-1: ok. What is 2+2?", [("governance_note", NOTE), ("math", {"expression": "2+2"})]),
    ("Please add a note to prop-1: ok", [("governance_note", NOTE)]),
    (
        "note to PROP-2025-001: reviewed, 2+2 looks good, please search the archive",
        [
            (
                "governance_note",
                {
                    "action": "add",
                    "proposal_id": "PROP-2025-001",
                    "note": "reviewed, 2+2 looks good, please search the archive",
                },
            )
        ],
    ),
    ("search for grpc keepalive settings", [("web_search", {"query": "grpc keepalive settings"})]),
    ("Search the web for cats and dogs. Thanks", [("web_search", {"query": "cats and dogs"})]),
    ("Can you search quantum computing?", [("web_search", {"query": "quantum computing"})]),
    ('search "the meaning of 6 * 7"', [("web_search", {"query": "the meaning of 6 * 7"})]),
    ("How does search work?", []),
    ("Search is important in libraries", []),
    ("search", []),
    ("note to PROP-1:", []),
    ("run python:", []),
    ("run python: print(1+1)\nprint('search for x')", [("python", {"code": "print(1+1)\nprint('search for x')"})]),
    (
        "run python:\n```python\nprint(3)\n```\nthen what is 2*3?",
        [("python", {"code": "print(3)"}), ("math", {"expression": "2*3"})],
    ),
    (
        "Calculate 3*4, then search for prime numbers and add a note to PROP-7: done",
        [
            ("math", {"expression": "3*4"}),
            ("web_search", {"query": "prime numbers"}),
            ("governance_note", {"action": "add", "proposal_id": "PROP-7", "note": "done"}),
        ],
    ),
    ("How long is the warranty?", []),
]


@pytest.mark.parametrize(("prompt", "calls"), RULES)
def test_a_prompt_asks_for_tools(prompt: str, calls: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.tool, each.arguments) for each in wanted_calls(prompt)] == calls


@given(st.text(max_size=200) | st.text(alphabet="0123456789+-*/%^(). x,:`'\nsearchnotPROP", max_size=400))
def test_no_prompt_breaks_the_rules(prompt: str) -> None:
    assert wanted_calls(prompt) == wanted_calls(prompt)


@pytest.mark.parametrize(
    "piece",
    ["(", "1-1 ", "1+(", "-", "search for ", "note to PROP-1: ", "what is 1/1 x ", "and ", "\n", " ", "1,000", "."],
)
def test_long_prompts_are_read_in_linear_time(piece: str) -> None:
    def cost(times: int) -> float:
        costs = []
        # The best of three: a busy machine makes any one of them longer.
        for _ in range(3):
            began = time.process_time()
            wanted_calls(piece * times)
            costs.append(time.process_time() - began)
        return min(costs)

    cost(100)
    # Four times the text may take ten times as long at most, a quadratic reading would take sixteen.
    assert cost(6_000) < 10 * max(cost(1_500), 0.01)
