"""Functions as tools, and one suite for every kind of tools that a run may be given."""

from __future__ import annotations

import asyncio
import doctest
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

import pagi_planner
import pytest
from pagi.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from pagi_chassis.errors import InvalidArgumentError, NotFoundError
from pagi_chassis.testing import serving
from pagi_planner import Agent, FunctionTools, RunStatus, ToolCall, ToolOutcome
from pagi_planner.adapters.sandbox_client import SandboxTools
from pagi_planner.domain.model import Effects
from pagi_planner.testing import RecordingTools, ScriptedModel, call, calling, saying
from pydantic import BaseModel, Field


def add(a: int, b: int = 1) -> int:
    """Adds two whole numbers."""
    return a + b


async def divide(a: float, b: float) -> float:
    """Divides."""
    await asyncio.sleep(0)
    return a / b


@dataclass
class Day:
    when: date
    tags: set[str]


class Person(BaseModel):
    name: str
    age: Annotated[int, Field(ge=0, description="In years.")]


async def run(tools: FunctionTools, name: str, arguments: object) -> ToolOutcome:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return await tools.execute(ToolCall("c", name, text), session_id="s", effect_id="e")


async def test_the_schema_is_that_of_the_signature():
    def greet(person: Person, style: Literal["warm", "cool"] = "warm", times: Annotated[int, Field(le=3)] = 1) -> str:
        """Greets a person.

        In words.
        """

    [spec] = await FunctionTools(greet, effects=Effects.READ_ONLY).specs()
    schema = json.loads(spec.parameters_schema_json)
    assert (spec.name, spec.description, spec.effects) == ("greet", "Greets a person.\n\nIn words.", Effects.READ_ONLY)
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["person"], False)
    assert schema["properties"]["style"]["enum"] == ["warm", "cool"]
    assert schema["properties"]["times"]["maximum"] == 3
    assert schema["$defs"]["Person"]["properties"]["age"]["description"] == "In years."


@pytest.mark.parametrize(
    ("name", "arguments", "output"),
    [("add", {"a": 2, "b": 3}, 5), ("add", {"a": 2}, 3), ("add", {"a": "2"}, 3), ("divide", {"a": 1, "b": 4}, 0.25)],
)
async def test_functions_and_coroutines_are_called_with_what_was_validated(name, arguments, output):
    outcome = await run(FunctionTools(add, divide), name, arguments)
    assert outcome == ToolOutcome("ok", output)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "a"),
        ({"a": "x"}, "a"),
        ({"a": 1.5}, "a"),
        ({"a": 1, "c": 2}, "c"),
        ("[1]", ""),
        ("{", ""),
        ('{"a": NaN}', ""),
    ],
)
async def test_arguments_that_do_not_fit_are_refused(arguments, field):
    with pytest.raises(InvalidArgumentError) as caught:
        await run(FunctionTools(add), "add", arguments)
    assert caught.value.field == field
    assert field in caught.value.message
    assert "pydantic" not in caught.value.message


async def test_a_function_gets_what_its_annotations_say():
    seen = []

    def meet(person: Person, on: date) -> None:
        seen.append((person, on))

    await run(FunctionTools(meet), "meet", {"person": {"name": "Ada", "age": 36}, "on": "1851-05-01"})
    assert seen == [(Person(name="Ada", age=36), date(1851, 5, 1))]


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (None, None),
        (Day(date(2026, 1, 2), {"x"}), {"when": "2026-01-02", "tags": ["x"]}),
        (Person(name="Ada", age=1), {"name": "Ada", "age": 1}),
        (float("nan"), None),
        (b"\xff", "_w=="),
        ("ä\0", "ä\0"),
        (object, "<class 'object'>"),
        (2**80, 2**80),
        # As `os.listdir` gives names that are not UTF-8.
        (["a\udcff.txt"], ["a?.txt"]),
    ],
)
async def test_whatever_a_function_returns_becomes_json(value, output):
    def give():
        return value

    outcome = await run(FunctionTools(give), "give", {})
    assert (outcome.verdict, outcome.output) == ("ok", output)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def circle() -> list:
    inner: list = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("division by zero"), "division by zero"),
        (KeyError(), "KeyError"),
        (TimeoutError("its own"), "its own"),
        (InvalidArgumentError("of its own"), "of its own"),
        (FileNotFoundError("no file a\udcff.txt"), "no file a?.txt"),
        (SystemExit(3), "3"),
    ],
)
async def test_what_a_function_raises_is_a_failed_outcome(error, said):
    def fail():
        raise error

    async def fail_later():
        raise error

    for function in (fail, fail_later):
        assert await run(FunctionTools(function), function.__name__, {}) == ToolOutcome("failed", error=said)


@pytest.mark.parametrize("value", [Unprintable(), circle(), {"\ud800": 1}])
async def test_what_cannot_become_json_is_a_failed_outcome(value):
    def give():
        return value

    outcome = await run(FunctionTools(give), "give", {})
    assert (outcome.verdict, bool(outcome.error)) == ("failed", True)


async def test_a_function_that_takes_its_time_holds_up_nothing():
    go = threading.Event()

    def wait() -> str:
        return "waited" if go.wait(10) else "nobody came"

    async def release() -> str:
        go.set()
        return "released"

    model = ScriptedModel(calling(call("wait", {}), call("release", {})), saying("done"))
    async with asyncio.timeout(5):
        result = await Agent(model, tools=FunctionTools(wait, release)).run("x")
    assert sorted(step.output for step in result.steps) == ["released", "waited"]


def positional(a: int, /) -> int:
    return a


def variadic(*numbers: int) -> int:
    return sum(numbers)


@pytest.mark.parametrize("functions", [(lambda: 1,), (positional,), (variadic,), (add, add), (object(),)])
def test_what_cannot_be_a_tool_is_refused(functions):
    with pytest.raises(ValueError, match=r"cannot be a tool|two functions"):
        FunctionTools(*functions)


async def test_an_agent_runs_alone_with_functions_as_tools():
    model = ScriptedModel(calling(call("add", {"a": 1}), call("divide", {"a": 1, "b": 0})), saying("It is 2."))
    result = await Agent(model, tools=FunctionTools(add, divide)).run("What is 1 + 1, and 1 / 0?")
    assert (result.status, result.result) == (RunStatus.COMPLETED, "It is 2.")
    assert {step.tool: step.output or step.error for step in result.steps} == {
        "add": 2,
        "divide": "float division by zero",
    }


def test_the_example_in_the_docstring_runs():
    outcome = doctest.testmod(pagi_planner, verbose=False)
    assert (outcome.failed, outcome.attempted > 3) == (0, True)


def test_an_agent_alone_needs_neither_a_transport_nor_a_store():
    code = """
import sys, pagi_planner
heavy = {"fastapi", "starlette", "uvicorn", "redis", "sqlite3", "pagi"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class Sandbox(sandbox_pb2_grpc.ToolServiceServicer):
    """A sandbox whose tools are functions."""

    def __init__(self, tools: FunctionTools) -> None:
        self._tools = tools

    async def ListTools(self, request, context):
        specs = await self._tools.specs()
        return sandbox_pb2.ListToolsResponse(
            tools=[
                sandbox_pb2.Tool(
                    name=spec.name,
                    description=spec.description,
                    parameters_schema_json=spec.parameters_schema_json,
                    effects=sandbox_pb2.EFFECTS_READ_ONLY,
                )
                for spec in specs
            ]
        )

    async def ExecuteTool(self, request, context):
        outcome = await run(self._tools, request.tool, request.arguments_json)
        verdict = sandbox_pb2.VERDICT_FAILED if outcome.error else sandbox_pb2.VERDICT_OK
        output = "" if outcome.output is None else json.dumps(outcome.output)
        return sandbox_pb2.ExecuteToolResponse(verdict=verdict, output_json=output, error=outcome.error)


class TestAnyTools:
    @pytest.fixture(params=["functions", "recording", "sandbox"])
    async def tools(self, request):
        functions = FunctionTools(add, divide, effects=Effects.READ_ONLY)
        if request.param == "sandbox":
            register = sandbox_pb2_grpc.add_ToolServiceServicer_to_server
            async with serving(register, Sandbox(functions), "pagi.sandbox.v1.ToolService") as client:
                yield SandboxTools(client, timeout_s=5)
            return
        if request.param == "functions":
            yield functions
            return
        yield RecordingTools(
            {
                "add": lambda x: (
                    ToolOutcome("ok", x["a"] + x.get("b", 1))
                    if isinstance(x.get("a"), int)
                    else InvalidArgumentError("a: must be a number", field="a")
                ),
                "divide": lambda x: ToolOutcome("failed", error="division by zero"),
            }
        )

    async def test_they_say_what_there_is(self, tools):
        specs = await tools.specs()
        assert [(spec.name, spec.effects) for spec in specs] == [
            ("add", Effects.READ_ONLY),
            ("divide", Effects.READ_ONLY),
        ]
        assert all(isinstance(json.loads(spec.parameters_schema_json), dict) for spec in specs)

    async def test_they_run_a_call_to_its_end(self, tools):
        assert (await run(tools, "add", {"a": 1, "b": 2})).output == 3

    async def test_a_tool_that_fails_is_an_outcome(self, tools):
        outcome = await run(tools, "divide", {"a": 1, "b": 0})
        assert (outcome.verdict, outcome.output) == ("failed", None)
        assert "division by zero" in outcome.error

    async def test_arguments_that_do_not_fit_are_an_error(self, tools):
        with pytest.raises(InvalidArgumentError, match="a: "):
            await run(tools, "add", {"a": "x"})

    async def test_a_tool_that_is_not_there_is_an_error(self, tools):
        with pytest.raises(NotFoundError):
            await run(tools, "nix", {})
