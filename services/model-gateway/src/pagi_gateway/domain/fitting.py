"""Fits a request to what its model can do: refuses, leaves out with a note, or does it by other means."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagi_gateway.domain.capabilities import Support
from pagi_gateway.domain.content import PartKind
from pagi_gateway.domain.errors import UnsupportedError
from pagi_gateway.domain.model import Effort, Note, NoteKind, Plan
from pagi_gateway.domain.structured import StructuredAnswer, structured
from pagi_gateway.domain.tool_names import ToolNames, tool_names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pagi_gateway.domain.capabilities import Capabilities
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Delta, Message, ModelInfo, PlanRequest
    from pagi_gateway.domain.ports import ModelSource


class FittingProvider:
    """Answers as `source` does, and never sends it what its model is known not to take."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def default_model(self) -> str:
        """The source's default."""
        return self._source.default_model

    async def plan(self, request: PlanRequest, *, timeout_s: float) -> Plan:
        """Answers.

        Raises:
            UnsupportedError: The model cannot do it; nothing was sent.
            WrongShapeError: The answer is not of the form that was asked.
        """
        fitted = fit(request, self._source.capabilities(request.model), self.name)
        plan = await self._source.plan(fitted.request, timeout_s=timeout_s)
        return fitted.finished(plan)

    async def stream(self, request: PlanRequest, *, timeout_s: float) -> AsyncGenerator[Delta | Plan, None]:
        """Answers in deltas; raises as `plan` does, of the form at the end."""
        fitted = fit(request, self._source.capabilities(request.model), self.name)
        async with aclosing(self._source.stream(fitted.request, timeout_s=timeout_s)) as events:
            async for event in events:
                if isinstance(event, Plan):
                    for held in fitted.rest():
                        yield held
                    yield fitted.finished(event)
                elif (delta := fitted.delta(event)) is not None:
                    yield delta

    def capabilities(self, model: str) -> Capabilities:
        """What the model can do."""
        return self._source.capabilities(model)

    async def models(self, *, timeout_s: float) -> Sequence[ModelInfo]:
        """The source's models."""
        return await self._source.models(timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request that its model can take, and how the answer becomes what was asked for."""

    request: PlanRequest
    notes: tuple[Note, ...] = ()
    answer: StructuredAnswer | None = None
    names: ToolNames | None = None

    def finished(self, plan: Plan) -> Plan:
        """The answer in the form that was asked, with the notes."""
        if self.names is not None:
            plan = self.names.plan(plan)
        if self.answer is not None:
            plan = self.answer.finished(plan)
        return replace(plan, notes=(*self.notes, *plan.notes)) if self.notes else plan

    def delta(self, delta: Delta) -> Delta | None:
        """A delta in the form that was asked."""
        named = delta if self.names is None else self.names.delta(delta)
        return named if named is None or self.answer is None else self.answer.delta(named)

    def rest(self) -> list[Delta]:
        """The deltas that were held back, at the answer's end."""
        held = [] if self.names is None else self.names.rest()
        if self.answer is None:
            return held
        return [shaped for delta in held if (shaped := self.answer.delta(delta)) is not None]


def fit(request: PlanRequest, can: Capabilities, provider: str) -> Fitted:
    """Fits a request to a model.

    Raises:
        UnsupportedError: The model cannot do something, and the request does not say to leave it out.
    """
    fitting = _Fitting(request, provider)
    for feature in _FEATURES:
        if getattr(can, feature.capability) is Support.NO and feature.wanted(fitting.request):
            fitting.leave_out(feature.field, feature.what)
            fitting.request = feature.without(fitting.request)
    fitting.fit_parts(can)
    fitting.fit_length(can)
    answer = None
    if request.response_format is not None and fitting.request.response_format is not None:
        fitting.request, answer = structured(fitting.request, can)
        if answer.emulated:
            told = f"{request.model} has no structured output of its own: asked by {answer.emulated} and checked"
            fitting.notes.append(Note(NoteKind.EMULATED, "response_format", told))
    # Last, so that the tool that carries a structured answer has a name that is taken too.
    names = None if can.any_tool_name is Support.YES else tool_names(fitting.request)
    asked = fitting.request if names is None else names.request(fitting.request)
    return Fitted(asked, tuple(fitting.notes), answer, names)


class _Fitting:
    """A request that is being fitted."""

    def __init__(self, request: PlanRequest, provider: str) -> None:
        self.request = request
        self.notes: list[Note] = []
        self._provider = provider

    def leave_out(self, field: str, what: str) -> None:
        told = f"{self.request.model} of {self._provider} cannot {what}"
        if not self.request.leave_out:
            raise UnsupportedError(f"{field}: {told}; on_unsupported may say to leave it out")
        self.notes.append(Note(NoteKind.LEFT_OUT, field, told))

    def fit_parts(self, can: Capabilities) -> None:
        """Leaves out the parts that the model cannot read."""
        if not any(message.parts for message in self.request.messages):
            return
        messages = tuple(self._message(index, message, can) for index, message in enumerate(self.request.messages))
        self.request = replace(self.request, messages=messages)

    def fit_length(self, can: Capabilities) -> None:
        """Keeps the limit of the answer under the model's own."""
        most = can.max_output_tokens
        if most and self.request.max_output_tokens > most:
            self.leave_out("limits.max_output_tokens", f"write more than {most} tokens")
            self.request = replace(self.request, max_output_tokens=most)

    def _message(self, index: int, message: Message, can: Capabilities) -> Message:
        kept: list[Part] = []
        for number, part in enumerate(message.parts):
            if what := _cannot_read(part, can):
                self.leave_out(f"messages[{index}].parts[{number}]", what)
            else:
                kept.append(part)
        return message if len(kept) == len(message.parts) else replace(message, parts=tuple(kept))


def _cannot_read(part: Part, can: Capabilities) -> str:
    """What a model cannot do with a part; empty where it can."""
    if part.kind is PartKind.TEXT:
        return ""
    what = "images" if part.kind is PartKind.IMAGE else "files"
    if (can.images if part.kind is PartKind.IMAGE else can.files) is Support.NO:
        return f"read {what}"
    if part.url and (can.image_urls if part.kind is PartKind.IMAGE else can.file_urls) is Support.NO:
        return f"fetch {what} from a URL; send the bytes"
    return ""


@dataclass(frozen=True, slots=True)
class _Feature:
    """Something that a request may want and a model may not have."""

    field: str
    capability: str
    what: str
    wanted: Callable[[PlanRequest], bool]
    without: Callable[[PlanRequest], PlanRequest]


_FEATURES = (
    _Feature(
        "tools",
        "tools",
        "call tools",
        lambda asked: bool(asked.tools),
        lambda asked: replace(asked, tools=(), tool_name=""),
    ),
    _Feature(
        "temperature",
        "temperature",
        "be given a temperature",
        lambda asked: asked.temperature is not None,
        lambda asked: replace(asked, temperature=None),
    ),
    _Feature(
        "top_p",
        "top_p",
        "be given top_p",
        lambda asked: asked.top_p is not None,
        lambda asked: replace(asked, top_p=None),
    ),
    _Feature(
        "seed", "seed", "be given a seed", lambda asked: asked.seed is not None, lambda asked: replace(asked, seed=None)
    ),
    _Feature(
        "stop", "stop", "stop at given words", lambda asked: bool(asked.stop), lambda asked: replace(asked, stop=())
    ),
    _Feature(
        "reasoning_effort",
        "reasoning",
        "reason with a given effort",
        lambda asked: asked.effort not in {None, Effort.NONE},
        lambda asked: replace(asked, effort=None),
    ),
    _Feature(
        "response_format",
        "response_format",
        "answer by a JSON Schema",
        lambda asked: asked.response_format is not None,
        lambda asked: replace(asked, response_format=None),
    ),
)
