"""Typing errors in `.env`, which no service would tell of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dev_mesh.slips import slips_in

EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text()


def slips(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    (tmp_path / ".env").write_text(text)
    return slips_in(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("LLM_PROVDER", "LLM_PROVIDER"),
        ("OPENAI_APIKEY", "OPENAI_API_KEY"),
        ("MAX_CONCURENT_REQUESTS", "MAX_CONCURRENT_REQUESTS"),
        ("llm_provider_", "LLM_PROVIDER"),
    ],
)
def test_a_name_that_is_nearly_one_is_asked_about(tmp_path, wrong, right):
    assert slips(tmp_path, f"{wrong}=x\n") == [f".env: no service reads {wrong}; is {right} meant?"]


def test_what_is_no_line_of_such_a_file_is_told_with_its_number(tmp_path):
    text = "LOG_LEVEL=info\n\n# a comment\nLLM_PROVIDER: openai\n"
    assert slips(tmp_path, text) == [".env, line 4: this is no NAME=value, and is passed over"]


def test_names_of_ours_their_aliases_and_those_of_others_are_passed_over(tmp_path):
    ours = "".join(f"{line}\n" for line in re.findall(r"^#([A-Z0-9_]+=.*)$", EXAMPLE, re.MULTILINE))
    others = "OPENAI_KEY_A=x\nPAGI_PUBLISH_HOST=0.0.0.0\nJAEGER_UI_PORT=1\nAWS_PROFILE=me\nRUST_SANDBOX_PORT=1\n"
    assert slips(tmp_path, f"{ours}export LOG_FORMAT=json\n{others}") == []


def test_without_such_a_file_there_is_nothing_to_say(tmp_path):
    assert slips_in(tmp_path) == []
