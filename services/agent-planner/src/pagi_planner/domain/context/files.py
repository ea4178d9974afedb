"""Files of a request: what they are, and the text or image that a model can be given of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pagi_planner.domain.model import Image, InputFile, RunRequest

# What is decoded of one file (bytes), and the longest text that may come of it (characters).
MOST_BYTES = 10_000_000
# All pictures go with each call of the model, in one message of 16 MiB at most, beside all that was said.
MOST_IMAGE_BYTES = 12_500_000
MOST_CHARACTERS = 2_000_000

PDF = "application/pdf"
_TYPES = {
    ".pdf": PDF,
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
_MAGIC = {b"%PDF-": PDF, b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a request points to.

    Attributes:
        field: The part of the request that is wrong where the file is.
    """

    file: InputFile
    field: str


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file as it was read.

    Attributes:
        text: Empty for an image.
        image: None for a text.
    """

    name: str
    media_type: str
    text: str = ""
    image: Image | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any], sent: Sequence[Mapping[str, Any]]) -> ReadFile:
        """The file in a FILE_READ; the content of an image that came with the request stands there."""
        name, media_type = data["name"], data["media_type"]
        if media_type not in _IMAGES:
            return cls(name, media_type, data["text"])
        content = data["content_base64"] or sent[data["place"]]["content_base64"]
        return cls(name, media_type, image=Image(content, media_type, name))


def attachments_of(request: RunRequest) -> list[Attachment]:
    """The files that the request comes with, then those that it points to."""
    own = [
        Attachment(file, f"files[{place}].{'path' if file.path else 'content_base64'}")
        for place, file in enumerate(request.files)
    ]
    pointed = [
        Attachment(InputFile(PurePosixPath(path).name or path, path=path), f"resources[{place}].uri")
        for place, resource in enumerate(request.resources)
        if resource.type == "file" and (path := _workspace_path(resource.uri))
    ]
    return own + pointed


def _workspace_path(uri: str) -> str:
    """The path within the session's workspace; empty where it points elsewhere."""
    path = uri.removeprefix("workspace:").removeprefix("file:")
    return "" if "://" in uri else path


def decoded(content_base64: str) -> bytes:
    """The bytes.

    Raises:
        ValueError: It is not base64, or too much.
    """
    if len(content_base64) > MOST_BYTES * 4 // 3 + 4:
        raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
    try:
        return base64.b64decode(content_base64, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not base64: {error}") from None


def media_type_of(file: InputFile, content: bytes) -> str:
    """What the file is: by how it begins, what it is said to be, or its name; plain text where nothing tells.

    Raises:
        ValueError: It is said to be a picture, and does not begin as one does.
    """
    found = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        found = "image/webp"
    said = file.media_type.partition(";")[0].strip().lower()
    told = found or said or _TYPES.get(PurePosixPath(file.name.lower()).suffix, "text/plain")
    if is_image(told) and not found:
        # A provider would refuse it, and with it the whole request.
        raise ValueError(f"it is said to be {told}, and does not begin as such a picture does")
    return told


def is_image(media_type: str) -> bool:
    """Whether models that see take it."""
    return media_type in _IMAGES


def text_of(content: bytes, media_type: str) -> str:
    """The text of a file that is text.

    Raises:
        ValueError: It is none.
    """
    if media_type.startswith(("image/", "audio/", "video/")):
        raise ValueError(f"{media_type} cannot be read; give text, Markdown, CSV, JSON, PDF, PNG, JPEG, GIF or WebP")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start}), and no format that can be read") from None
    return checked(text)


def checked(text: str) -> str:
    """The text, where a model can be given it.

    Raises:
        ValueError: It is empty, too long, or holds what is no text.
    """
    if "\0" in text:
        raise ValueError("it holds NUL bytes: it is not text")
    if not text.strip():
        raise ValueError("it holds no text")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"its text has {len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    return text
