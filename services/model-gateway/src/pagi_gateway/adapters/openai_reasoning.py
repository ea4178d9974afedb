"""Reasoning in OpenAI's chat messages: each server has a place of its own for it, and its own wish to have it back.

Sources: DeepSeek's guide to its thinking mode, Google's page on thought signatures, OpenRouter's on reasoning tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from pagi_gateway.adapters.json_wire import TextInPieces, encode, mended, whole_characters
from pagi_gateway.domain.content import GiveBack, Reasoning
from pagi_gateway.domain.reasoning import own_reasoning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pagi_gateway.adapters.http_endpoint import Endpoint
    from pagi_gateway.adapters.openai_answer import CallInPieces
    from pagi_gateway.adapters.openai_wire import WireMessage
    from pagi_gateway.domain.model import Message

# Other servers' models that want their thoughts back as DeepSeek's do, by their makers' guides.
_WANT_THOUGHTS = re.compile(r"deepseek|kimi", re.IGNORECASE)
# The models of Google that take calls without a signature.
_UNSIGNED = re.compile(r"(?:models/)?gemini-[12]\b")
# Google's word for a call that another model made.
_NOT_GEMINIS = "skip_thought_signature_validator"
# They refuse calls that come without any, as another model's do.
_MISS_IT = {"deepseek", "google"}
# The pieces of one detail in a stream are joined by these; other kinds come whole.
_JOINED = {"reasoning.text": "text", "reasoning.summary": "summary"}
_decode_details = msgspec.json.Decoder(list[dict[str, Any]]).decode


class ChatReasoning:
    """Gathers the reasoning of one answer, from its deltas or whole."""

    def __init__(self) -> None:
        self._text = TextInPieces()
        self._details: list[dict[str, Any]] = []
        # The pieces of the last detail's text: joined when it is whole.
        self._pieces: list[str] = []

    def add(self, message: WireMessage) -> str:
        """Takes a message or delta in; returns what there is to be shown of it."""
        for detail in message.reasoning_details or ():
            self._add_detail(detail)
        said = message.reasoning if isinstance(message.reasoning, str) else ""
        return self._text.add(message.reasoning_content or said or "")

    def _add_detail(self, detail: dict[str, Any]) -> None:
        last = self._details[-1] if self._details else {}
        kind = detail.get("type")
        name = _JOINED.get(kind) if isinstance(kind, str) else None
        if name is None:
            self._close_detail()
            self._details.append(mended(detail, foreign=True))
            return
        if kind != last.get("type") or detail.get("index") != last.get("index"):
            self._close_detail()
            self._details.append(last := dict(detail))
        else:
            # A signature comes with the last piece.
            last |= {key: value for key, value in detail.items() if value is not None}
        if isinstance(piece := detail.get(name), str):
            self._pieces.append(piece)

    def _close_detail(self) -> None:
        if self._pieces:
            last = self._details[-1]
            last[_JOINED[last["type"]]] = whole_characters("".join(self._pieces))
            self._pieces.clear()

    def whole(self, calls: Sequence[CallInPieces], endpoint: Endpoint, model: str) -> Iterator[Reasoning]:
        """What was thought, and what of it is wanted back."""
        text = self._text.whole()
        self._close_detail()
        if text or self._details:
            details = encode(self._details).decode() if self._details else ""
            back = GiveBack.WITHOUT_TEXT if details else GiveBack.NOTHING
            if not details and _wants_thoughts(endpoint, model):
                back = GiveBack.WHOLE
            yield Reasoning(text, details, origin=endpoint.origin(model), give_back=back)
        for place, call in enumerate(calls):
            if call.signature:
                yield Reasoning(
                    signature=call.signature,
                    id=call.id,
                    origin=endpoint.origin(model),
                    give_back=GiveBack.WITHOUT_TEXT,
                    calls_before=place,
                )


def give_back(message: Message, written: dict[str, Any], endpoint: Endpoint, model: str) -> None:
    """Writes the reasoning of a tool loop into the messages that make it: elsewhere nobody wants it.

    Args:
        message: It calls tools, or answers after some were called.
        written: The same as JSON.
        endpoint: Who is asked,
        model: and which of its models.
    """
    if not message.reasoning and endpoint.provider not in _MISS_IT:
        return
    own = own_reasoning(message, endpoint.origin(model))
    if _wants_thoughts(endpoint, model):
        thought = "".join(each.text for each in own)
        if thought or endpoint.provider == "deepseek":
            # An empty one is as none to some of its models.
            written["reasoning_content"] = thought or " "
    if message.tool_calls:
        _sign(written["tool_calls"], own, endpoint, model)
    for each in own:
        if details := _details_of(each):
            written["reasoning_details"] = details


def _wants_thoughts(endpoint: Endpoint, model: str) -> bool:
    return endpoint.provider == "deepseek" or (endpoint.compatible and _WANT_THOUGHTS.search(model) is not None)


def _sign(calls: list[dict[str, Any]], own: Sequence[Reasoning], endpoint: Endpoint, model: str) -> None:
    """Puts each signature to its call. The newer Geminis refuse a turn whose first call has none."""
    # By their places: a caller may have given the calls other ids.
    sealed = [each for each in own if each.id and each.signature and each.origin]
    signed = [(calls[each.calls_before], each.signature) for each in sealed if 0 <= each.calls_before < len(calls)]
    if not signed and endpoint.provider == "google" and not _UNSIGNED.match(model):
        signed = [(calls[0], _NOT_GEMINIS)]
    for call, signature in signed:
        call["extra_content"] = {"google": {"thought_signature": signature}}


def _details_of(each: Reasoning) -> list[dict[str, Any]]:
    """OpenRouter's details as they came; none where a reasoning holds something else."""
    if each.id or not each.signature:
        return []
    try:
        return _decode_details(each.signature)
    except msgspec.DecodeError:
        return []
