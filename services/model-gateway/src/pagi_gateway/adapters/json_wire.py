"""JSON as providers write it: fast, typed, and patient with text that was cut inside a character."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
encode = msgspec.json.Encoder().encode
# What comes in pieces, of which one may end with half a character. All else is whole.
_IN_PIECES = {
    "arguments", "content", "delta", "partial_json", "reasoning", "reasoning_content", "refusal", "summary", "text",
    "thinking",
}  # fmt: skip
# What holds anybody's words under anybody's names.
_FOREIGN = {"arguments", "error", "input"}


def reader_of(kind: type[T]) -> Callable[[bytes], T]:
    """What reads an answer or an event of that type.

    Servers written in JavaScript cut text between the two halves of a surrogate pair, which is no valid JSON
    text (RFC 8259, 8.2) but is what comes: such an event is read the slow way. Its halves are kept in what comes in
    pieces, and become U+FFFD elsewhere.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> T:
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            if b"\\u" not in body:
                raise
            try:
                return msgspec.convert(mended(json.loads(body, parse_constant=_no_number)), kind)
            except (ValueError, msgspec.ValidationError):
                raise error from None

    return read


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def mended(value: Any, *, foreign: bool = False) -> Any:
    """Without halves of characters, but where the other half may come with the next piece; nowhere in foreign JSON."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, list):
        return [mended(each, foreign=foreign) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        whole_characters(name): each
        if isinstance(each, str) and name in _IN_PIECES and not foreign
        else mended(each, foreign=foreign or name in _FOREIGN)
        for name, each in value.items()
    }


class TextInPieces:
    """A text that comes in pieces."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._half = ""

    def add(self, piece: str) -> str:
        """Takes a piece and returns what can be sent on."""
        text = self._half + piece
        # The first half of a surrogate pair waits for the other, which comes with the next event.
        cut = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
        text, self._half = whole_characters(text[:cut]), text[cut:]
        if text:
            self._pieces.append(text)
        return text

    def whole(self) -> str:
        """All of it."""
        return "".join(self._pieces)


def whole_characters(text: str) -> str:
    """Joins the halves of surrogate pairs; a half that is alone becomes U+FFFD, since no wire carries it."""
    if text.isascii() or not _has_surrogate(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
