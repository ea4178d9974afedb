"""The offline model: reads a conversation as a model does and answers by rules, always the same way.

Its tokens are words between white space, counted over the whole conversation; its price is 0.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pagi_gateway.adapters.mock_passages import answer_from, passages_in
from pagi_gateway.adapters.mock_recall import is_about_conversation, is_statement, recall
from pagi_gateway.adapters.mock_results import answer_from_results
from pagi_gateway.adapters.mock_rules import wanted_calls
from pagi_gateway.adapters.mock_words import count_words
from pagi_gateway.adapters.model_capabilities import capabilities_of
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.capabilities import Price
from pagi_gateway.domain.errors import ModelNotFoundError
from pagi_gateway.domain.model import FinishReason, ModelInfo, Plan, Role, TextDelta, ToolCall, Usage
from pagi_gateway.domain.words import words_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pagi_gateway.adapters.mock_rules import Wanted
    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.model import Message, PlanRequest

MODEL = "mock"
NOTHING_FOUND = (
    "I am the offline mock model and answer by rules. I found nothing about this in the knowledge that I was"
    " given. For a real model set LLM_PROVIDER to openai, anthropic or ollama, say, with its key and address"
    " (docs/models.md)."
)
_STATEMENT = "I have read it and can tell you later in this conversation: \u201c{}\u201d"


class MockProvider:
    """Decides by the last user message: tool calls by rules, then the results, passages or earlier turns."""

    name = "mock"
    default_model = MODEL

    def capabilities(self, model: str) -> Capabilities:
        """What the rules can do."""
        return capabilities_of(self.name, model)

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers at once.

        Raises:
            ModelNotFoundError: Another model than `mock` is asked.
        """
        if request.model != MODEL:
            raise ModelNotFoundError(
                f"the provider mock serves only the model {MODEL!r}, not {request.model!r};"
                " set LLM_PROVIDER for another"
            )
        text, calls = _decide(request)
        return Plan(
            text=text,
            tool_calls=calls,
            usage=_usage(request.messages, text, calls),
            finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
            model=MODEL,
            provider=self.name,
        )

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        """Answers word by word."""
        plan = await self.plan(request, timeout_s=timeout_s)
        for piece in words_of(plan.text):
            yield TextDelta(piece)
        yield plan

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The one model."""
        return [ModelInfo(MODEL, self.name, is_default=True, capabilities=self.capabilities(MODEL), price=Price(0, 0))]


def _decide(request: PlanRequest) -> tuple[str, tuple[ToolCall, ...]]:
    asked = max((i for i, each in enumerate(request.messages) if each.role is Role.USER), default=-1)
    prompt = request.messages[asked].text if asked >= 0 else ""
    since = request.messages[asked + 1 :]
    wanted = wanted_calls(prompt)
    offered = {tool.name for tool in request.tools}
    absent = _absent([call for call in wanted if call.tool not in offered])
    results = [message for message in since if message.role is Role.TOOL]
    if results:
        made = [call for message in since for call in message.tool_calls]
        return _joined(answer_from_results(made, results), absent), ()
    if calls := _calls([call for call in wanted if call.tool in offered], request.messages):
        return "", calls
    return absent or _answer(prompt, request.messages, asked), ()


def _answer(prompt: str, messages: Sequence[Message], asked: int) -> str:
    if is_statement(prompt):
        return _STATEMENT.format(prompt.strip())
    earlier = [message.text for message in messages[: max(asked, 0)] if message.role is Role.USER]
    passages = [passage for message in messages if message.role is Role.SYSTEM for passage in passages_in(message.text)]
    from_knowledge = answer_from(prompt, passages)
    from_conversation = recall(prompt, earlier)
    order = (from_knowledge, from_conversation)
    if is_about_conversation(prompt):
        order = (from_conversation, from_knowledge)
    return order[0] or order[1] or NOTHING_FOUND


def _calls(wanted: Sequence[Wanted], messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    ids = fresh_ids(messages)
    return tuple(ToolCall(next(ids), call.tool, json.dumps(call.arguments, ensure_ascii=False)) for call in wanted)


def _absent(wanted: Sequence[Wanted]) -> str:
    names = list(dict.fromkeys(call.tool for call in wanted))
    if not names:
        return ""
    tools = "the tool " + names[0] if len(names) == 1 else "the tools " + ", ".join(names)
    return f"I would need {tools} for this, but this request does not offer {'it' if len(names) == 1 else 'them'}."


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _usage(messages: Sequence[Message], text: str, calls: Sequence[ToolCall]) -> Usage:
    read = sum(count_words(each.text) + _call_words(each.tool_calls) for each in messages)
    return Usage(read, count_words(text) + _call_words(calls), cost_usd=0.0, reported=True)


def _call_words(calls: Sequence[ToolCall]) -> int:
    return sum(1 + count_words(call.arguments_json) for call in calls)
