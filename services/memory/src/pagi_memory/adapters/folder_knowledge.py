"""The folders of the knowledge bases, as people write them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from operator import attrgetter
from pathlib import Path, PurePosixPath

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.adapters.document_formats import CONVERTER_VERSION, FORMATS, convert
from pagi_memory.domain.errors import (
    NoKnowledgeFolderError,
    StoreUnavailableError,
    UnknownDocumentError,
    UnreadableDocumentError,
)
from pagi_memory.domain.limits import is_persona_name
from pagi_memory.domain.model import DEFAULT_PERSONA, Found, FoundFile, Shelf, SourceText
from pagi_memory.domain.sources import FILED, shelf_of

log = logging.getLogger(__name__)

_FIRST_LOOK_MS = 500

# Size, time of the last change, inode: what tells that a file need not be read again.
_Stamp = tuple[int, int, int]
# Of a file that was changed so shortly before it was read: the kernel's clock may give the next change the same time.
_TELLS_APART_NS = 50_000_000
_UNKNOWN: _Stamp = (-1, -1, -1)


class FolderKnowledge:
    """`KnowledgeFiles` under one folder.

    `Soul-KB/`, `Domain-KB/` and `Body-KB/` are the default persona's; `personas/<name>/` holds another's.
    Files and folders whose names begin with a dot are not looked at.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._hashes: dict[str, tuple[_Stamp, str]] = {}
        self._parts = count()

    async def look(self) -> Found:
        """See `KnowledgeFiles.look`. A file is read only when its stamp is another than at the last look."""
        return await asyncio.to_thread(self._look)

    async def read(self, source: str) -> SourceText:
        """See `KnowledgeFiles.read`."""
        return await asyncio.to_thread(self._read, source)

    async def write(self, source: str, content: bytes) -> bool:
        """See `KnowledgeFiles.write`."""
        with _telling_of_disk(source):
            return await asyncio.to_thread(self._write, source, content)

    async def delete(self, source: str) -> None:
        """See `KnowledgeFiles.delete`."""
        with _telling_of_disk(source):
            await asyncio.to_thread(self._delete, source)

    async def changes(self) -> AsyncIterator[None]:
        """See `KnowledgeFiles.changes`. What changed is not told: a rename comes as "added", and only a look is sure.

        Raises:
            OSError: The system does not watch (any more).
        """
        # Imported here: 4 MB that a service which does not watch need not load.
        import watchfiles

        # A short step: a change is noticed within some 20 ms; editors write more than once, hence the debounce.
        watched = watchfiles.awatch(
            self._root,
            watch_filter=self._concerns,
            step=20,
            debounce=400,
            rust_timeout=_FIRST_LOOK_MS,
            yield_on_timeout=True,
        )
        began = False
        try:
            async for changes in watched:
                # Once without a change: what happened before the watch began is not told.
                if changes or not began:
                    began = True
                    yield None
        except RuntimeError as error:
            # What its native part raises, such as for a folder that has vanished.
            raise OSError(f"the folder {self._root} cannot be watched: {error}") from error

    def _concerns(self, _: object, path: str) -> bool:
        parts = Path(path).parts[len(self._root.absolute().parts) :]
        return not any(part.startswith(".") for part in parts)

    def _look(self) -> Found:
        if not self._root.is_dir():
            raise NoKnowledgeFolderError(
                f"There is no folder {self._root}. Set KNOWLEDGE_BASES_DIR to the folder of the knowledge bases."
            )
        files: list[FoundFile] = []
        unreadable: dict[str, str] = {}
        hashes: dict[str, tuple[_Stamp, str]] = {}
        for shelf, source, entry in self._files():
            try:
                hashes[source] = kept = self._hashed(source, entry)
                files.append(FoundFile(shelf, source, kept[1]))
            except (UnreadableDocumentError, InvalidArgumentError) as error:
                unreadable[source] = error.message
            except UnicodeEncodeError:
                unreadable[source.encode("utf-8", "replace").decode()] = "its name is not UTF-8"
            except OSError as error:
                unreadable[source] = str(error)
        self._hashes = hashes
        return Found(files, unreadable)

    def _hashed(self, source: str, entry: os.DirEntry[str]) -> tuple[_Stamp, str]:
        """What tells whether it has changed, and the hash of its content."""
        self._check_format(source)
        status = entry.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        if (known := self._hashes.get(source)) and known[0] == stamp:
            return known
        source.encode()
        shelf_of(source)
        fresh = abs(time.time_ns() - status.st_mtime_ns) < _TELLS_APART_NS
        return (_UNKNOWN if fresh else stamp), _content_hash(self._content(Path(entry.path)))

    def _content(self, path: Path) -> bytes:
        size = path.stat().st_size
        if not path.is_file():
            raise UnreadableDocumentError("it is not a file")
        if size > self._max_bytes:
            raise UnreadableDocumentError(f"it has {size} bytes; MAX_DOCUMENT_BYTES allows {self._max_bytes}")
        return path.read_bytes()

    def _check_format(self, source: str) -> None:
        suffix = PurePosixPath(source).suffix.lower()
        if suffix not in FORMATS:
            what = suffix or "a file without a suffix"
            raise UnreadableDocumentError(f"{what} is not read; known are {', '.join(FORMATS)}")

    def _files(self) -> Iterator[tuple[Shelf, str, os.DirEntry[str]]]:
        for persona, folder in self._personas():
            for knowledge_base in FILED:
                shelf = Shelf(persona, knowledge_base)
                place = folder / knowledge_base.value
                prefix = f"{place.relative_to(self._root).as_posix()}/"
                for source, entry in _visible_files(str(place), prefix):
                    yield shelf, source, entry

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

    def _read(self, source: str) -> SourceText:
        try:
            content = self._content(self._root / source)
        except OSError as error:
            raise UnreadableDocumentError(str(error)) from error
        self._check_format(source)
        text, metadata = convert(source, content, most_chars=self._max_bytes)
        return SourceText(shelf_of(source), source, text, _content_hash(content), metadata)

    def _write(self, source: str, content: bytes) -> bool:
        path = self._place(source)
        if len(content) > self._max_bytes:
            raise InvalidArgumentError(
                f"The document has {len(content)} bytes; MAX_DOCUMENT_BYTES allows {self._max_bytes}.", field="content"
            )
        try:
            self._check_format(source)
            convert(source, content, most_chars=self._max_bytes)
        except UnreadableDocumentError as error:
            raise InvalidArgumentError(f"{source}: {error.message}.", field="content") from error
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hidden, so that nobody takes a half-written one for a document.
        # With a number: two may write one document at the same time.
        part = path.with_name(f".{path.name[:80]}.{os.getpid()}.{next(self._parts)}.part")
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._hashes.pop(source, None)
        return is_new

    def _delete(self, source: str) -> None:
        try:
            self._place(source).unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise UnknownDocumentError(source) from error
        self._hashes.pop(source, None)

    def _place(self, source: str) -> Path:
        shelf_of(source)
        path = self._root / source
        # Through a link that leads out of the folder nothing is written.
        if not path.parent.resolve().is_relative_to(self._root.resolve()):
            raise InvalidArgumentError(f"source {source!r} leads out of the knowledge bases.", field="source")
        return path


@contextmanager
def _telling_of_disk(source: str) -> Iterator[None]:
    """A disk that is full or read only is for the caller to know."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(f"{source} cannot be changed: {error.strerror or error}.") from error


def _content_hash(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}/{CONVERTER_VERSION}"


def _visible_files(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files below, each by its source. Not by paths: of 50,000 files these take three times as long."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((each for each in found if each.name[0] != "."), key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        log.warning("skipped %s: %s", folder, error)
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _visible_files(entry.path, f"{prefix}{entry.name}/")
        elif not _leads_to_folder(entry):
            yield prefix + entry.name, entry


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself; whoever reads it is told.
        return False


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        log.warning("skipped %s: %s", folder, error)
        return []
