"""Asks a server whether it is ready."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass

_TIMEOUT_S = 1.5  # a service gives each of its own dependencies 1 s


@dataclass(frozen=True)
class HttpProbe:
    """Ready when `GET path` answers 200."""

    host: str
    port: int
    path: str = "/health/ready"

    def __call__(self) -> bool:
        """Asks once."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self.path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass(frozen=True)
class RedisProbe:
    """Ready when a server of the Redis protocol answers PING; one that asks for a password counts."""

    host: str
    port: int

    def __call__(self) -> bool:
        """Asks once."""
        try:
            with socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S) as connection:
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))


Probe = HttpProbe | RedisProbe
