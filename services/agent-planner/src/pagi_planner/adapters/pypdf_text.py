"""The text of the PDF on standard input, as a process of its own: what a stranger's file does, it does there.

Run by its path, so that it imports nothing but pypdf. The text goes to standard output; where there is none, the reason
goes to standard error and the status is 1.
"""

from __future__ import annotations

import io
import resource
import sys
from typing import Any

CPU_S = 20
MEMORY_BYTES = 1_000_000_000
MOST_PAGES = 2_000
MOST_CHARACTERS = 4_000_000


def main() -> int:
    """Reads, within bounds of its own."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        text = text_of(sys.stdin.buffer.read())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault of the file
        sys.stderr.write(str(error) or type(error).__name__)
        return 1
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    return 0


def text_of(content: bytes) -> str:
    """The pages one after the other.

    Raises:
        ValueError: It is encrypted, has no text, or too many pages.
        PyPdfError: It is no PDF.
    """
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not _opens(reader):
        raise ValueError("it is encrypted: send it without a password")
    pages = reader.pages
    if len(pages) > MOST_PAGES:
        raise ValueError(f"it has {len(pages)} pages; {MOST_PAGES} are the most")
    found: list[str] = []
    length = 0
    for number, page in enumerate(pages, start=1):
        if text := page.extract_text().strip():
            found.append(f"[page {number}]\n{text}")
            length += len(text)
        if length > MOST_CHARACTERS:
            break
    if not found:
        raise ValueError("it holds no text: its pages may be pictures")
    return "\n\n".join(found).replace("\0", " ")


def _opens(reader: Any) -> bool:
    """Whether it can be read without a password, as most can that are only not to be printed or changed."""
    from pypdf.errors import DependencyError

    try:
        return bool(reader.decrypt(""))
    except DependencyError:
        # Encrypted in a way for which a library would be needed that is not here.
        return False


if __name__ == "__main__":
    sys.exit(main())
