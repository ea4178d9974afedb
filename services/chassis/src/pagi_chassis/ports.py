"""Taking a port, or saying in words why it cannot be had."""

from __future__ import annotations

import socket

from pagi_chassis.component import StartError


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A socket that listens.

    Args:
        host: Address, IPv4 or IPv6.
        port: 0 takes a free one.
        variable: The environment variable that changes the port, named where it is taken; may be empty.

    Raises:
        StartError: The port cannot be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # With SO_REUSEADDR two processes may bind a port; listening is what keeps the second one off.
        listener.listen()
    except OSError as error:
        listener.close()
        raise refusal(host, port, error, variable) from error
    return listener


def refusal(host: str, port: int, reason: Exception, variable: str) -> StartError:
    """The error for a port that cannot be had."""
    hint = f" or choose another with {variable}" if variable else ""
    return StartError(f"cannot listen on {address(host, port)} ({reason}). Stop what holds the port{hint}.")


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
