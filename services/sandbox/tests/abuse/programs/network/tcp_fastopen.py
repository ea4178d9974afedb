"""Connects by sendto(MSG_FASTOPEN), which rules for connect do not see. Source: tcp(7); Landlock's limitations."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.socket() as connection:
        # Without a time limit: a socket that does not block says EINPROGRESS here, and has connected.
        connection.sendto(TARGET["name"].encode(), socket.MSG_FASTOPEN, ("127.0.0.1", TARGET["tcp"]))
        return connection.recv(100)


attempt("TCP by MSG_FASTOPEN", connect)
