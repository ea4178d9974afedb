"""The channel that is always there: one JSON line for each notification."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TextIO

from pagi_notifier.domain.errors import DeliveryError
from pagi_notifier.domain.model import Notification


class StdoutChannel:
    """Writes JSON lines to standard output, whatever the format of the log, for a collector to read.

    The result is left out: it may be long, and it may be personal.

    Args:
        out: Where to write; None: standard output.
    """

    name = "log"

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    async def deliver(self, notification: Notification) -> None:
        """Writes one line and flushes it.

        Raises:
            DeliveryError: Nobody reads standard output any more, or the disk is full.
        """
        line = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "info",
            "service": "notification-subscriber",
            "message": "notification",
            "trace_id": notification.trace_id,
            "run_id": notification.run_id,
            "session_id": notification.session_id,
            "status": notification.status.value,
            "published": notification.timestamp,
        }
        try:
            # One write a line, so that lines of other threads do not run into it.
            self._out.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise DeliveryError(f"standard output cannot be written: {error}") from error
