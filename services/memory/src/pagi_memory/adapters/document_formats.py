"""Text from the formats that people keep documents in. Each converter is imported when its first document comes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from pagi_memory.adapters.structured_text import text_of_csv, text_of_data
from pagi_memory.domain.errors import UnreadableDocumentError
from pagi_memory.domain.front_matter import front_matter_end

# Changes when anything else is made of the same bytes.
CONVERTER_VERSION = "1"

Converted = tuple[str, dict[str, str]]

# A DOCX is a ZIP archive; one that unpacks to more is an attack or no text.
_MOST_UNPACKED_BYTES = 200_000_000
_MOST_PAGES = 5_000
_MOST_METADATA_CHARS = 500


def convert(source: str, content: bytes, *, most_chars: int) -> Converted:
    """The text of a document (Markdown, but for plain text and CSV) and what it says of itself.

    Args:
        source: Its name; the suffix tells the format.
        content: The bytes of its file.
        most_chars: The longest text that may come of it.

    Raises:
        UnreadableDocumentError: The content is not what the suffix says, or too much comes of it.
    """
    converter = FORMATS[PurePosixPath(source).suffix.lower()]
    try:
        text, metadata = converter(content)
    except UnreadableDocumentError:
        raise
    except RecursionError as error:
        raise UnreadableDocumentError("it is nested too deeply") from error
    except Exception as error:
        raise UnreadableDocumentError(f"it cannot be read: {type(error).__name__}: {error}") from error
    if len(text) > most_chars:
        raise UnreadableDocumentError(f"its text has {len(text)} characters; MAX_DOCUMENT_BYTES allows {most_chars}")
    if "\0" in text:
        raise UnreadableDocumentError("it holds NUL bytes: it is not text")
    # A lone half of a surrogate pair, which JSON can spell, fits into no database and no message.
    return text.encode("utf-8", "replace").decode(), metadata


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableDocumentError(f"it is not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        raise UnreadableDocumentError("it holds NUL bytes: it is not text")
    return text


def _from_text(content: bytes) -> Converted:
    return _decoded(content), {}


def _from_markdown(content: bytes) -> Converted:
    text = _decoded(content)
    end = front_matter_end(text)
    if not end:
        return text, {}
    facts = next(iter(_parsed_yaml(text[:end].strip().strip("-"), "its front matter")), None)
    return text, _plain(facts) if isinstance(facts, dict) else {}


def _from_json(content: bytes) -> Converted:
    import json

    try:
        return text_of_data(json.loads(_decoded(content))), {}
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UnreadableDocumentError(f"it is no JSON: {place}: {error.msg}") from error


def _from_yaml(content: bytes) -> Converted:
    parts = _parsed_yaml(_decoded(content), "it")
    return text_of_data(parts[0] if len(parts) == 1 else parts), {}


def _parsed_yaml(text: str, what: str) -> list[object]:
    """Its documents.

    Raises:
        UnreadableDocumentError: It is not YAML; the place is named, in one line.
    """
    import yaml

    try:
        return list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UnreadableDocumentError(f"{what} is no YAML: {place}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UnreadableDocumentError(f"{what} is no YAML: {' '.join(str(error).split())}") from error


def _from_csv(content: bytes) -> Converted:
    return text_of_csv(_decoded(content)), {}


def _from_html(content: bytes) -> Converted:
    return _markdown_of_html(_decoded(content))


def _markdown_of_html(html: str) -> Converted:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for unseen in soup(["script", "style", "template", "noscript", "head", "svg", "img"]):
        unseen.decompose()
    text: str = MarkdownConverter(heading_style="ATX", bullets="-", strip=["a"]).convert_soup(soup)
    return text.strip() + "\n", _plain({"title": title})


def _from_docx(content: bytes) -> Converted:
    import mammoth  # type: ignore[import-untyped]

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UnreadableDocumentError("it is no DOCX file, or a damaged one") from error
    if unpacked > _MOST_UNPACKED_BYTES:
        raise UnreadableDocumentError(f"it unpacks to {unpacked} bytes")
    html: str = mammoth.convert_to_html(io.BytesIO(content), convert_image=_no_image).value
    return _markdown_of_html(html)


def _no_image(_: object) -> list[object]:
    return []


def _from_pdf(content: bytes) -> Converted:
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(content))
    if len(reader.pages) > _MOST_PAGES:
        raise UnreadableDocumentError(f"it has {len(reader.pages)} pages; {_MOST_PAGES} are allowed")
    pages = [page.extract_text().strip() for page in reader.pages]
    if not any(pages):
        raise UnreadableDocumentError("it holds no text: its pages may be pictures")
    about = reader.metadata
    facts = {"title": about.title, "author": about.author} if about else {}
    # A page is where a reader finds a passage again.
    text = "\n\n".join(f"# Page {number}\n\n{_escaped(page)}" for number, page in enumerate(pages, 1) if page)
    return f"{text}\n", _plain(facts)


def _escaped(page: str) -> str:
    # A line of a page that begins with "#" is no heading.
    return "\n".join(f"\\{line}" if line.lstrip().startswith("#") else line for line in page.splitlines())


def _plain(facts: Mapping[Any, object]) -> dict[str, str]:
    """Metadata as strings: lists joined by commas, nested and empty values left out."""
    plain = {}
    for key, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if value is not None and not isinstance(value, dict) and text.strip():
            plain[str(key)] = text.strip()[:_MOST_METADATA_CHARS].replace("\0", " ")
    return plain


FORMATS: dict[str, Callable[[bytes], Converted]] = {
    ".md": _from_markdown,
    ".markdown": _from_markdown,
    ".txt": _from_text,
    ".json": _from_json,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".csv": _from_csv,
    ".html": _from_html,
    ".htm": _from_html,
    ".pdf": _from_pdf,
    ".docx": _from_docx,
}
