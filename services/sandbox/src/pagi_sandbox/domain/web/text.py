"""The text of a document, for a model to read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pagi_sandbox.domain.tool import ToolFailedError
from pagi_sandbox.domain.web.fetching import Document

_HTML = {"text/html", "application/xhtml+xml"}
_TEXT = re.compile(r"text/.+|application/(.+\+)?(json|xml|yaml|x-yaml|javascript|ecmascript|x-ndjson|toml|sql)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';]+)", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*\n+")
# Where the main part of a page is shorter than this, it was probably not found.
_SHORTEST_MAIN = 200


@dataclass(frozen=True, slots=True)
class PageText:
    """Title and text; no title where the document has none."""

    title: str
    text: str


def media_type(document: Document) -> str:
    """What it says that it is, without parameters; by its first bytes where it says nothing."""
    stated = document.content_type.partition(";")[0].strip().lower()
    if stated:
        return stated
    return "text/html" if document.body.lstrip()[:1] == b"<" else "text/plain"


def text_of(document: Document, *, whole: bool) -> PageText:
    """Its text: of a page the main part, or the whole of it with navigation and all.

    Raises:
        ToolFailedError: it is of a kind that has no text.
    """
    kind = media_type(document)
    if kind not in _HTML and not _TEXT.fullmatch(kind):
        raise ToolFailedError(f"{document.url[:200]} is {kind[:100]}; only pages and texts can be read")
    if kind not in _HTML:
        return PageText("", _pretty(_decoded(document), kind))
    # Imported here, in the tool's own process: 5 MB that no other call has to carry.
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(_decoded(document, html=True))
    text = extract_plain_text(tree, main_content=not whole, links=False, alt_texts=False)
    if not whole and len(text) < _SHORTEST_MAIN:
        text = extract_plain_text(tree, main_content=False, links=False, alt_texts=False)
    return PageText(" ".join((tree.title or "").split())[:500], _BLANK_LINES.sub("\n\n", text).strip())


def _decoded(document: Document, *, html: bool = False) -> str:
    """By byte order mark, header, the page's own word, and else by its looks (https://encoding.spec.whatwg.org)."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    body = document.body
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    stated = _CHARSET.search(document.content_type)
    encoding = map_encoding_to_html5(stated[1], fallback_utf8=False) if stated else None
    encoding = encoding or detect_encoding(body, from_html_meta=html) or "utf-8"
    return bytes_to_str(body, encoding, errors="replace", fallback_encodings=())


def _pretty(text: str, kind: str) -> str:
    if not kind.endswith("json"):
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return text
