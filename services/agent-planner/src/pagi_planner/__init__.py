'''The agent of PAGI Mesh. `Agent` runs in any process; the service around it adds HTTP, gRPC and SQLite.

An agent needs a model, which is anything with `answer`, and may have tools, which are plain functions:

    >>> import asyncio
    >>> from pagi_planner import Agent, FunctionTools, ModelAnswer, ToolCall
    >>> def add(a: float, b: float) -> float:
    ...     """Adds two numbers."""
    ...     return a + b
    >>> class Adder:
    ...     """Calls `add` once, then says what came of it. A real model is asked over HTTP here."""
    ...     async def answer(self, request):
    ...         last = request.messages[-1]
    ...         if last.role == "user":
    ...             return ModelAnswer("", (ToolCall("call-1", "add", '{"a": 100, "b": 50}'),))
    ...         return ModelAnswer(f"The tool says {last.text}.")
    >>> result = asyncio.run(Agent(Adder(), tools=FunctionTools(add)).run("What is 100 + 50?"))
    >>> result.result
    'The tool says {"output": 150.0}.'
    >>> [(step.tool, step.input, step.output) for step in result.steps]
    [('add', {'a': 100, 'b': 50}, 150.0)]
'''

from typing import TYPE_CHECKING, Any

from pagi_planner.domain.agent import Agent, Policy
from pagi_planner.domain.model import (
    Effects,
    Limits,
    ModelAnswer,
    ModelRequest,
    RunRequest,
    RunResult,
    RunStatus,
    ToolCall,
    ToolOutcome,
    ToolSpec,
)

__all__ = [
    "Agent",
    "Effects",
    "FunctionTools",
    "Limits",
    "ModelAnswer",
    "ModelRequest",
    "Policy",
    "RunRequest",
    "RunResult",
    "RunStatus",
    "ToolCall",
    "ToolOutcome",
    "ToolSpec",
]

if TYPE_CHECKING:
    from pagi_planner.adapters.function_tools import FunctionTools


def __getattr__(name: str) -> Any:
    """`FunctionTools`, where somebody asks for it: 10 ms of import that the service does without."""
    if name != "FunctionTools":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pagi_planner.adapters.function_tools import FunctionTools

    return FunctionTools
