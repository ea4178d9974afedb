"""Gathers an answer of OpenAI's chat completions API: the pieces of text, reasoning and tool calls in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.http_errors import decoded, error_in_answer, unreadable
from pagi_gateway.adapters.json_wire import TextInPieces
from pagi_gateway.adapters.openai_answer import CallInPieces, finish_reason_of, text_of, usage_of
from pagi_gateway.adapters.openai_reasoning import ChatReasoning
from pagi_gateway.adapters.openai_wire import decode_answer
from pagi_gateway.domain.call_ids import OwnIds
from pagi_gateway.domain.model import Plan, ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.adapters.openai_wire import WireAnswer, WireMessage, WireToolCall, WireUsage
    from pagi_gateway.domain.model import Delta

_EVENTS = "text/event-stream"


class ChatAnswer:
    """Gathers one answer, from its events or whole.

    Args:
        endpoint: Who answers.
        model: Who was asked.
        ids: Names the calls that come without one.
    """

    def __init__(self, endpoint: Endpoint, model: str, ids: Iterator[str]) -> None:
        self._endpoint = endpoint
        self._asked = self._model = model
        self._ids = OwnIds(ids)
        self._text = TextInPieces()
        self._reasoning = ChatReasoning()
        self._calls: list[CallInPieces] = []
        self._by_index: dict[int, CallInPieces] = {}
        self._usage: WireUsage | None = None
        self._finish_reason: str | None = None
        self._answered = False
        self.last = False

    @property
    def whole(self) -> bool:
        """Some servers send no [DONE]; without a finish reason too the answer was cut."""
        return self.last or self._finish_reason is not None

    def take(self, data: bytes) -> list[Delta]:
        """Takes an event in."""
        if data == b"[DONE]":
            self.last = True
            return []
        event = decoded(decode_answer, data, self._endpoint, _EVENTS)
        if event.error:
            raise error_in_answer(event.error, self._endpoint, self._model)
        return self._add(event)

    def take_whole(self, body: bytes, content_type: str) -> None:
        """Takes the whole answer in."""
        answer = decoded(decode_answer, body, self._endpoint, content_type)
        if answer.error:
            raise error_in_answer(answer.error, self._endpoint, self._model)
        if not answer.choices or answer.choices[0].message is None:
            raise unreadable(content_type, body, self._endpoint, "it has no choices")
        self._add(answer)

    def _add(self, event: WireAnswer) -> list[Delta]:
        self._model = event.model or self._model
        self._usage = event.usage or self._usage
        if not event.choices:
            return []
        choice = event.choices[0]
        self._finish_reason = choice.finish_reason or self._finish_reason
        message = choice.delta or choice.message
        if message is None:
            return []
        self._answered = True
        return self._deltas(message)

    def _deltas(self, message: WireMessage) -> list[Delta]:
        deltas: list[Delta] = []
        if thought := self._reasoning.add(message):
            deltas.append(ReasoningDelta(thought))
        if text := self._text.add(text_of(message)):
            deltas.append(TextDelta(text))
        deltas.extend(self._add_call(piece) for piece in message.tool_calls or ())
        return deltas

    def _add_call(self, piece: WireToolCall) -> ToolCallDelta:
        call = self._call_of(piece)
        if begins := call is None:
            # Numbered by us: servers leave numbers out or repeat them.
            call = CallInPieces(len(self._calls), self._ids.of(piece.id), piece.id or "")
            self._calls.append(call)
            if piece.index is not None:
                self._by_index[piece.index] = call
        assert call is not None
        name, arguments = call.add(piece)
        return ToolCallDelta(call.number, call.id if begins else "", name, arguments)

    def _call_of(self, piece: WireToolCall) -> CallInPieces | None:
        """The call that a piece goes on with; None where it begins one."""
        if piece.index is None:
            return None if piece.id or not self._calls else self._calls[-1]
        call = self._by_index.get(piece.index)
        # Some servers number every whole call 0; another id is another call.
        return None if call and piece.id and call.given_id not in {"", piece.id} else call

    def plan(self) -> Plan:
        """The whole answer.

        Raises:
            ProviderAnswerError: No event held a choice.
        """
        if not self._answered:
            raise unreadable(_EVENTS, b"", self._endpoint, "it has no choices")
        return Plan(
            text=self._text.whole(),
            tool_calls=tuple(call.whole() for call in self._calls),
            usage=usage_of(self._usage, self._endpoint),
            finish_reason=finish_reason_of(self._finish_reason, has_calls=bool(self._calls)),
            finish_reason_raw=self._finish_reason or "",
            model=self._model,
            provider=self._endpoint.provider,
            reasoning=tuple(self._reasoning.whole(self._calls, self._endpoint, self._asked)),
        )
