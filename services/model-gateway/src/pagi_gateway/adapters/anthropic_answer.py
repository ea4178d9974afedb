"""Gathers an answer of Anthropic's Messages API, from its events or whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.anthropic_wire import WireBlock, WireUsage, decode_answer, decode_event
from pagi_gateway.adapters.http_errors import decoded, error_in_answer, unreadable
from pagi_gateway.adapters.json_wire import TextInPieces, encode
from pagi_gateway.adapters.told_usage import told_usage
from pagi_gateway.domain.call_ids import OwnIds
from pagi_gateway.domain.content import GiveBack, Reasoning
from pagi_gateway.domain.model import FinishReason, Plan, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagi_gateway.adapters.anthropic_wire import WireDelta, WireEvent
    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.domain.model import Delta

_EVENTS = "text/event-stream"
_THOUGHTS = {"thinking", "redacted_thinking"}
_FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}


class MessagesAnswer:
    """Gathers one answer.

    Args:
        endpoint: Who answers.
        model: Who was asked.
        ids: Names the calls that come without one.
    """

    def __init__(self, endpoint: Endpoint, model: str, ids: Iterator[str]) -> None:
        self._endpoint = endpoint
        self._asked = self._model = model
        self._ids = OwnIds(ids)
        self._called = 0
        self._blocks: dict[int, _Block] = {}
        self._usage = WireUsage()
        self._stop_reason: str | None = None
        self._begun = False
        self.last = False

    @property
    def whole(self) -> bool:
        """Without its stop reason the answer was cut."""
        return self.last or self._stop_reason is not None

    def take(self, data: bytes) -> list[Delta]:
        """Takes an event in; kinds of events that are not known say nothing here, as the reference asks."""
        event = decoded(decode_event, data, self._endpoint, _EVENTS)
        if event.type == "error":
            raise error_in_answer(event.error, self._endpoint, self._model)
        if event.type == "content_block_delta" and event.delta is not None:
            return self._block(event.index).grow(event.delta)
        if event.type == "content_block_start" and event.content_block is not None:
            return self._start(event.index, event.content_block)
        self._note(event)
        return []

    def _note(self, event: WireEvent) -> None:
        if event.type == "message_start" and event.message is not None:
            self._begun = True
            self._model = event.message.model or self._model
            self._use(event.message.usage)
        elif event.type == "message_delta":
            self._use(event.usage)
            if event.delta is not None:
                self._stop_reason = event.delta.stop_reason or self._stop_reason
        elif event.type == "message_stop":
            self.last = True

    def take_whole(self, body: bytes, content_type: str) -> None:
        """Takes the whole answer in."""
        answer = decoded(decode_answer, body, self._endpoint, content_type)
        if answer.error:
            raise error_in_answer(answer.error, self._endpoint, self._model)
        if answer.content is None:
            raise unreadable(content_type, body, self._endpoint, "it has no content")
        self._begun = True
        self._model = answer.model or self._model
        self._stop_reason = answer.stop_reason
        self._use(answer.usage)
        for index, block in enumerate(answer.content):
            self._start(index, block)

    def _use(self, usage: WireUsage | None) -> None:
        """Takes the numbers that are there: the later ones are totals."""
        if usage is None:
            return
        for name in usage.__struct_fields__:
            if (value := getattr(usage, name)) is not None:
                setattr(self._usage, name, value)

    def _block(self, index: int) -> _Block:
        if index not in self._blocks:
            self._blocks[index] = _Block(self._called)
        return self._blocks[index]

    def _start(self, index: int, wire: WireBlock) -> list[Delta]:
        block = self._blocks[index] = _Block(self._called)
        self._called += wire.type == "tool_use"
        return block.start(wire, self._ids)

    def _calls(self) -> list[_Block]:
        return [block for block in self._blocks.values() if block.kind == "tool_use"]

    def plan(self) -> Plan:
        """The whole answer.

        Raises:
            ProviderAnswerError: The stream held no message.
        """
        if not self._begun:
            raise unreadable(_EVENTS, b"", self._endpoint, "it has no message")
        calls = tuple(ToolCall(block.id, block.name, block.arguments() or "{}") for block in self._calls())
        return Plan(
            text="".join(block.joined() for block in self._blocks.values() if block.kind == "text"),
            tool_calls=calls,
            usage=_usage_of(self._usage),
            finish_reason=_finish_reason_of(self._stop_reason, has_calls=bool(calls)),
            finish_reason_raw=self._stop_reason or "",
            model=self._model,
            provider=self._endpoint.provider,
            reasoning=tuple(self._reasoning()),
        )

    def _reasoning(self) -> Iterator[Reasoning]:
        """What was thought, each with its place between texts and calls."""
        if not any(block.kind in _THOUGHTS for block in self._blocks.values()):
            return
        origin = self._endpoint.origin(self._asked)
        said = called = 0
        for block in self._blocks.values():
            if block.kind == "text":
                said += len(block.joined())
            elif block.kind == "tool_use":
                called += 1
            elif block.kind in _THOUGHTS:
                yield Reasoning(
                    block.joined(),
                    block.signature,
                    redacted=block.kind != "thinking",
                    origin=origin,
                    # The signature is one over the text.
                    give_back=GiveBack.WHOLE if block.signature else GiveBack.NOTHING,
                    text_before=said,
                    calls_before=called,
                )


class _Block:
    """One block of content in the making; `number` counts the tool calls before it."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._text = TextInPieces()
        self._input = ""
        self.kind = ""
        self.id = ""
        self.name = ""
        self._signature: list[str] = []

    def start(self, wire: WireBlock, ids: OwnIds) -> list[Delta]:
        self.kind = wire.type
        if wire.type == "tool_use":
            self.id, self.name = ids.of(wire.id), wire.name or ""
            # A stream begins with an empty input and sends it in pieces.
            self._input = encode(wire.input).decode() if wire.input else ""
            return [ToolCallDelta(self._number, self.id, self.name, self._input)]
        self._signature = [wire.signature or wire.data or ""]
        return self._grown(wire.thinking or wire.text or "")

    def grow(self, delta: WireDelta) -> list[Delta]:
        if delta.type == "input_json_delta":
            piece = self._text.add(delta.partial_json or "")
            return [ToolCallDelta(self._number, arguments_json=piece)] if piece else []
        if delta.signature:
            self._signature.append(delta.signature)
        if not self.kind:
            self.kind = "thinking" if delta.type == "thinking_delta" else "text"
        return self._grown(delta.thinking or delta.text or "")

    def _grown(self, piece: str) -> list[Delta]:
        if not (piece := self._text.add(piece)):
            return []
        if self.kind == "text":
            return [TextDelta(piece)]
        return [ReasoningDelta(piece)] if self.kind == "thinking" else []

    @property
    def signature(self) -> str:
        return "".join(self._signature)

    def joined(self) -> str:
        return self._text.whole()

    def arguments(self) -> str:
        """The input as the model wrote it."""
        return self.joined() or self._input


def _usage_of(usage: WireUsage) -> Usage:
    if usage.input_tokens is None and usage.output_tokens is None:
        return Usage()
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return told_usage(
        (usage.input_tokens or 0) + read + written,
        usage.output_tokens,
        cached_input_tokens=read,
        cache_write_tokens=written,
    )


def _finish_reason_of(reason: str | None, *, has_calls: bool) -> FinishReason:
    if reason is None:
        return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)
