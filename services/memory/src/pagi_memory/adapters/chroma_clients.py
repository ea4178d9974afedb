"""The two ways to reach Chroma: inside this process, or a server."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pagi_memory.adapters.process_lock import REMEDY, ProcessLock
from pagi_memory.domain.errors import IndexInUseError, IndexUnavailableError
from pagi_memory.domain.indexing import FROM_THE_FILES

if TYPE_CHECKING:
    from chromadb.api.client import Client

log = logging.getLogger(__name__)

_HTTP_TIMEOUT_S = 5.0
_SEGMENT_FOLDER = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


class ChromaSource(Protocol):
    """Opens a client of Chroma. All of it blocks."""

    def open(self) -> Client:
        """Connects."""

    def renew(self) -> Client:
        """Connects to an empty index where the present one is beyond repair."""

    def close(self) -> None:
        """Lets go."""


class EmbeddedChroma:
    """Chroma in this process, on a folder that one process owns: two of them corrupt it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = ProcessLock(path, self._refusal)
        self._client: Client | None = None

    def open(self) -> Client:
        """Takes the folder and opens it; one that cannot be opened is emptied.

        Raises:
            IndexInUseError: Another process has it.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        try:
            self._client = self._connect()
        except BaseException as error:
            # A damaged file makes the native code panic, which is no Exception.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            log.warning(
                "the vector index in %s cannot be opened and is made anew from the store (%s); %s",
                self._path,
                error,
                FROM_THE_FILES,
            )
            return self.renew()
        return self._client

    def renew(self) -> Client:
        """Deletes what Chroma keeps in the folder, and nothing else, and opens it again."""
        from chromadb.api.shared_system_client import SharedSystemClient

        self._disconnect()
        # The package remembers a system by its path, also one that did not start.
        SharedSystemClient.clear_system_cache()
        for path in self._path.iterdir():
            if path.name.startswith("chroma.sqlite3"):
                path.unlink()
            elif path.is_dir() and _SEGMENT_FOLDER.fullmatch(path.name):
                shutil.rmtree(path)
        self._client = self._connect()
        return self._client

    def close(self) -> None:
        """Closes the files and lets the folder go."""
        self._disconnect()
        self._lock.release()

    def _refusal(self, owner: str) -> IndexInUseError:
        return IndexInUseError(
            f"The vector index {self._path} is in use by process {owner}, and two would corrupt it. {REMEDY}"
        )

    def _connect(self) -> Client:
        import chromadb

        client: Any = chromadb.PersistentClient(path=str(self._path), settings=_settings())
        # Typed as an interface without close().
        opened: Client = client
        return opened

    def _disconnect(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # it may be the broken one
                self._client.close()
            self._client = None


class ChromaServer:
    """A Chroma server, by the HTTP client of the same package."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._client: Client | None = None

    def open(self) -> Client:
        """Connects.

        Raises:
            IndexUnavailableError: No answer.
        """
        import chromadb

        try:
            client: Any = chromadb.HttpClient(host=self._host, port=self._port, settings=_settings())
        except Exception as error:
            raise IndexUnavailableError(
                f"The Chroma server at {self._host}:{self._port} does not answer ({error}). Start it, or unset "
                "CHROMA_HOST to run Chroma inside the memory service."
            ) from error
        opened: Client = client
        # The package gives its HTTP session no time limit, so that a server that hangs would hang every search.
        for session in _sessions(opened):
            session.timeout = _HTTP_TIMEOUT_S
        self._client = opened
        return opened

    def renew(self) -> Client:
        """Raises: a server's data are not ours to delete.

        Raises:
            IndexUnavailableError: Always.
        """
        raise IndexUnavailableError(
            f"The Chroma server at {self._host}:{self._port} cannot delete a broken collection; see its log. "
            f"When it answers again, {FROM_THE_FILES}."
        )

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            sessions = _sessions(self._client)
            self._client.close()
            # The package leaves its sockets to the garbage collector.
            for session in sessions:
                session.close()
            self._client = None


def _sessions(client: Client) -> list[Any]:
    """The two HTTP sessions below a client of a server; the package has no public way to them."""
    admin: Any = client._admin_client
    servers: list[Any] = [client._server, admin._server]
    return [server._session for server in servers]


def _settings() -> Any:
    # Imported late, as everything of the package: 0.4 s of CPU and 76 MB.
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)
