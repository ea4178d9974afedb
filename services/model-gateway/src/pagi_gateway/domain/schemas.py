"""JSON Schema: whether a text is one, and whether a value fits it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema_rs import Validator


class SchemaError(ValueError):
    """The text is no JSON Schema; the message says why."""


@lru_cache(maxsize=1024)
def schema_of(text: str) -> Validator:
    """The schema that a text is; the same text is read once.

    Raises:
        SchemaError: It is not JSON, not an object, not a schema (2020-12 or the draft that it names), or refers to
            another document, which is never fetched.
    """
    # Imported here: 20 ms that a gateway does without until somebody brings a schema.
    import jsonschema_rs

    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise SchemaError(f"must be a JSON object, it is {type(schema).__name__}")
    try:
        return jsonschema_rs.validator_for(schema, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"is not a JSON Schema: {_first_line(error)}") from error


def misfit(text: str, schema_json: str) -> tuple[Any, str]:
    """Reads a text as JSON of a schema; returns the value, and what is wrong with it, or empty."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"it is not JSON: {error}"
    fault = next(schema_of(schema_json).iter_errors(value), None)
    if fault is None:
        return value, ""
    where = "/".join(map(str, fault.instance_path))
    return value, f"at {where}: {_first_line(fault)}" if where else _first_line(fault)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
