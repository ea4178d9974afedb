"""What pydantic finds wrong with a request, in our words and as a problem document that names each field."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from pagi_chassis import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

MOST_FAULTS = 100
FAULTS_IN_DETAIL = 10


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Exception handler: 415 where the body is not said to be JSON, else 422."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(fault["loc"] == ("body",) for fault in found) and not _is_json(request.headers.get("content-type", "")):
        detail = "send the body with Content-Type: application/json"
        headers = {"Accept": "application/json"}
        return problems.problem(
            415, "Unsupported media type", detail, faults=[("Content-Type", detail)], headers=headers
        )
    faults = faults_of(found)
    return problems.problem(422, "Invalid argument", detail_of(faults), faults=faults)


def faults_of(found: Sequence[Any]) -> list[tuple[str, str]]:
    """Each part that is wrong, by its place, with what is wrong with it."""
    return [(_printable(_place(fault["loc"])), _printable(_message(fault))) for fault in found[:MOST_FAULTS]]


def detail_of(faults: Sequence[tuple[str, str]]) -> str:
    """The first of them in one line."""
    return "; ".join(f"{field}: {message}" for field, message in faults[:FAULTS_IN_DETAIL])


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _place(location: tuple[int | str, ...]) -> str:
    """`limits.max_steps`, `tools[0]`, `Idempotency-Key`; `body` for the whole of it."""
    parts = location[1:] if location[:1] in (("body",), ("query",), ("path",), ("header",)) else location
    if location[:1] == ("body",) and (not parts or isinstance(parts[0], int)):
        return "body"
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "body"


def _message(fault: Any) -> str:
    """In our words where pydantic's are about its own insides."""
    if fault["type"] == "json_invalid":
        return f"not JSON at character {fault['loc'][-1]}: {fault.get('ctx', {}).get('error', 'it does not parse')}"
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    if fault["type"] == "string_unicode":
        return "must be text; it holds half of a surrogate pair"
    if fault["type"] == "model_attributes_type":
        return "must be a JSON object"
    return str(fault["msg"]).removeprefix("Value error, ")


def _printable(text: str) -> str:
    """What a caller named a field may be half of a surrogate pair, which no answer can hold; or very long."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 200 else f"{text[:199]}…"
