"""Log lines: JSON for machines, one readable line for people. Both carry the correlation ids."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from pagi_chassis import correlation

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_VISIBLE = str.maketrans({"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"})


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp (RFC 3339, UTC), level, service, logger, message, ids, extras."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Renders the record; what JSON cannot hold is shown as text, and no extra hides a member."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**line, **correlation.current().filled(), **_extras(record), **line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """Time, level, logger, message, then the ids and extras as key=value, in one line; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders the record; line breaks and terminal escapes in it are made visible, so that nobody forges a line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        pairs = {**correlation.current().filled(), **_extras(record)}
        tail = "".join(f" {key}={value}" for key, value in pairs.items())
        line = f"{time} {record.levelname:<8} {record.name}: {record.getMessage()}{tail}".translate(_VISIBLE)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(service: str, *, level: str, log_format: str) -> None:
    """Sends every logger of the process to standard output.

    Args:
        service: Name on every JSON line.
        level: A level name of `logging`, in any case.
        log_format: `json` or `console`.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # Whatever the locale: a line that cannot be written as it is would be lost.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service) if log_format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries tell of each connection and retry at INFO; operators want ours, and at DEBUG developers do.
    for name in ("httpx", "httpcore", "uvicorn", "chromadb", "opentelemetry", "asyncio", "grpc", "watchfiles"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
