"""Log lines, for machines and for people."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from pagi_chassis import correlation
from pagi_chassis.logs import set_up_logging


class Output:
    """Standard output of a process in a locale that is not UTF-8."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._bytes = io.BytesIO()

    def start(self, log_format: str, level: str = "info") -> None:
        # Only now: pytest puts a stream of its own in place between the phases of a test.
        stream = io.TextIOWrapper(self._bytes, encoding="ascii", write_through=True)
        self._monkeypatch.setattr(sys, "stdout", stream)
        set_up_logging("memory", level=level, log_format=log_format)

    def lines(self) -> list[str]:
        return self._bytes.getvalue().decode("utf-8").splitlines()


@pytest.fixture
def out(monkeypatch):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Output(monkeypatch)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_carries_ids_and_extras(out):
    out.start("json")
    with correlation.bind(trace_id="t-1", run_id="r-1", session_id="größe", tenant="acme"):
        logging.getLogger("pagi.test").info("ingested %d files", 3, extra={"files": 3, "place": {"x": (1, 2)}})
    [line] = out.lines()
    record = json.loads(line)
    assert record.pop("timestamp").endswith("+00:00")
    assert record == {
        "level": "info",
        "service": "memory",
        "logger": "pagi.test",
        "message": "ingested 3 files",
        "trace_id": "t-1",
        "run_id": "r-1",
        "session_id": "größe",
        "tenant": "acme",
        "files": 3,
        "place": {"x": [1, 2]},
    }


def test_an_extra_hides_no_member_but_may_name_another_id(out):
    out.start("json")
    with correlation.bind(trace_id="t-1"):
        logging.getLogger("x").info("m", extra={"level": "forged", "service": "forged", "trace_id": "t-2"})
    record = json.loads(out.lines()[0])
    assert (record["level"], record["service"], record["trace_id"]) == ("info", "memory", "t-2")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_cannot_be_written_is_shown_and_not_lost(out, log_format):
    out.start(log_format)
    logging.getLogger("x").info("half \ud800", extra={"thing": object})
    [line] = out.lines()
    assert "ud800" in line
    assert "<class 'object'>" in line


def test_an_exception_is_one_member_of_one_json_line(out):
    out.start("json")
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("x").exception("failed")
    [line] = out.lines()
    assert json.loads(line)["exception"].endswith("ValueError: the reason")


def test_a_console_line_is_one_line_whatever_is_in_it(out):
    out.start("console")
    with correlation.bind(trace_id="t-1"):
        logging.getLogger("x").warning("a\nb\r\x1b[31m", extra={"tool": "math\n"})
    [line] = out.lines()
    assert line.endswith(r"WARNING  x: a\nb\r\x1b[31m trace_id=t-1 tool=math\n")


def test_a_console_traceback_follows_its_line(out):
    out.start("console")
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert out.lines()[0].endswith("ERROR    x: failed")
    assert out.lines()[-1] == "ValueError: the reason"


def test_who_looks_closer_sees_our_own_lines_and_not_each_step_of_a_library(out):
    out.start("json", level="debug")
    logging.getLogger("x").debug("ours")
    logging.getLogger("grpc._cython.cygrpc").debug("Loaded running loop")
    logging.getLogger("watchfiles.main").info("3 changes detected")
    assert [json.loads(line)["message"] for line in out.lines()] == ["ours"]


def test_the_level_is_kept_and_libraries_are_quieter(out):
    out.start("json")
    logging.getLogger("x").debug("no")
    logging.getLogger("httpx").info("no")
    logging.getLogger("httpx").warning("yes")
    assert [json.loads(line)["message"] for line in out.lines()] == ["yes"]
