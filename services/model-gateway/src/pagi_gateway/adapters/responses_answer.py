"""Gathers an answer of OpenAI's Responses API: the events give the deltas, the last one the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.adapters.http_errors import decoded, error_in_answer, unreadable
from pagi_gateway.adapters.json_wire import TextInPieces, whole_characters
from pagi_gateway.adapters.responses_wire import decode_event, decode_response
from pagi_gateway.adapters.told_usage import told_usage
from pagi_gateway.domain.call_ids import OwnIds
from pagi_gateway.domain.content import GiveBack, Reasoning
from pagi_gateway.domain.errors import ProviderDownError
from pagi_gateway.domain.model import FinishReason, Plan, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.adapters.responses_wire import WireEvent, WireItem, WireResponse, WireUsage
    from pagi_gateway.domain.model import Delta

_EVENTS = "text/event-stream"
_LAST = {"response.completed", "response.incomplete", "response.failed"}
_UNFINISHED = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


class ResponsesAnswer:
    """Gathers one answer.

    Args:
        endpoint: Who answers.
        model: Who was asked.
        ids: Names the calls that come without one.
    """

    def __init__(self, endpoint: Endpoint, model: str, ids: Iterator[str]) -> None:
        self._endpoint = endpoint
        self._asked = self._model = model
        self._ids = ids
        self._response: WireResponse | None = None
        self._calls: dict[int, int] = {}
        self._texts: dict[tuple[str, int], TextInPieces] = {}

    @property
    def whole(self) -> bool:
        """Only the last event holds the answer."""
        return self._response is not None

    @property
    def last(self) -> bool:
        """Nothing follows the last event."""
        return self.whole

    def take(self, data: bytes) -> list[Delta]:
        """Takes an event in; kinds that are not known say nothing here."""
        if data == b"[DONE]":
            return []
        event = decoded(decode_event, data, self._endpoint, _EVENTS)
        if event.type in _LAST and event.response is not None:
            self._whole(event.response)
        elif event.type == "error":
            told = event.error or {"code": event.code, "message": event.message}
            raise error_in_answer(told, self._endpoint, self._model)
        elif event.type == "response.output_item.added" and event.item is not None:
            return self._begun(event.output_index, event.item)
        elif isinstance(event.delta, str) and event.delta:
            return self._delta(event, event.delta)
        return []

    def _begun(self, index: int, item: WireItem) -> list[Delta]:
        if item.type != "function_call":
            return []
        number = self._calls[index] = len(self._calls)
        begun = whole_characters(item.arguments or "")
        return [ToolCallDelta(number, item.call_id or item.id or "", item.name or "", begun)]

    def _delta(self, event: WireEvent, piece: str) -> list[Delta]:
        if not (piece := self._texts.setdefault((event.type, event.output_index), TextInPieces()).add(piece)):
            return []
        if event.type in {"response.output_text.delta", "response.refusal.delta"}:
            return [TextDelta(piece)]
        if event.type in {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}:
            return [ReasoningDelta(piece)]
        if event.type == "response.function_call_arguments.delta":
            number = self._calls.setdefault(event.output_index, len(self._calls))
            return [ToolCallDelta(number, arguments_json=piece)]
        return []

    def take_whole(self, body: bytes, content_type: str) -> None:
        """Takes the whole answer in."""
        response = decoded(decode_response, body, self._endpoint, content_type)
        if response.output is None and not response.error:
            raise unreadable(content_type, body, self._endpoint, "it has no output")
        self._whole(response)

    def _whole(self, response: WireResponse) -> None:
        if response.error:
            raise error_in_answer(response.error, self._endpoint, self._model)
        if response.status == "failed":
            raise ProviderDownError(f"{self._endpoint.place} failed without a reason")
        self._response = response

    def plan(self) -> Plan:
        """The whole answer."""
        response = self._response
        assert response is not None, "a stream that is not whole was refused before"
        items = response.output or []
        ids = OwnIds(self._ids)
        calls = tuple(
            ToolCall(ids.of(item.call_id or item.id), item.name or "", whole_characters(item.arguments or "{}"))
            for item in items
            if item.type == "function_call"
        )
        reason = (response.incomplete_details and response.incomplete_details.reason) or response.status or ""
        refused = any(part.refusal for item in items for part in item.content or ())
        return Plan(
            text="".join(_text(item) for item in items),
            tool_calls=calls,
            usage=_usage_of(response.usage),
            finish_reason=_finish_reason(reason, has_calls=bool(calls), refused=refused),
            finish_reason_raw=reason,
            model=response.model or self._model,
            provider=self._endpoint.provider,
            reasoning=tuple(_reasoning(items, self._endpoint.origin(self._asked))),
        )


def _text(item: WireItem) -> str:
    if item.type != "message":
        return ""
    return whole_characters("".join(part.text or part.refusal or "" for part in item.content or ()))


def _reasoning(items: Sequence[WireItem], origin: str) -> Iterator[Reasoning]:
    """What was thought, each with its place between texts and calls."""
    said = called = 0
    for item in items:
        if item.type == "message":
            said += len(_text(item))
        elif item.type == "function_call":
            called += 1
        elif item.type == "reasoning":
            sealed = bool(item.encrypted_content and item.id)
            yield Reasoning(
                whole_characters("\n\n".join(part.text for part in item.summary or () if part.text)),
                item.encrypted_content or "",
                item.id or "",
                origin=origin,
                # The summary is only for people.
                give_back=GiveBack.WITHOUT_TEXT if sealed else GiveBack.NOTHING,
                text_before=said,
                calls_before=called,
            )


def _usage_of(usage: WireUsage | None) -> Usage:
    if usage is None:
        return Usage()
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return told_usage(
        usage.input_tokens,
        usage.output_tokens,
        cached_input_tokens=read.cached_tokens if read else None,
        reasoning_tokens=written.reasoning_tokens if written else None,
    )


def _finish_reason(reason: str, *, has_calls: bool, refused: bool) -> FinishReason:
    if reason in _UNFINISHED:
        return _UNFINISHED[reason]
    if reason not in {"completed", ""}:
        return FinishReason.OTHER
    if refused:
        return FinishReason.CONTENT_FILTER
    return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
