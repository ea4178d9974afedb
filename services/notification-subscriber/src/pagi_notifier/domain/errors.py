"""What goes wrong on the way from the inbox to the reader."""

from __future__ import annotations

from pagi_chassis.errors import InvalidArgumentError, UnavailableError


class DeliveryError(UnavailableError):
    """A channel could not deliver. A later attempt may succeed."""


class UnreadableEntryError(InvalidArgumentError):
    """An entry that holds no notification, and never will."""


class InboxUnavailableError(UnavailableError):
    """The inbox cannot be read or written now."""
