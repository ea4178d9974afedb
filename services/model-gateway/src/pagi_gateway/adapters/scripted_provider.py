"""Plays a file of answers, delays and faults; the place in the script follows from the conversation alone.

Lines whose `when` matches the last user message play for that message; where none matches, the lines without
`when` play. Which of them: as many assistant messages as follow that user message, so that each run, and each
turn of a conversation, plays from the first line, and runs at the same time cannot take each other's lines.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from pagi_chassis.errors import InternalError, PagiError

from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.capabilities import Capabilities, Support
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ScriptError,
)
from pagi_gateway.domain.model import FinishReason, ModelInfo, Plan, Role, TextDelta, ToolCall
from pagi_gateway.domain.words import words_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from pagi_gateway.adapters.scripted_file import Fault, Line
    from pagi_gateway.domain.model import Message, PlanRequest

MODEL = "scripted"
# How many conversations a fault with `times` is counted for.
_MOST_COUNTED = 10_000


class ScriptedProvider:
    """Answers from a script.

    Args:
        script: Its lines, in order.
        played: A file to which each answer that was given is added, as a line that says where it stands in the script.
    """

    name = "scripted"
    default_model = MODEL

    def __init__(self, script: Sequence[Line], played: Path | None = None) -> None:
        self._script = script
        self._played = played
        self._faults_seen: OrderedDict[bytes, int] = OrderedDict()

    def capabilities(self, model: str) -> Capabilities:
        """Whatever the script says: nothing is known not to work, and tools are called as the script names them."""
        return Capabilities(any_tool_name=Support.YES)

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Plays the line for this conversation.

        Raises:
            ModelNotFoundError: Another model than `scripted` is asked.
            ScriptError: The script has no line for this conversation.
            PagiError: The fault of the line.
        """
        line = self._line(request)
        time = _Time(timeout_s)
        await time.sleep(line.delay_ms)
        if fault := self._fault(line, request):
            await _fail(fault, line, time)
        await time.sleep(line.word_delay_ms * len(words_of(line.text)))
        self._note(line)
        return _plan(line, request)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | Plan, None]:
        """Plays the line word by word."""
        line = self._line(request)
        time = _Time(timeout_s)
        await time.sleep(line.delay_ms)
        fault = self._fault(line, request)
        words = words_of(line.text)
        for word in words[: fault.after_words] if fault else words:
            yield TextDelta(word)
            await time.sleep(line.word_delay_ms)
        if fault:
            await _fail(fault, line, time)
        self._note(line)
        yield _plan(line, request)

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The one model."""
        return [ModelInfo(MODEL, self.name, is_default=True)]

    def _line(self, request: PlanRequest) -> Line:
        if request.model != MODEL:
            raise ModelNotFoundError(f"the provider scripted serves only the model {MODEL!r}, not {request.model!r}")
        prompt, step = _position(request.messages)
        lines = [line for line in self._script if line.when and line.when.search(prompt)]
        lines = lines or [line for line in self._script if line.when is None]
        if step < len(lines):
            return lines[step]
        raise ScriptError(
            f"the script has {len(lines)} answer(s) for {prompt[:80]!r}, and number {step + 1} is asked for;"
            " add one to the file of SCRIPTED_RESPONSES_PATH"
        )

    def _note(self, line: Line) -> None:
        if self._played:
            with self._played.open("a", encoding="utf-8") as file:
                file.write(f"{line.at}\n")

    def _fault(self, line: Line, request: PlanRequest) -> Fault | None:
        """The line's fault, as long as this conversation has not met it often enough."""
        if line.fault is None or not line.fault.times:
            return line.fault
        key = hashlib.blake2b(
            repr((line.at, request.messages)).encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        seen = self._faults_seen[key] = self._faults_seen.pop(key, 0) + 1
        if len(self._faults_seen) > _MOST_COUNTED:
            self._faults_seen.popitem(last=False)
        return line.fault if seen <= line.fault.times else None


class _Time:
    """What is left of the time for an answer."""

    def __init__(self, timeout_s: float) -> None:
        self._ends = asyncio.get_running_loop().time() + timeout_s

    async def sleep(self, milliseconds: float) -> None:
        """Waits, but not longer than there is time."""
        left = self._ends - asyncio.get_running_loop().time()
        if milliseconds / 1000 <= left:
            if milliseconds:
                await asyncio.sleep(milliseconds / 1000)
            return
        await asyncio.sleep(max(0.0, left))
        raise ProviderTimeoutError("the script did not answer in time")


def _position(messages: Sequence[Message]) -> tuple[str, int]:
    """The last user message, and how many assistant messages follow it."""
    step = 0
    for message in reversed(messages):
        if message.role is Role.USER:
            return message.text, step
        step += message.role is Role.ASSISTANT
    return "", step


async def _fail(fault: Fault, line: Line, time: _Time) -> None:
    if fault.kind == "hang":
        await time.sleep(float("inf"))
    raise _error(fault, f"scripted fault at {line.at}: {fault.kind}")


def _error(fault: Fault, message: str) -> PagiError:
    if fault.kind == "unavailable":
        return ProviderDownError(message, retry_after_s=fault.retry_after_s)
    if fault.kind == "rate_limited":
        return ProviderBusyError(message, retry_after_s=fault.retry_after_s)
    return _PLAIN_FAULTS[fault.kind](message)


_PLAIN_FAULTS: dict[str, type[PagiError]] = {
    "timeout": ProviderTimeoutError,
    "malformed": ProviderAnswerError,
    "rejected": ProviderRejectedError,
    "unauthorized": ProviderAccessError,
    "not_found": ModelNotFoundError,
    "internal": InternalError,
}


def _plan(line: Line, request: PlanRequest) -> Plan:
    ids = fresh_ids(request.messages)
    calls = tuple(ToolCall(call.id or next(ids), call.name, call.arguments_json) for call in line.tool_calls)
    return Plan(
        text=line.text,
        tool_calls=calls,
        usage=line.usage,
        finish_reason=line.finish_reason or (FinishReason.TOOL_CALLS if calls else FinishReason.STOP),
        model=MODEL,
        provider=ScriptedProvider.name,
    )
