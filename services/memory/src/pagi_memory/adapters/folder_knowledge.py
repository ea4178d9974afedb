"""The folders of the knowledge bases, as people write them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pagi_memory.domain.errors import NoKnowledgeFolderError
from pagi_memory.domain.limits import is_persona_name
from pagi_memory.domain.model import DEFAULT_PERSONA, Found, KnowledgeBase, Shelf, SourceText

log = logging.getLogger(__name__)

# Mind-KB is not among them: what an agent has learned comes from its runs.
_FOLDERS = (KnowledgeBase.SOUL, KnowledgeBase.DOMAIN, KnowledgeBase.BODY)
_SUFFIXES = frozenset({".md", ".markdown", ".txt"})


class FolderKnowledge:
    """`KnowledgeFiles` under one folder.

    `Soul-KB/`, `Domain-KB/` and `Body-KB/` are the default persona's; `personas/<name>/` holds another's.
    Files and folders whose names begin with a dot are not looked at.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    async def look(self) -> Found:
        """See `KnowledgeFiles.look`."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> Found:
        if not self._root.is_dir():
            raise NoKnowledgeFolderError(
                f"There is no folder {self._root}. Set KNOWLEDGE_BASES_DIR to the folder of the knowledge bases."
            )
        texts: list[SourceText] = []
        unreadable: set[str] = set()
        skipped: Counter[str] = Counter()
        for shelf, path in self._files():
            source = path.relative_to(self._root).as_posix()
            if path.suffix.lower() not in _SUFFIXES:
                skipped[source] += 1
                continue
            try:
                texts.append(self._read(shelf, source, path))
            except (OSError, ValueError) as error:
                unreadable.add(source)
                log.warning("skipped %s: %s", source, error)
        if skipped:
            log.warning("skipped, only Markdown and text are read: %s", ", ".join(sorted(skipped)))
        return Found(texts, frozenset(unreadable))

    def _files(self) -> Iterator[tuple[Shelf, Path]]:
        for persona, folder in self._personas():
            for knowledge_base in _FOLDERS:
                shelf = Shelf(persona, knowledge_base)
                for path in _visible_files(folder / knowledge_base.value):
                    yield shelf, path

    def _personas(self) -> Iterator[tuple[str, Path]]:
        yield DEFAULT_PERSONA, self._root
        for folder in _children(self._root / "personas"):
            if not folder.is_dir():
                continue
            if folder.name == DEFAULT_PERSONA or not is_persona_name(folder.name):
                log.warning(
                    "skipped personas/%s: a persona's name holds letters, digits, '-' and '_', and is not %r",
                    folder.name,
                    DEFAULT_PERSONA,
                )
                continue
            yield folder.name, folder

    def _read(self, shelf: Shelf, source: str, path: Path) -> SourceText:
        size = path.stat().st_size
        if size > self._max_bytes:
            raise ValueError(f"it has {size} bytes; MAX_DOCUMENT_BYTES allows {self._max_bytes}")
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
        if "\0" in text:
            raise ValueError("it holds NUL bytes: it is not text")
        return SourceText(shelf, source, text, hashlib.sha256(content).hexdigest())


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in _children(folder):
        if path.is_dir() and not path.is_symlink():
            yield from _visible_files(path)
        elif not path.is_dir():
            yield path


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        log.warning("skipped %s: %s", folder, error)
        return []
