"""Turns what a server refuses with into the gateway's errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pagi_chassis.errors import PagiError

    from pagi_gateway.adapters.http_endpoint import Endpoint

T = TypeVar("T")
_LONGEST = 500
_LONGEST_WAIT_S = 3600.0
# What a 429 says that no waiting mends (OpenAI's error codes).
_NO_CREDIT = re.compile(rb'"(?:insufficient_quota|billing_hard_limit_reached)"')
# What servers call an error inside an answer whose status was 200 already: Anthropic's types, OpenAI's codes.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_MARKUP = re.compile(r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]{0,500}>", re.IGNORECASE | re.DOTALL)


def error_for(status: int, headers: Mapping[str, str], body: bytes, endpoint: Endpoint, model: str) -> PagiError:
    """The error for an answer that is none, by its HTTP status."""
    reason = _reason(body, endpoint)
    place = endpoint.place
    if status in {401, 403}:
        return ProviderAccessError(f"{place} does not accept the key in {endpoint.key_variable}{_after(reason)}")
    if status == 402:
        return ProviderAccessError(f"{place} has no credit left for the key in {endpoint.key_variable}{_after(reason)}")
    if status == 404:
        hint = f"{place} has no model {model!r}, or {endpoint.url_variable} is not the address of its API"
        return ModelNotFoundError(hint + _after(reason))
    if status == 408:
        return ProviderTimeoutError(f"{place} did not answer in time{_after(reason)}")
    if status == 429:
        if _NO_CREDIT.search(body[:4096]):
            return ProviderAccessError(
                f"{place} has no credit left for the key in {endpoint.key_variable}{_after(reason)}"
            )
        return ProviderBusyError(f"{place} limits the rate{_after(reason)}", retry_after_s=retry_after_s(headers))
    if 300 <= status < 400:
        where = headers.get("Location", "elsewhere")
        return ProviderAccessError(f"{place} redirects to {where}; set {endpoint.url_variable} to the final address")
    # 424 is how Bedrock says that the model itself failed.
    if status < 500 and status not in {409, 424}:
        return ProviderRejectedError(f"{place} refused the request ({status}){_after(reason)}")
    return ProviderDownError(f"{place} failed ({status}){_after(reason)}", retry_after_s=retry_after_s(headers))


def error_in_answer(error: Any, endpoint: Endpoint, model: str) -> PagiError:
    """The error that a server put into an answer, as OpenRouter does in the middle of a stream."""
    status = 500
    for name in ("code", "type", "status") if isinstance(error, dict) else ():
        code = error.get(name)
        if isinstance(code, str):
            code = int(code) if len(code) == 3 and code.isdecimal() else _STATUSES.get(code)
        if isinstance(code, int) and 400 <= code < 600:
            status = code
            break
    return error_for(status, {}, msgspec.json.encode({"error": error}), endpoint, model)


def unreadable(content_type: str, body: bytes, endpoint: Endpoint, fault: str) -> ProviderAnswerError:
    """The error for an answer that cannot be read, with how it begins."""
    start = _tidy(body[: 4 * _LONGEST].decode("utf-8", "replace"), endpoint)[:120] or "nothing"
    return ProviderAnswerError(
        f"{endpoint.place} answered with {content_type or 'no content type'} that is not an answer"
        f" ({fault}): {start}; is {endpoint.url_variable} the address of its API?"
    )


def decoded(decode: Callable[[bytes], T], body: bytes, endpoint: Endpoint, content_type: str) -> T:
    """Reads an answer.

    Raises:
        ProviderAnswerError: It is none.
    """
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise unreadable(content_type, body, endpoint, str(error)) from error


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (RFC 9110, 10.2.3: seconds or a date), if it is said."""
    if (wait := _seconds(headers.get("retry-after-ms", ""))) is not None:
        return min(wait / 1000, _LONGEST_WAIT_S)
    written = headers.get("Retry-After", "")
    if (wait := _seconds(written)) is None:
        wait = _until(written)
    return None if wait is None else min(max(wait, 0.0), _LONGEST_WAIT_S)


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,12}(?:\.\d{1,12})?\s*", text) else None


def _until(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _reason(body: bytes, endpoint: Endpoint) -> str:
    """What the server says, as text. Servers differ in where they put it."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _tidy(body.decode("utf-8", "replace"), endpoint)
    if isinstance(value, list) and value:
        value = value[0]
    for _ in range(2):
        if isinstance(value, dict):
            value = value.get("error") or value.get("message") or value.get("detail") or value
    return _tidy(value if isinstance(value, str) else msgspec.json.encode(value).decode(), endpoint)


def _tidy(text: str, endpoint: Endpoint) -> str:
    if endpoint.api_key:
        text = text.replace(endpoint.api_key, "***")
    # Cut before it is searched: markup that is opened again and again and never closed takes time by its square.
    text = " ".join(_MARKUP.sub(" ", text[: 20 * _LONGEST]).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "\u2026"


def _after(reason: str) -> str:
    return f": {reason}" if reason and reason != "{}" else ""
