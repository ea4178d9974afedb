"""Reads a streamed answer: server-sent events, and the pieces of text and tool calls in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.openai_messages import arguments_of, calls_of, finish_reason_of, text_of, usage_of
from pagi_gateway.adapters.openai_wire import WireFunction, WireToolCall, whole_characters
from pagi_gateway.domain.model import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.adapters.openai_endpoint import Endpoint
    from pagi_gateway.adapters.openai_wire import WireAnswer, WireUsage


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


class StreamedAnswer:
    """Gathers the events of one answer."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint = endpoint
        self._model = model
        self._text: list[str] = []
        self._half = ""
        self._calls: list[WireToolCall] = []
        self._by_index: dict[int, WireToolCall] = {}
        self._usage: WireUsage | None = None
        self.finish_reason: str | None = None

    def add(self, event: WireAnswer) -> str:
        """Takes an event in and returns the text that it brings."""
        self._model = event.model or self._model
        self._usage = event.usage or self._usage
        if not event.choices:
            return ""
        choice = event.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        message = choice.delta or choice.message
        if message is None:
            return ""
        for piece in message.tool_calls or ():
            self._add_call(piece)
        text = self._half + text_of(message)
        # The first half of a surrogate pair waits for the other, which comes with the next event.
        cut = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
        text, self._half = whole_characters(text[:cut]), text[cut:]
        if text:
            self._text.append(text)
        return text

    def _add_call(self, piece: WireToolCall) -> None:
        call = self._call_of(piece)
        if call is None:
            self._calls.append(call := WireToolCall(id=piece.id, function=WireFunction(name="", arguments="")))
            if piece.index is not None:
                self._by_index[piece.index] = call
        assert call.function is not None
        call.id = call.id or piece.id
        if piece.function is not None:
            call.function.name = f"{call.function.name or ''}{piece.function.name or ''}"
            call.function.arguments = f"{call.function.arguments or ''}{arguments_of(piece)}"

    def _call_of(self, piece: WireToolCall) -> WireToolCall | None:
        """The call that a piece goes on with; None where it begins one."""
        if piece.index is None:
            return None if piece.id or not self._calls else self._calls[-1]
        call = self._by_index.get(piece.index)
        # Some servers number every whole call 0; another id is another call.
        return None if call and piece.id and call.id and piece.id != call.id else call

    def plan(self, ids: Iterator[str]) -> Plan:
        """The whole answer; `ids` names the calls that came without one."""
        return Plan(
            text="".join(self._text),
            tool_calls=calls_of(self._calls, ids),
            usage=usage_of(self._usage, self._endpoint),
            finish_reason=finish_reason_of(self.finish_reason, has_calls=bool(self._calls)),
            model=self._model,
            provider=self._endpoint.provider,
        )
