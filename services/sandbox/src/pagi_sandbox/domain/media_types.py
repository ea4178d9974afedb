"""The media type of a file, by its first bytes and its name."""

from __future__ import annotations

import codecs
import mimetypes

# So many bytes are looked at.
HEAD_BYTES = 512
_UNKNOWN = "application/octet-stream"
# Longer marks first. See https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and what follows there.
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"\x7fELF", "application/x-elf"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"PK\x03\x04", "application/zip"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x1f\x8b\x08", "application/gzip"),
)
# Many formats are one of these with something in it; there the name says more.
_CONTAINERS = frozenset({"application/zip", "application/gzip"})
_NAMES = mimetypes.MimeTypes()
_OFFICE = "application/vnd.openxmlformats-officedocument"
for _type, _ending in (
    (f"{_OFFICE}.wordprocessingml.document", ".docx"),
    (f"{_OFFICE}.spreadsheetml.sheet", ".xlsx"),
    (f"{_OFFICE}.presentationml.presentation", ".pptx"),
    ("text/markdown", ".md"),
    ("application/vnd.apache.parquet", ".parquet"),
    ("application/x-npy", ".npy"),
    ("application/jsonl", ".jsonl"),
    ("application/yaml", ".yaml"),
    ("application/yaml", ".yml"),
    ("image/webp", ".webp"),
):
    _NAMES.add_type(_type, _ending)


def media_type(name: str, head: bytes) -> str:
    """The IANA media type.

    Args:
        name: the file's name or path.
        head: its first HEAD_BYTES bytes, or fewer; empty where they are not known.
    """
    marked = _marked(head)
    named, encoding = _NAMES.guess_type(name, strict=False)
    if encoding is not None:
        named = f"application/{encoding}"
    if marked is not None and marked not in _CONTAINERS:
        return marked
    if marked is not None and (named is None or named.startswith("text/")):
        return marked
    if named is not None and not (named.startswith("text/") and not _is_text(head)):
        return named
    return "text/plain" if head and _is_text(head) else _UNKNOWN


def _marked(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _MARKS if head.startswith(mark)), None)


def _is_text(head: bytes) -> bool:
    """UTF-8 without NUL; a character may be cut at the end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
