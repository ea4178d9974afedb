"""What a process is made of."""

from __future__ import annotations

from typing import Protocol


class Component(Protocol):
    """Something with a beginning and an end: a server, a store, a background task."""

    async def start(self) -> None:
        """Gets ready. An error ends the process; a signal cancels it."""

    async def stop(self) -> None:
        """Finishes what has begun and lets go. Called also after a start that failed or was cut short."""


class StartError(Exception):
    """A component cannot start; the text says why and what to do."""
