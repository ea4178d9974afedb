from __future__ import annotations

import io

from dev_mesh.console import Console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_are_no_colours_and_no_progress_line():
    stream = io.StringIO()
    console = Console(stream)
    console.progress("waiting")
    console.log("memory", "a line")
    console.warn("look")
    assert stream.getvalue() == "memory                  | a line\n!! look\n"


def test_on_a_terminal_each_service_has_its_own_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    console = Console(stream)
    for name in ("memory", "sandbox", "memory"):
        console.log(name, "a line")
    first, second, third = stream.getvalue().splitlines()
    assert first == third
    assert first.startswith("\x1b[36mmemory")
    assert second.startswith("\x1b[33msandbox")


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Console(stream).log("memory", "a line")
    assert "\x1b" not in stream.getvalue()


def test_the_progress_line_stays_below_what_is_written():
    stream = Terminal()
    console = Console(stream)
    console.progress("waiting for memory")
    console.say("sandbox is ready")
    assert stream.getvalue().endswith("sandbox is ready\nwaiting for memory")


def test_a_reader_that_has_gone_is_noticed_once():
    stream = io.StringIO()
    closed = []
    console = Console(stream, on_closed=lambda: closed.append(True))
    stream.close()
    console.say("one")
    console.say("two")
    assert closed == [True]
