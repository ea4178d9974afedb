"""python: runs code in the child process it is called in."""

from __future__ import annotations

import ast
import gc
import linecache
import sys
import traceback
import types
from collections.abc import Mapping, Sequence
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError

MAX_CHARACTERS = 1_000_000
MAX_VALUE = 20_000
_FILE = "<code>"


class Python:
    """Runs Python code."""

    name = "python"
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "code": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_CHARACTERS,
                "description": "Python source.",
            }
        },
        "required": ["code"],
        "additionalProperties": False,
    }
    effects = Effects.EFFECTFUL
    permissions = (Permission.WORKSPACE_READ, Permission.WORKSPACE_WRITE, Permission.SUBPROCESS)
    minimum_profile = "L1"

    def __init__(self, preloaded: Sequence[str] = ()) -> None:
        """`preloaded` modules are there at once, and the model is told of them."""
        libraries = f"the standard library and {', '.join(preloaded)}" if preloaded else "the standard library"
        self.description = (
            f"Run Python code in a fresh interpreter state with {libraries}. What it prints is captured; the value of "
            "a final expression comes back as value. Files are read and written in this conversation's workspace, the "
            "current directory; those that it makes or changes are reported. There is no network and no input; "
            "nothing else is kept between calls. For arithmetic alone, math is faster."
        )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"value": repr of the final expression, or null}; an exception fails with its traceback."""
        code = arguments["code"]
        module = types.ModuleType("__main__")
        # So that a traceback shows the lines of the code.
        linecache.cache[_FILE] = (len(code), None, code.splitlines(keepends=True), _FILE)
        before = sys.modules["__main__"], sys.path[:], sys.argv
        sys.modules["__main__"], sys.argv = module, [_FILE]
        sys.path.insert(0, str(context.workspace))
        # The fork server keeps the collector off, so that a child shares its memory; this code may need it.
        gc.enable()
        try:
            return {"value": _run(code, module.__dict__)}
        finally:
            sys.modules["__main__"], sys.path[:], sys.argv = before


def _run(code: str, namespace: dict[str, Any]) -> str | None:
    try:
        body, last = _split(code)
        exec(body, namespace)  # noqa: S102 running the model's code is what this tool is for, in its own process
        if last is None:
            return None
        value = eval(last, namespace)  # noqa: S307 as above
        return None if value is None else _cut(repr(value))
    except MemoryError:
        raise
    except SystemExit as error:
        if error.code in {None, 0}:
            return None
        raise ToolFailedError(f"the code ended itself with sys.exit({error.code!r})") from error
    except BaseException as error:
        raise ToolFailedError(_traceback(error)) from error


def _split(code: str) -> tuple[types.CodeType, types.CodeType | None]:
    tree = ast.parse(code, _FILE)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        expression = tree.body.pop()
        assert isinstance(expression, ast.Expr)
        last = compile(ast.Expression(expression.value), _FILE, "eval")
    return compile(tree, _FILE, "exec"), last


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... ({len(text)} characters)"


def _traceback(error: BaseException) -> str:
    """The traceback from the first line of the user's code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != _FILE:
        trace = trace.tb_next
    return _cut("".join(traceback.format_exception(type(error), error, trace)).rstrip())
