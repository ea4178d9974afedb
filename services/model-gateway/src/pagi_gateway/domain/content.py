"""What messages are made of besides text: images, files, and the reasoning behind an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class PartKind(StrEnum):
    """What a part is."""

    TEXT = "text"
    IMAGE = "image"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message.

    Attributes:
        kind: What it is.
        text: Of a text.
        data: The bytes of an image or file; empty where `url` says where they are.
        url: Fetched by the provider, never by the gateway.
        media_type: `image/png`, `application/pdf`; empty for text.
        name: A file's name, for the model to read.
    """

    kind: PartKind
    text: str = ""
    data: bytes = field(default=b"", repr=False)
    url: str = ""
    media_type: str = ""
    name: str = ""


class GiveBack(StrEnum):
    """What of a reasoning must go back with its message, as long as the message's tool calls are being answered."""

    NOTHING = "nothing"
    WITHOUT_TEXT = "without_text"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a model came to its answer.

    Attributes:
        text: To be shown.
        signature: Opaque, valid only where it was made.
        id: The provider's name for it, or that of the call that it belongs to.
        redacted: The text was withheld by the provider; the signature carries it.
        origin: Where it was made, as an endpoint says it; empty: whoever gives it back answers for that.
        give_back: What of it is wanted back.
        text_before: So many characters of the message's text came before it,
        calls_before: and so many of its tool calls.
    """

    text: str = ""
    signature: str = ""
    id: str = ""
    redacted: bool = False
    origin: str = ""
    give_back: GiveBack = GiveBack.NOTHING
    text_before: int = 0
    calls_before: int = 0


# How the files begin that providers take (each format's specification).
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


def media_type_of(data: bytes) -> str:
    """What the first bytes show; empty where they show nothing that is known."""
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""
