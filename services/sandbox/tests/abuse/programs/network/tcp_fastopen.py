"""Connects by sendto(MSG_FASTOPEN), which Landlock's rule for connect does not see. Source: Landlock issue 41."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.socket() as connection:
        connection.settimeout(1)
        connection.sendto(TARGET["name"].encode(), socket.MSG_FASTOPEN, ("127.0.0.1", TARGET["tcp"]))
        return connection.recv(100)


attempt("TCP by MSG_FASTOPEN", connect)
