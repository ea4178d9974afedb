"""Server-sent events, cut out of a byte stream."""

from __future__ import annotations


class EventReader:
    """Cuts a byte stream into the data of its events (WHATWG HTML, 9.2.6), whatever the pieces it comes in."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Takes the next bytes and returns the data of each event that they complete."""
        searched = len(self._rest)
        self._rest += piece
        events: list[bytes] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, searched))) >= 0:
            self._line(bytes(self._rest[start:end]).removesuffix(b"\r"), events)
            start = end + 1
        del self._rest[:start]
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        elif line.startswith(b"data:"):
            # Comments, names and ids of events say nothing here.
            self._data.append(line[5:].removeprefix(b" "))
