"""Connects by multipath TCP, another protocol than the one that Landlock's rules name. Source: RFC 8684."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as connection:
        connection.settimeout(1)
        connection.connect(("127.0.0.1", TARGET["tcp"]))
        connection.sendall(TARGET["name"].encode())
        return connection.recv(100)


attempt("MPTCP", connect)
