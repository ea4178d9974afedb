"""Checks arguments with jsonschema-rs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import jsonschema_rs

from pagi_sandbox.adapters.jsonschema_expansion import check_expansion
from pagi_sandbox.domain.errors import ArgumentsError, SchemaError
from pagi_sandbox.domain.model import ToolSpec

_PLAIN_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_FAULT = 300


class JsonSchemaArguments:
    """Compiles a tool's schema once; draft 2020-12 where it names no other."""

    def compile(self, spec: ToolSpec) -> JsonSchemaCheck:
        """The check of one tool; see ArgumentSchemas."""
        try:
            check_expansion(spec.parameters)
            # offline: a schema must not make the service fetch what a package names.
            return JsonSchemaCheck(spec.name, jsonschema_rs.validator_for(dict(spec.parameters), offline=True))
        except RecursionError as error:
            raise SchemaError("its parameters are no JSON Schema: nested too deeply") from error
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(f"its parameters are no JSON Schema: {str(error).splitlines()[0]}") from error


class JsonSchemaCheck:
    """One tool's compiled schema."""

    def __init__(self, tool: str, validator: jsonschema_rs.Validator) -> None:
        """`tool` is named in errors."""
        self._tool = tool
        self._validator = validator

    def parse(self, arguments_json: str) -> Mapping[str, Any]:
        """Reads the arguments; nothing at all stands for {}; see ArgumentCheck."""
        try:
            arguments = _DECODER.decode(arguments_json or "{}")
            if not isinstance(arguments, dict):
                raise ArgumentsError(self._tool, "$", f"a JSON object is needed, not {_kind(arguments)}")
            fault = None if self._validator.is_valid(arguments) else next(self._validator.iter_errors(arguments), None)
        except UnicodeEncodeError as error:
            raise ArgumentsError(self._tool, "$", "a text holds half a surrogate pair") from error
        except ValueError as error:
            raise ArgumentsError(self._tool, "$", f"no JSON: {_short(str(error))}") from error
        except RecursionError as error:
            raise ArgumentsError(self._tool, "$", "nested too deeply") from error
        if fault is not None:
            raise ArgumentsError(self._tool, _json_path(fault.instance_path), _short(fault.message))
        return arguments


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed in JSON")


# Made once: json.loads() would make one in each call that is told what to do with constants.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _json_path(parts: Iterable[str | int]) -> str:
    path = "$"
    for part in parts:
        if isinstance(part, str) and _PLAIN_MEMBER.fullmatch(part):
            path += f".{part}"
        else:
            path += f"[{json.dumps(part)}]"
    return path


def _short(text: str) -> str:
    """The beginning and the end: between them stands the value, which may be long."""
    half = _LONGEST_FAULT // 2
    return text if len(text) <= _LONGEST_FAULT else f"{text[:half]} ... {text[-half:]}"
