"""Tools made of Python functions, for an agent that runs in one process with what it calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from pagi_planner.domain import json_text
from pagi_planner.domain.model import Effects, ToolCall, ToolOutcome, ToolSpec

# What model providers take as the name of a function.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_bytes="base64", ser_json_inf_nan="null"))


class FunctionTools:
    """Typed functions as tools: the schema is taken from the signature, the description from the docstring.

    Arguments are validated against the annotations before a function sees them. An ordinary function runs in a thread,
    so that it holds up nothing; a run that is cancelled no longer waits for it, but cannot end it. What a function
    raises is a failed outcome, of which the model reads the message.

    Args:
        functions: Named, with parameters that can be given by name. `typing.Annotated` with `pydantic.Field`
            describes and bounds a parameter.
        effects: What a repeat of any of them means.

    Raises:
        ValueError: A function cannot be a tool, or two have one name.
    """

    know_effects = False

    def __init__(self, *functions: Callable[..., Any], effects: Effects = Effects.EFFECTFUL) -> None:
        self._tools: dict[str, _FunctionTool] = {}
        for function in functions:
            tool = _FunctionTool(function, effects)
            if tool.spec.name in self._tools:
                raise ValueError(f"two functions are named {tool.spec.name!r}")
            self._tools[tool.spec.name] = tool

    async def specs(self) -> tuple[ToolSpec, ...]:
        """One for each function."""
        return tuple(tool.spec for tool in self._tools.values())

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Calls the function.

        Raises:
            NotFoundError: There is none of that name.
            InvalidArgumentError: The arguments do not fit its parameters; `field` names the first that does not.
        """
        if (tool := self._tools.get(call.name)) is None:
            raise NotFoundError(f"there is no tool named {call.name!r}")
        return await tool.run(call.arguments_json)


class _FunctionTool:
    """One function, with what is needed to describe, check and call it."""

    def __init__(self, function: Callable[..., Any], effects: Effects) -> None:
        name = getattr(function, "__name__", "")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{function!r} cannot be a tool: give it a name of letters, digits, '_' and '-'")

        # Validates as a call of the function would, and returns the arguments in place of calling it.
        capture: Any = functools.wraps(function)(lambda *args, **kwargs: (args, kwargs))
        self._arguments = validate_call(capture)
        schema = TypeAdapter(capture).json_schema()
        if schema.get("type") != "object":
            raise ValueError(f"{name} cannot be a tool: some of its parameters cannot be given by name")
        self._function = function
        self.spec = ToolSpec(name, inspect.getdoc(function) or name, json.dumps(schema), effects)

    async def run(self, arguments_json: str) -> ToolOutcome:
        args, kwargs = self._checked(arguments_json)
        try:
            if inspect.iscoroutinefunction(self._function):
                value = await self._function(*args, **kwargs)
            else:
                value = await asyncio.to_thread(self._function, *args, **kwargs)
            return ToolOutcome("ok", _as_json(value))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a tool raises is its answer
            # Names of files may be in it, and these need not be text.
            said = str(error).encode("utf-8", "replace").decode()
            return ToolOutcome("failed", error=said or type(error).__name__)

    def _checked(self, arguments_json: str) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        try:
            arguments = json_text.parse(arguments_json or "{}")
            if not isinstance(arguments, dict):
                raise InvalidArgumentError("the arguments are not a JSON object")
            checked: tuple[tuple[Any, ...], Mapping[str, Any]] = self._arguments(**arguments)
        except ValidationError as error:
            faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors(include_url=False)]
            message = "; ".join(f"{place}: {said}" for place, said in faults)
            raise InvalidArgumentError(message, field=faults[0][0]) from error
        except ValueError as error:
            raise InvalidArgumentError(f"the arguments are not JSON: {error}") from error
        return checked


def _as_json(value: Any) -> Any:
    """The value as JSON has it: models and dataclasses as objects, dates as texts, anything unknown by its `str`."""
    try:
        text = _ANYTHING.dump_json(value, fallback=str).decode()
    except ValueError:
        # Half of a surrogate pair in it, as names of files have where they are not UTF-8: "?" when it is read again.
        text = json.dumps(_ANYTHING.dump_python(value, mode="json", fallback=str))
    return json_text.parse(text)
