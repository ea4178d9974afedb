"""math: arithmetic on numbers, and nothing else.

simpleeval walks the syntax tree; of its node types only those of arithmetic are kept, so that there are no strings,
attributes, subscripts or comprehensions to abuse, and every number is bounded before and after each operation.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import simpleeval  # type: ignore[import-untyped]

from pagi_sandbox.domain.tool import Effects, ToolContext, ToolFailedError

# 4,300 decimal digits is the most that CPython prints of an integer without being told otherwise.
MAX_BITS = 14_280
MAX_LENGTH = 2_000
Number = int | float
# What people and models type for operators that Python writes otherwise.
_SPELLINGS = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u00b7": "*"})


def _bounded(value: object) -> Number:
    if not isinstance(value, int | float):
        raise ToolFailedError(f"the result is a {type(value).__name__}, not a real number")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ToolFailedError("the number is too large: at most about 4,300 digits are computed")
    return value


def _power(base: Number, exponent: Number) -> Number:
    integers = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if integers and int(base).bit_length() * abs(exponent) > MAX_BITS:
        raise ToolFailedError("the power is too large: at most about 4,300 digits are computed")
    return _bounded(base**exponent)


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Number]:
    return lambda left, right: _bounded(operation(left, right))


def _round(number: Number, ndigits: int | None = None) -> Number:
    # round(1, -10**9) would compute 10**10**9 first.
    if isinstance(ndigits, int) and abs(ndigits) > MAX_BITS:
        raise ToolFailedError(f"round takes up to {MAX_BITS} digits")
    return _bounded(round(number, ndigits))


def _small(function: Callable[..., int], highest: int) -> Callable[..., Number]:
    def checked(*arguments: int) -> Number:
        if any(argument > highest for argument in arguments):
            raise ToolFailedError(f"{function.__name__} takes numbers up to {highest}")
        return _bounded(function(*arguments))

    checked.__name__ = function.__name__
    return checked


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _binary(operator.add),
    ast.Sub: _binary(operator.sub),
    ast.Mult: _binary(operator.mul),
    ast.Div: _binary(operator.truediv),
    ast.FloorDiv: _binary(operator.floordiv),
    ast.Mod: _binary(operator.mod),
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_PLAIN = (
    "acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh degrees erf erfc exp expm1 fabs floor fmod gamma"
)
_PLAIN += " gcd hypot isqrt lcm lgamma log log10 log1p log2 radians sin sinh sqrt tan tanh trunc"
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in _PLAIN.split()},
    "abs": abs,
    "max": lambda *numbers: max(numbers),
    "min": lambda *numbers: min(numbers),
    "sum": lambda *numbers: _bounded(sum(numbers)),
    "round": _round,
    "int": int,
    "float": float,
    "pow": _power,
    "factorial": _small(math.factorial, 1_500),
    "comb": _small(math.comb, 10_000),
    "perm": _small(math.perm, 10_000),
}
_NAMES = {"pi": math.pi, "e": math.e, "tau": math.tau, "True": True, "False": False}
_NODES = (
    ast.Expr,
    ast.Name,
    ast.UnaryOp,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.keyword,
    ast.Constant,
)


class _Evaluator(simpleeval.SimpleEval):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(operators=_OPERATORS, functions=_FUNCTIONS, names=_NAMES)
        known: dict[type[ast.AST], Callable[..., Any]] = vars(self)["nodes"]
        self.nodes = {**{node: known[node] for node in _NODES}, ast.Constant: _constant}


def _constant(node: ast.Constant) -> Number:
    if isinstance(node.value, int | float):
        return _bounded(node.value)
    raise ToolFailedError(f"{str(node.value)[:40]!r} is no number; math takes numbers only, python does the rest")


# Made once, in the fork server: to make it anew costs a child a tenth of a millisecond of copied pages.
_EVALUATOR = _Evaluator()


class Math:
    """Evaluates an arithmetic expression."""

    name = "math"
    description = (
        "Evaluate an arithmetic expression exactly. Numbers, + - * / // % ** and comparisons, parentheses, pi, e, "
        f"tau, and the functions {', '.join(sorted(_FUNCTIONS))}. Integers stay exact."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_LENGTH,
                "description": "For example: (100 + 50) * 2",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    pure = True
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"result": a number or a boolean, "expression": as it was given}."""
        expression = arguments["expression"]
        result = evaluate(expression)
        if isinstance(result, float) and not math.isfinite(result):
            raise ToolFailedError(f"the result is not a finite number: {result}")
        return {"result": result, "expression": expression}


def evaluate(expression: str) -> Number:
    """The value of an expression.

    Raises:
        ToolFailedError: it is no arithmetic expression, or its value cannot be computed within the bounds.
    """
    text = expression.translate(_SPELLINGS).strip()
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ToolFailedError(f"{expression[:80]!r} is no arithmetic expression: {error.msg}") from error
    except ValueError as error:
        raise ToolFailedError(f"the expression cannot be read: {error}") from error
    except (RecursionError, MemoryError) as error:
        # CPython's parser reports too deep a nesting as either of them.
        raise ToolFailedError("the expression is nested too deeply") from error
    try:
        return _bounded(_EVALUATOR.eval(text, previously_parsed=ast.Expr(tree.body)))
    except simpleeval.InvalidExpression as error:
        raise ToolFailedError(_explain(error)) from error
    except ZeroDivisionError as error:
        raise ToolFailedError("division by zero") from error
    except OverflowError as error:
        raise ToolFailedError("the result is too large for a floating-point number") from error
    except RecursionError as error:
        raise ToolFailedError("the expression is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise ToolFailedError(str(error)) from error


def _explain(error: simpleeval.InvalidExpression) -> str:
    if isinstance(error, simpleeval.NameNotDefined):
        return f"{error.name!r} is not known; the names are {', '.join(sorted(_NAMES))}"
    if isinstance(error, simpleeval.FunctionNotDefined):
        return f"there is no function {error.func_name!r}; there are {', '.join(sorted(_FUNCTIONS))}"
    if isinstance(error, simpleeval.OperatorNotDefined):
        return "that operator is not known; there are + - * / // % ** and comparisons (a power is **, not ^)"
    return str(error)
