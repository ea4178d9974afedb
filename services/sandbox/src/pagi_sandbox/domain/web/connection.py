"""One connection: resolves once, checks every address, connects to a checked one, and keeps to a deadline.

`socket`, `ssl` and `http` are imported where they are used, in a tool's own process: loaded in the fork server they
would make every other call slower.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagi_sandbox.domain.tool import ToolFailedError
from pagi_sandbox.domain.web.addresses import AllowedHosts

if TYPE_CHECKING:
    import http.client
    import socket

_CONNECT_S = 5.0
_MOST_ADDRESSES = 4


class Deadline:
    """When a fetch has to be over."""

    def __init__(self, seconds: float) -> None:
        """From now on."""
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds.

        Raises:
            ToolFailedError: it has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise ToolFailedError(f"the server did not send everything within {self._seconds:g} s")
        return left


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads; `host` is in ASCII, `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str


@contextmanager
def connected(target: Target, allowed: AllowedHosts, deadline: Deadline) -> Iterator[http.client.HTTPConnection]:
    """An HTTP connection to a checked address, open while the block runs.

    Raises:
        ToolFailedError: the host is unknown, not allowed, or cannot be reached.
    """
    import http.client

    addresses = _resolve(target)
    allowed.check(target.host, target.port, addresses)
    connection = http.client.HTTPConnection(target.host, target.port)
    wire = _secured(_reach(target, addresses, deadline), target, deadline)
    # Where there is a socket already, http.client neither resolves nor connects.
    connection.sock = _DeadlineSocket(wire, deadline)  # all that http.client uses of one
    # The port is left out of the Host header where it is the scheme's own; http.client knows that of http only.
    connection.default_port = 443 if target.scheme == "https" else 80
    try:
        yield connection
    finally:
        wire.close()


def _resolve(target: Target) -> list[str]:
    import socket

    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolFailedError(f"the host {target.host[:200]!r} is not known: {error}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _reach(target: Target, addresses: list[str], deadline: Deadline) -> socket.socket:
    import socket

    fault: OSError = OSError("it has no address")
    for address in addresses[:_MOST_ADDRESSES]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        wire = socket.socket(family, socket.SOCK_STREAM)
        try:
            wire.settimeout(min(deadline.left(), _CONNECT_S))
            wire.connect((address, target.port))
        except OSError as error:
            wire.close()
            fault = error
        else:
            return wire
    raise ToolFailedError(f"{target.host[:200]} cannot be reached: {fault}") from fault


def _secured(wire: socket.socket, target: Target, deadline: Deadline) -> socket.socket:
    if target.scheme != "https":
        return wire
    import ssl

    try:
        wire.settimeout(deadline.left())
        return ssl.create_default_context().wrap_socket(wire, server_hostname=target.host)
    except (OSError, ValueError) as error:
        wire.close()
        raise ToolFailedError(f"{target.host[:200]} gives no valid TLS connection: {error}") from error


class _DeadlineSocket:
    """What http.client needs of a socket. A server that sends a byte now and then does not get more time by it."""

    def __init__(self, wire: socket.socket, deadline: Deadline) -> None:
        self._wire = wire
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._wire.settimeout(self._deadline.left())
        self._wire.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._wire, self._deadline))

    def close(self) -> None:
        """Nothing: http.client closes the connection before the answer is read; `connected` closes it after."""


class _Incoming(io.RawIOBase):
    def __init__(self, wire: socket.socket, deadline: Deadline) -> None:
        self._wire = wire
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._wire.settimeout(self._deadline.left())
        return self._wire.recv_into(buffer)
