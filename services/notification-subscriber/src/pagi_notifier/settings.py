"""What the environment says."""

from __future__ import annotations

import os
import socket

from pagi_chassis.settings import ServiceSettings
from pydantic import AliasChoices, Field, field_validator


def _consumer_name() -> str:
    # The process id tells a restarted process from the one that died and may still hold entries.
    return f"{socket.gethostname()}-{os.getpid()}"


class NotifierSettings(ServiceSettings):
    """Variables of the notification subscriber."""

    redis_addr: str = Field(
        default="127.0.0.1:6379",
        description="Redis or Valkey: host:port, or a redis:// or rediss:// (TLS) URL.",
    )
    stream: str = Field(
        default="pagi:notifications",
        min_length=1,
        validation_alias=AliasChoices("PAGI_NOTIFICATIONS_STREAM"),
        description="Stream that notifications are read from. Its dead letters go to the same name with :dead.",
    )
    group: str = Field(
        default="notification-subscriber",
        min_length=1,
        validation_alias=AliasChoices("NOTIFICATION_GROUP"),
        description="Consumer group: subscribers of one group share the work, each group receives everything.",
    )
    consumer: str = Field(
        default_factory=_consumer_name,
        min_length=1,
        validation_alias=AliasChoices("NOTIFICATION_CONSUMER"),
        description="Name of this subscriber within its group. Unset: host name and process id.",
    )
    port: int = Field(
        default=8006,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("NOTIFICATION_SUBSCRIBER_PORT"),
        description="HTTP port of the notification subscriber: health and metrics.",
    )
    claim_idle_s: float = Field(
        default=30.0,
        gt=0,
        validation_alias=AliasChoices("NOTIFICATION_CLAIM_IDLE_SECONDS"),
        description="Seconds without an acknowledgement after which an entry is taken over and tried again.",
    )
    delivery_timeout_s: float = Field(
        default=5.0,
        gt=0,
        validation_alias=AliasChoices("NOTIFICATION_DELIVERY_TIMEOUT_SECONDS"),
        description="Seconds that one attempt to deliver may take.",
    )
    max_deliveries: int = Field(
        default=5,
        ge=1,
        validation_alias=AliasChoices("NOTIFICATION_MAX_DELIVERIES"),
        description="How often a notification is tried before it goes to the dead letters.",
    )
    keep_delivered_s: float = Field(
        default=86_400.0,
        ge=0,
        validation_alias=AliasChoices("NOTIFICATION_KEEP_SECONDS"),
        description="Seconds that a delivered notification stays in the stream, for other readers.",
    )

    @field_validator("redis_addr")
    @classmethod
    def _known_address(cls, value: str) -> str:
        if value.startswith(("redis://", "rediss://")):
            return value
        host, colon, port = value.rpartition(":")
        if not (colon and host and "/" not in host and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError("give host:port, e.g. 127.0.0.1:6379, or a redis:// URL")
        return value

    @property
    def redis_url(self) -> str:
        """The server as a URL."""
        return self.redis_addr if "://" in self.redis_addr else f"redis://{self.redis_addr}/0"

    @property
    def batch(self) -> int:
        """New entries taken at once: one where a single attempt may outlast the time after which it is taken over."""
        return 64 if self.delivery_timeout_s <= self.claim_idle_s / 2 else 1
