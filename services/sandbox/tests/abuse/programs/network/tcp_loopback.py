"""Connects to a server on this machine."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.create_connection(("127.0.0.1", TARGET["tcp"]), timeout=1) as connection:
        connection.sendall(TARGET["name"].encode())
        return connection.recv(100)


attempt("TCP to 127.0.0.1", connect)
