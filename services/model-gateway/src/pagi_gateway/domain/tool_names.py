"""Tool names that a provider would refuse: sent under others, and known again in the answer."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from pagi_gateway.domain.model import ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Collection

    from pagi_gateway.domain.model import Delta, Message, Plan, PlanRequest, ToolCall

LONGEST = 64
# What every provider takes: OpenAI, Anthropic and Bedrock allow letters, digits, _ and -, at most 64; Gemini wants
# a letter or _ at the beginning (its FunctionDeclaration.name).
_TAKEN_BY_ALL = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{LONGEST - 1}}}")
_REFUSED = re.compile(r"[^A-Za-z0-9_-]+")
_DIGEST_LENGTH = 8


@dataclass(slots=True)
class ToolNames:
    """Which name each tool of one request is sent under; made for one answer.

    Attributes:
        sent: Every tool's name, and what it is sent as; no two are sent as one.
    """

    sent: dict[str, str]
    _known: dict[str, str] = field(init=False)
    _held: dict[int, ToolCallDelta] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._known = {sent: name for name, sent in self.sent.items()}

    def request(self, request: PlanRequest) -> PlanRequest:
        """The request under the names that are sent."""
        return replace(
            request,
            messages=tuple(self._message(message) for message in request.messages),
            tools=tuple(replace(tool, name=self.sent[tool.name]) for tool in request.tools),
            tool_name=self.sent.get(request.tool_name, request.tool_name),
        )

    def plan(self, plan: Plan) -> Plan:
        """The answer under the tools' own names; a name that was never sent stays as the model wrote it."""
        return replace(plan, tool_calls=_renamed(plan.tool_calls, self._known)) if plan.tool_calls else plan

    def delta(self, delta: Delta) -> Delta | None:
        """A delta under the tool's own name; None where the name may go on in the call's next delta."""
        if not isinstance(delta, ToolCallDelta):
            return delta
        if (begun := self._held.pop(delta.index, None)) is not None:
            delta = replace(delta, id=begun.id or delta.id, name=begun.name + delta.name)
        if delta.name and not delta.arguments_json and self._may_go_on(delta.name):
            self._held[delta.index] = delta
            return None
        return self._own(delta)

    def rest(self) -> list[Delta]:
        """The calls that were still held back when the answer ended."""
        held, self._held = self._held, {}
        return [self._own(delta) for delta in held.values()]

    def _may_go_on(self, begun: str) -> bool:
        return any(len(name) > len(begun) and name.startswith(begun) for name in self._known)

    def _own(self, delta: ToolCallDelta) -> ToolCallDelta:
        return replace(delta, name=self._known.get(delta.name, delta.name)) if delta.name else delta

    def _message(self, message: Message) -> Message:
        return replace(message, tool_calls=_renamed(message.tool_calls, self.sent)) if message.tool_calls else message


def tool_names(request: PlanRequest) -> ToolNames | None:
    """Finds names for the tools that a provider would refuse; None where it takes all of them as they are.

    The tools' names follow from the set of tools alone, so that a conversation that goes on finds the same ones (and
    the provider its cache). Calls of tools that are no longer offered come after them, in the conversation's order.
    """
    offered = {tool.name for tool in request.tools}
    called = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
    if all(_TAKEN_BY_ALL.fullmatch(name) for name in (*offered, *called)):
        return None
    sent = _sent(offered, set())
    for name in called:
        if name not in sent:
            sent |= _sent({name}, set(sent.values()))
    return ToolNames(sent)


def _sent(names: Collection[str], taken: set[str]) -> dict[str, str]:
    """What each name is sent as: itself, else its legal characters, else those with a digest of the name."""
    sent = {name: name for name in names if name not in taken and _TAKEN_BY_ALL.fullmatch(name)}
    taken = taken | set(sent)
    readable = {name: _readable(name) for name in sorted(names) if name not in sent}
    wanted = Counter(readable.values())
    for name, short in readable.items():
        if wanted[short] > 1 or short in taken or len(short) > LONGEST:
            sent[name] = _with_digest(short, name, taken)
        else:
            sent[name] = short
        taken.add(sent[name])
    return sent


def _readable(name: str) -> str:
    kept = _REFUSED.sub("_", name).strip("_-")
    return kept if kept[:1].isalpha() else f"tool_{kept}".rstrip("_")


def _with_digest(short: str, name: str, taken: set[str]) -> str:
    start = short[: LONGEST - _DIGEST_LENGTH - 1]
    digests = (hashlib.sha256(f"{name}{'.' * turn}".encode()).hexdigest()[:_DIGEST_LENGTH] for turn in count())
    return next(found for digest in digests if (found := f"{start}_{digest}") not in taken)


def _renamed(calls: tuple[ToolCall, ...], names: dict[str, str]) -> tuple[ToolCall, ...]:
    return tuple(replace(call, name=names.get(call.name, call.name)) for call in calls)
