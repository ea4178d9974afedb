"""Connects to a unix socket by its path, as of a database or a container engine."""

from probe import TARGET, attempt


def connect(kind):
    import socket

    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.settimeout(1)
        connection.connect(TARGET["unix"] if kind == socket.SOCK_STREAM else TARGET["unix_datagrams"])
        connection.send(TARGET["name"].encode())
        return "sent"


attempt("a unix socket by path", connect, 1)
attempt("a unix datagram socket by path", connect, 2)
