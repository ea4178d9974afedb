"""The harness's own output: prefixed log lines, messages and a progress line that stays at the bottom."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 96, 93)
_NAME_WIDTH = len("notification-subscriber")


class Console:
    """Writes whole lines from many threads; coloured only on a terminal, and not where NO_COLOR is set.

    Args:
        stream: Where to.
        on_closed: Called once when nobody reads any more, e.g. after `| head`.
    """

    def __init__(self, stream: TextIO, on_closed: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._on_closed = on_closed
        self._terminal = stream.isatty()
        self._coloured = self._terminal and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}
        self._progress = ""
        self._open = True
        self._lock = threading.Lock()

    def log(self, service: str, line: str) -> None:
        """One line that a service wrote."""
        colour = self._colours.setdefault(service, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._write(f"{self._paint(f'{service:<{_NAME_WIDTH}} |', colour)} {line}")

    def say(self, text: str = "") -> None:
        """Something that the harness itself has to tell."""
        self._write(text)

    def warn(self, text: str) -> None:
        """Something that a person should see among the log lines."""
        self._write(self._paint(f"!! {text}", 31))

    def progress(self, text: str) -> None:
        """Replaces the line at the bottom, on a terminal only; empty takes it away."""
        if self._terminal and text != self._progress:
            with self._lock:
                self._put("\r\x1b[2K" + text)
                self._progress = text

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

    def _write(self, text: str) -> None:
        with self._lock:
            self._put(f"\r\x1b[2K{text}\n{self._progress}" if self._progress else f"{text}\n")

    def _put(self, text: str) -> None:
        if not self._open:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._open = False
            self._on_closed()
