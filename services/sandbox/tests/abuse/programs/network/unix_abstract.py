"""Connects to a unix socket that has no path: mount rules do not see it. Source: unix(7)."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(TARGET["abstract"])
        connection.sendall(TARGET["name"].encode())
        return connection.recv(100)


attempt("an abstract unix socket", connect)
